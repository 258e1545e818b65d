// OpenAI's client for JavaScript against a server: chat, stream, parse, tools, responses. Prints what came back.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const [baseURL, apiKey, model] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "A city in France" }];
const report = {};

const chat = await client.chat.completions.create({ model, messages, max_tokens: 5 });
report.chat = chat.choices[0].message.content;

report.stream = "";
for await (const chunk of await client.chat.completions.create({ model, messages, max_tokens: 5, stream: true }))
  report.stream += chunk.choices[0]?.delta?.content ?? "";

const City = z.object({ name: z.enum(["Paris", "Rome"]) });
const parsed = await client.chat.completions.parse({ model, messages, response_format: zodResponseFormat(City, "city") });
report.parsed = parsed.choices[0].message.parsed;

const parameters = { type: "object", properties: { city: { enum: ["Paris"] } }, required: ["city"] };
const tools = [{ type: "function", function: { name: "weather", parameters } }];
const called = await client.chat.completions.create({ model, messages, tools, tool_choice: "required" });
report.tool = called.choices[0].message.tool_calls[0].function.name;

const response = await client.responses.create({ model, input: "Hello", max_output_tokens: 5 });
report.response = response.output_text;

console.log(JSON.stringify(report));

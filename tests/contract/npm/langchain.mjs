// LangChain for JavaScript: text, a stream, tools, typed output. Prints what came back.
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { z } from "zod";

const [baseURL, apiKey, model] = process.argv.slice(2);
const chat = new ChatOpenAI({ model, apiKey, maxTokens: 60, maxRetries: 0, configuration: { baseURL } });
const City = z.object({ name: z.enum(["Paris", "Rome"]), size: z.enum(["small", "large"]) });
const weather = tool(async () => "sunny", { name: "weather", description: "The weather", schema: z.object({ city: z.enum(["Paris"]) }) });
const report = { stream: "" };

report.text = (await chat.invoke("Say hello.")).content;
for await (const chunk of await chat.stream("Say hello.")) report.stream += chunk.content;
report.schema = await chat.withStructuredOutput(City, { method: "jsonSchema" }).invoke("A city");
report.calling = await chat.withStructuredOutput(City, { method: "functionCalling" }).invoke("A city");
report.tool = (await chat.bindTools([weather], { tool_choice: "required" }).invoke("The weather?")).tool_calls[0].args;
console.log(JSON.stringify(report));

// Anthropic's client for JavaScript against a server: messages, streams, tools, forms, counts, models, errors. Prints what came back.
import Anthropic from "@anthropic-ai/sdk";
import { betaZodTool } from "@anthropic-ai/sdk/helpers/beta/zod";
import { zodOutputFormat } from "@anthropic-ai/sdk/helpers/zod";
import { z } from "zod";

const [base, apiKey, model] = process.argv.slice(2);
const client = new Anthropic({ baseURL: base.replace(/\/v1$/, ""), apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "A city in France" }];
const asked = { model, max_tokens: 60, messages };
const report = {};

const whole = await client.messages.create({ ...asked, max_tokens: 6 });
report.text = whole.content[0].text;
const stream = client.messages.stream({ ...asked, max_tokens: 6 });
report.stream = "";
stream.on("text", (text) => (report.stream += text));
report.stop = (await stream.finalMessage()).stop_reason;

const City = z.object({ name: z.enum(["Paris", "Rome"]) });
report.parsed = (await client.messages.parse({ ...asked, output_config: { format: zodOutputFormat(City) } })).parsed_output;

const inputSchema = z.object({ city: z.enum(["Paris", "Rome"]) });
const weather = betaZodTool({ name: "weather", description: "The weather", inputSchema, run: async () => "sunny" });
const choice = { tool_choice: { type: "any" }, max_iterations: 2 };
const runner = client.beta.messages.toolRunner({ ...asked, ...choice, tools: [weather] });
report.called = [];
for await (const message of runner) report.called.push(...message.content.map((block) => block.input?.city));

report.count = (await client.messages.countTokens({ model, messages })).input_tokens;
report.models = [];
for await (const each of client.models.list()) report.models.push(each.id);
report.error = await client.messages.create({ ...asked, model: "none" }).catch((error) => [error.status, error.constructor.name, Boolean(error.requestID)]);
console.log(JSON.stringify(report));

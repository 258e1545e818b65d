// Vercel's AI SDK over Anthropic's API: text, streams, objects, tools and their results. Prints what came back.
import { createAnthropic } from "@ai-sdk/anthropic";
import * as ai from "ai";
import { z } from "zod";

const [baseURL, apiKey, model] = process.argv.slice(2);
const schema = z.object({ name: z.enum(["Paris", "Rome"]), size: z.enum(["small", "large"]) });
const inputSchema = z.object({ city: z.enum(["Paris", "Rome"]) });
const tools = { weather: ai.tool({ description: "The weather of a city", inputSchema, execute: async () => "sunny" }) };
const asked = { model: createAnthropic({ baseURL, apiKey })(model), maxRetries: 0, maxOutputTokens: 60 };
const hello = { ...asked, prompt: "Say hello.", maxOutputTokens: 6 };
const ask = { ...asked, tools, toolChoice: "required", prompt: "The weather in Paris?" };
const cached = { role: "system", content: "Be brief.", providerOptions: { anthropic: { cacheControl: { type: "ephemeral" } } } };
const report = { stream: "" };

const whole = await ai.generateText(hello);
report.text = whole.text;
report.input = whole.usage.inputTokens;
for await (const part of ai.streamText(hello).textStream) report.stream += part;
report.object = (await ai.generateObject({ ...asked, schema, prompt: "A city" })).object;
const streamed = ai.streamObject({ ...asked, schema, prompt: "A city" });
for await (const _ of streamed.partialObjectStream);
report.streamedObject = await streamed.object;
report.tool = (await ai.generateText(ask)).toolResults[0].output;
report.streamedTool = (await ai.streamText(ask).toolResults)[0].output;
report.steps = (await ai.generateText({ ...ask, toolChoice: "auto", stopWhen: ai.stepCountIs(2) })).steps.length;
report.cached = (await ai.generateText({ ...asked, system: [cached], prompt: "Hi", maxOutputTokens: 4 })).text;
console.log(JSON.stringify(report));

// Vercel's AI SDK, over chats, responses and completions: text, streams, objects, tools. Prints what came back.
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import * as ai from "ai";
import { z } from "zod";

const [baseURL, apiKey, model] = process.argv.slice(2);
const schema = z.object({ name: z.enum(["Paris", "Rome"]), size: z.enum(["small", "large"]) });
const inputSchema = z.object({ city: z.enum(["Paris", "Rome"]) });
const tools = { weather: ai.tool({ description: "The weather of a city", inputSchema, execute: async () => "sunny" }) };
const compatible = createOpenAICompatible({ name: "stemma", baseURL, apiKey, supportsStructuredOutputs: true });
const openai = createOpenAI({ baseURL, apiKey });
const report = {};

async function textOf(result) {
  let text = "";
  for await (const part of result.textStream) text += part;
  return text;
}

for (const [name, chat] of [["compatible", compatible(model)], ["chat", openai.chat(model)], ["responses", openai.responses(model)]]) {
  const asked = { model: chat, maxRetries: 0 };
  const hello = { ...asked, prompt: "Say hello.", maxOutputTokens: 6 };
  const ask = { ...asked, tools, toolChoice: "required", prompt: "The weather in Paris?" };
  const streamed = ai.streamObject({ ...asked, schema, prompt: "A city" });
  for await (const _ of streamed.partialObjectStream);
  report[name] = {
    text: (await ai.generateText(hello)).text,
    stream: await textOf(ai.streamText(hello)),
    object: (await ai.generateObject({ ...asked, schema, prompt: "A city" })).object,
    streamedObject: await streamed.object,
    tool: (await ai.generateText(ask)).toolResults[0].output,
    streamedTool: (await ai.streamText(ask).toolResults)[0].output,
  };
}
const completion = { model: compatible.completionModel(model), prompt: "Once", maxOutputTokens: 6, maxRetries: 0 };
report.completion = { text: (await ai.generateText(completion)).text, stream: await textOf(ai.streamText(completion)) };
console.log(JSON.stringify(report));

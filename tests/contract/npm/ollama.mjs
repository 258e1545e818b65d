// Ollama's own client, and Vercel's AI SDK over Ollama's API: texts, objects, tools, vectors. Prints what came back.
import * as ai from "ai";
import { Ollama } from "ollama";
import { createOllama } from "ollama-ai-provider-v2";
import { z } from "zod";

const [baseURL, apiKey, model] = process.argv.slice(2);
const host = baseURL.replace(/\/v1$/, "");
const headers = { Authorization: `Bearer ${apiKey}` };
const schema = z.object({ name: z.enum(["Paris", "Rome"]), size: z.enum(["small", "large"]) });
const messages = [{ role: "user", content: "Name a city in France." }];
const options = { num_predict: 12, temperature: 0 };
const report = {};

const client = new Ollama({ host, headers });
let stream = "";
for await (const part of await client.chat({ model, messages, options, stream: true })) stream += part.message.content;
const vectors = await client.embed({ model, input: ["one", "two"] });
report.own = {
  whole: (await client.chat({ model, messages, options })).message.content,
  stream,
  object: JSON.parse((await client.chat({ model, messages, format: z.toJSONSchema(schema) })).message.content),
  text: (await client.generate({ model, prompt: "Hello", options })).response,
  vectors: vectors.embeddings.length,
  models: (await client.list()).models.map((each) => each.model),
  family: (await client.show({ model })).details.family,
  version: (await client.version()).version,
};

const ollama = createOllama({ baseURL: `${host}/api`, headers });
const asked = { model: ollama(model), maxRetries: 0 };
const hello = { ...asked, prompt: "Say hello.", maxOutputTokens: 6, temperature: 0 };
const inputSchema = z.object({ city: z.enum(["Paris", "Rome"]) });
const tools = { weather: ai.tool({ description: "The weather of a city", inputSchema, execute: async () => "sunny" }) };
const streamed = ai.streamObject({ ...asked, schema, prompt: "A city" });
for await (const _ of streamed.partialObjectStream);
let text = "";
for await (const part of ai.streamText(hello).textStream) text += part;
const call = { ...asked, tools, toolChoice: "required", prompt: "The weather in Paris?" };
report.vercel = {
  text: (await ai.generateText(hello)).text,
  stream: text,
  object: (await ai.generateObject({ ...asked, schema, prompt: "A city" })).object,
  streamedObject: await streamed.object,
  tool: (await ai.generateText(call)).toolResults[0].output,
  streamedTool: (await ai.streamText(call).toolResults)[0].output,
  vectors: (await ai.embedMany({ model: ollama.textEmbeddingModel(model), values: ["one", "two"] })).embeddings.length,
};
console.log(JSON.stringify(report));

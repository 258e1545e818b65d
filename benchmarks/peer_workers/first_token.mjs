// llama.cpp (node-llama-cpp) from loading a model to a first token: prints seconds and the process's peak of memory in MB.
// Arguments: the model's file, tokens of the KV cache, threads.

import {readFileSync} from "node:fs";
import {getLlama} from "node-llama-cpp";

const [file, tokens, threads] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const llama = await getLlama({gpu: false, build: "never", maxThreads: threads, logger: () => {}});
const started = performance.now();
const model = await llama.loadModel({modelPath: file});
const context = await model.createContext({contextSize: tokens, threads, flashAttention: true});
const prompt = Array.from({length: 32}, (_, index) => 100 + index);
for await (const token of context.getSequence().evaluate(prompt, {temperature: 0, yieldEogToken: true})) break;
const seconds = (performance.now() - started) / 1000;
const peak = Number(readFileSync("/proc/self/status", "utf8").match(/VmHWM:\s+(\d+)/)[1]) / 1000;
console.log(JSON.stringify({seconds, peak}));
process.exit(0);

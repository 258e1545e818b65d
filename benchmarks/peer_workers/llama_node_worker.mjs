// llama.cpp as npm's node-llama-cpp ships it, with a build for each kind of CPU, behind the workers' protocol
// (protocol.py). Arguments: the model's file, slots, threads. Batches all sequences; keeps what each slot computed. Of a
// model whose layers cannot go back (states, windows) a slot keeps checkpoints: where its prompt ends, and its answer.

import {createInterface} from "node:readline";
import {getLlama, LlamaGrammarEvaluationState} from "node-llama-cpp";

const SLOT_TOKENS = 2304;
const [file, slots, threads] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];
const llama = await getLlama({gpu: false, build: "never", maxThreads: threads, logger: (_, text) => console.error(text)});
console.error(llama.systemInfo);
const model = await llama.loadModel({modelPath: file});
const context = await model.createContext({
    sequences: slots, contextSize: SLOT_TOKENS, batchSize: 2048, threads, flashAttention: true
});
const free = Array.from({length: slots}, () => context.getSequence());
const history = new Map();
const grammars = new Map();

function common(left, right) {
    let length = 0;
    while (length < left.length && left[length] === right[length]) length++;
    return length;
}

// the free slot whose tokens have most in common with the prompt, as llama-server chooses; at equal length the emptiest
function take(prompt) {
    const value = (slot) => common(slot.contextTokens, prompt) - slot.contextTokens.length * 1e-6;
    const best = free.reduce((one, other) => (value(other) > value(one) ? other : one));
    free.splice(free.indexOf(best), 1);
    return best;
}

async function grammarState(schema) {
    const text = JSON.stringify(schema);
    if (!grammars.has(text)) grammars.set(text, await llama.createGrammarForJsonSchema(schema));
    return new LlamaGrammarEvaluationState({model, grammar: grammars.get(text)});
}

async function complete(request, prompt, started) {
    const slot = take(prompt);
    await slot.adaptStateToTokens(prompt.slice(0, -1), false);
    const wanted = prompt.slice(slot.nextTokenIndex, -1);
    if (slot.needsCheckpoints && wanted.length) {
        await slot.evaluateWithoutGeneratingNewTokens(wanted);
        await slot.takeCheckpoint();
    }
    const options = {temperature: 0, yieldEogToken: !request.schema};
    if (request.schema) options.grammarEvaluationState = await grammarState(request.schema);
    const tokens = [];
    let first = 0;
    for await (const token of slot.evaluate(prompt.slice(slot.nextTokenIndex), options)) {
        if (!tokens.length) first = (performance.now() - started) / 1000;
        tokens.push(token);
        if (tokens.length === request.max) break;
    }
    if (slot.needsCheckpoints) await slot.takeCheckpoint();
    free.push(slot);
    return {output: request.schema ? model.detokenize(tokens) : tokens, first};
}

async function answer(wave) {
    const prompts = wave.map((request) => request.text ? model.tokenize(request.text)
        : [...(history.get(request.parent) ?? []), ...request.append]);
    const started = performance.now();
    const done = await Promise.all(wave.map((request, index) => complete(request, prompts[index], started)));
    const seconds = (performance.now() - started) / 1000;
    wave.forEach((request, index) => history.set(request.id, [...prompts[index], ...done[index].output]));
    const byId = (name) => Object.fromEntries(wave.map((request, index) => [request.id, done[index][name]]));
    return {seconds, outputs: byId("output"), first: byId("first")};
}

console.log(JSON.stringify({ready: true}));
for await (const line of createInterface({input: process.stdin})) {
    console.log(JSON.stringify(await answer(JSON.parse(line))));
}
process.exit(0);

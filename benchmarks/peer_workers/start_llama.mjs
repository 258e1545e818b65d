// From nothing to llama.cpp's first token (node-llama-cpp), then it ends. Arguments: the model's file, threads, perhaps
// a JSON schema.

const started = performance.now();
const {getLlama, LlamaGrammarEvaluationState} = await import("node-llama-cpp");
const [file, threads, schema] = [process.argv[2], Number(process.argv[3]), process.argv[4]];
const imported = performance.now();
const llama = await getLlama({gpu: false, build: "never", maxThreads: threads, logger: (_, text) => console.error(text)});
const model = await llama.loadModel({modelPath: file});
const context = await model.createContext({sequences: 1, contextSize: 2304, threads, flashAttention: true});
const ready = performance.now();
const options = {temperature: 0, yieldEogToken: true};
if (schema) {
    const grammar = await llama.createGrammarForJsonSchema(JSON.parse(schema));
    options.grammarEvaluationState = new LlamaGrammarEvaluationState({model, grammar});
}
for await (const _ of context.getSequence().evaluate(model.tokenize("A person:"), options)) break;
const since = (then) => (then - started) / 1000;
console.log(JSON.stringify({import: since(imported), ready: since(ready), token: since(performance.now())}));
process.exit(0);

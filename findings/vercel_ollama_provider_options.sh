#!/usr/bin/env bash
# Vercel's Ollama provider sends the limit and the temperature where Ollama's API has no fields for them.
#
# Expected: `maxOutputTokens` and `temperature` of the AI SDK become `options.num_predict` and `options.temperature`, the
#           only places where Ollama's API takes them.
# Happens:  they come as `max_output_tokens` and `temperature` beside `options`, which the types of Ollama's own client do
#           not have; `options` holds neither.
# Why it matters: a server that reads Ollama's fields alone answers without a limit and at its own temperature, and says
#           nothing; one that is to serve this provider has to honour fields that its API does not have.
# Versions: ollama-ai-provider-v2 4.0.1, ai 7.0.173, zod 4.6.7, ollama 0.6.3 (Python, for the types). Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet "ollama==0.6.3" 2>/dev/null
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund "ollama-ai-provider-v2@4.0.1" "ai@7.0.173" "zod@4.6.7"
cat >ask.mjs <<'NODE'
import http from "node:http";
import { generateText } from "ai";
import { createOllama } from "ollama-ai-provider-v2";

const said = { model: "m", created_at: "2026-01-01T00:00:00Z", message: { role: "assistant", content: "hi" }, done: true,
  done_reason: "stop", eval_count: 1, prompt_eval_count: 1, total_duration: 1, load_duration: 1, prompt_eval_duration: 1,
  eval_duration: 1 };
const server = http.createServer((request, response) => {
  let body = "";
  request.on("data", (data) => (body += data));
  request.on("end", () => {
    console.log(JSON.stringify({ path: request.url, body: JSON.parse(body) }));
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify(said) + "\n");
  });
});
server.listen(0, "127.0.0.1", async () => {
  const ollama = createOllama({ baseURL: `http://127.0.0.1:${server.address().port}/api` });
  await generateText({ model: ollama("m"), prompt: "hi", maxOutputTokens: 6, temperature: 0.5, maxRetries: 0 });
  server.close();
});
NODE
node ask.mjs >asked.json
venv/bin/python - <<'PYTHON'
import json
import sys

from ollama._types import ChatRequest

asked = json.load(open("asked.json"))
body, options = asked["body"], asked["body"].get("options") or {}
print("path:", asked["path"], "fields:", sorted(body), "options:", options)
beside = [name for name in ("max_output_tokens", "temperature") if name in body and name not in ChatRequest.model_fields]
print("beside the options, and not in Ollama's types:", beside)
as_recorded = beside == ["max_output_tokens", "temperature"] and not {"num_predict", "temperature"} & set(options)
print("as recorded: neither is among the options" if as_recorded else "changed")
sys.exit(not as_recorded)
PYTHON

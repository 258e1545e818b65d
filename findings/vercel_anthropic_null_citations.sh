#!/usr/bin/env bash
# Vercel's Anthropic provider refuses a message whose text block says `"citations": null`.
#
# Expected: an answer is read whose text has no citations, as Anthropic's own client reads it: its type of a text block
#           has `citations: Optional[...]`, which is null where there are none.
# Happens:  the answer is thrown away as invalid JSON: the provider's schema takes a list or no field.
# Why it matters: a server of Anthropic's dialect that writes the field as the API's own types have it works with
#           Anthropic's client and with no text answer of this provider. Leave the field out.
# Versions: @ai-sdk/anthropic 3.0.140, ai 6.0.326, zod 4.6.7, anthropic 2.14.0 (Python, for the type); version 4.0.105 of the
#           provider takes null. Date: 2026-11-30.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet "anthropic==2.14.0" 2>/dev/null
npm init --yes >/dev/null
npm install --silent --no-audit --no-fund "@ai-sdk/anthropic@3.0.140" "ai@6.0.326" "zod@4.6.7"
venv/bin/python - <<'PYTHON'
import typing

from anthropic.types import TextBlock

kind = TextBlock.model_fields["citations"].annotation
print("anthropic's own type takes null:", type(None) in typing.get_args(kind))
assert type(None) in typing.get_args(kind)
PYTHON
cat >ask.mjs <<'NODE'
import http from "node:http";
import { generateText } from "ai";
import { createAnthropic } from "@ai-sdk/anthropic";

const answered = async (block) => {
  const message = { id: "msg_1", type: "message", role: "assistant", model: "m", content: [block], stop_reason: "end_turn",
    stop_sequence: null, usage: { input_tokens: 1, output_tokens: 1 } };
  const server = http.createServer((request, response) => {
    request.resume();
    request.on("end", () => {
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify(message));
    });
  });
  await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
  const anthropic = createAnthropic({ baseURL: `http://127.0.0.1:${server.address().port}/v1`, apiKey: "none" });
  try {
    return (await generateText({ model: anthropic("m"), prompt: "hi", maxRetries: 0 })).text;
  } catch (error) {
    return `refused: ${error.message}`;
  } finally {
    server.close();
  }
};
const without = await answered({ type: "text", text: "hello" });
const withNull = await answered({ type: "text", text: "hello", citations: null });
console.log("without the field:", without);
console.log("with null:", withNull);
const asRecorded = without === "hello" && withNull.startsWith("refused:");
console.log(asRecorded ? "as recorded: null is refused" : "changed");
process.exit(asRecorded ? 0 : 1);
NODE
node ask.mjs

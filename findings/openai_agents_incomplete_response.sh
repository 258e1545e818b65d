#!/usr/bin/env bash
# openai-agents raises an error for a response that its own max_tokens cut off.
#
# Expected: a run whose model answers within `ModelSettings(max_tokens=...)` ends with the text that there was, as a chat
#           completion with finish_reason "length" does in the same library; a Response of status "incomplete" with the
#           reason "max_output_tokens" is a regular end of OpenAI's API.
# Happens:  over chat completions the run gives the cut text; over responses the same limit raises ModelBehaviorError, and
#           the text that was paid for is lost.
# Why it matters: a server that answers honestly (status "incomplete") ends an agent's whole run, one that says "completed"
#           does not; whoever serves this client must leave room, or is blamed for the model's behaviour.
# Versions: openai-agents 0.24.0, openai 3.57.0, Python 3.11. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "openai-agents==0.24.0" "openai==3.57.0" 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import agents
import openai

USAGE = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7, "input_tokens_details": {"cached_tokens": 0},
         "output_tokens_details": {"reasoning_tokens": 0}}
PART = {"type": "output_text", "text": "Once upon a time", "annotations": []}
ITEM = {"id": "msg_1", "type": "message", "role": "assistant", "status": "incomplete", "content": [PART]}
RESPONSE = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": "incomplete", "output": [ITEM],
            "incomplete_details": {"reason": "max_output_tokens"}, "error": None, "instructions": None, "metadata": {},
            "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
            "usage": USAGE}
CHOICE = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "Once upon a time"}}
CHAT = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "m", "choices": [CHOICE],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}


class Server(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(CHAT if self.path.endswith("/chat/completions") else RESPONSE).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


server = HTTPServer(("127.0.0.1", 0), Server)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{server.server_port}/v1", api_key="none")
agents.set_tracing_disabled(True)
said = {}
for kind in (agents.OpenAIChatCompletionsModel, agents.OpenAIResponsesModel):
    agent = agents.Agent("a", model=kind("m", client), model_settings=agents.ModelSettings(max_tokens=4))
    try:
        said[kind.__name__] = agents.Runner.run_sync(agent, "Tell a story.").final_output
    except agents.AgentsException as error:
        said[kind.__name__] = type(error).__name__
    print(f"{kind.__name__}: {said[kind.__name__]}")
as_recorded = list(said.values()) == ["Once upon a time", "ModelBehaviorError"]
print("as recorded: the limit is an error over responses alone" if as_recorded else "changed")
sys.exit(not as_recorded)
PYTHON

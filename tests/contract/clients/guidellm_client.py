"""guidellm: load over chats, completions, responses and embeddings, all streamed that can be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

url, key, model = sys.argv[1:4]
prompts = Path("prompts.jsonl")
lines = [json.dumps({"prompt": f"Tell me about number {number}.", "output_tokens_count": 8}) for number in range(6)]
prompts.write_text("\n".join(lines) + "\n")
for api in ("chat/completions", "completions", "responses", "embeddings"):
    report = Path("report.json")
    backend = f"kind=openai_http,target={url},model={model},api_key={key},request_format=/v1/{api}"
    command = [
        str(Path(sys.executable).parent / "guidellm"), "run", "--backend", backend,
        "--profile", "kind=concurrent,streams=2", "--constraint", "kind=max_requests,count=4",
        "--data", f"kind=json_file,path={prompts}", "--output", f"kind=json,path={report}", "--disable-console",
    ]  # fmt: skip
    subprocess.run(command, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    (run,) = json.loads(report.read_text())["benchmarks"]
    totals = run["metrics"]["request_totals"]
    assert totals["errored"] == 0, totals
    assert totals["successful"] > 0, totals
    report.unlink()
print("ok")

"""EvalScope: load over chats, completions and responses."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

url, key, model = sys.argv[1:4]
Path("prompts.txt").write_text("".join(f"Tell me about number {number}.\n" for number in range(6)))
for api, path, streaming in (
    ("openai", "chat/completions", "--stream"),
    ("openai", "chat/completions", "--no-stream"),
    ("openai", "completions", "--stream"),
    ("openai_responses", "responses", "--stream"),
):
    out = Path(f"out-{path.replace('/', '-')}{streaming}")
    command = [
        str(Path(sys.executable).parent / "evalscope"), "perf", "--model", model, "--api-key", key, "--api", api,
        "--url", f"{url}/v1/{path}", "--number", "4", "--parallel", "2", "--max-tokens", "8", streaming,
        "--dataset", "line_by_line", "--dataset-path", "prompts.txt", "--max-prompt-length", "500",
        "--outputs-dir", str(out),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    (report,) = out.rglob("benchmark_summary.json")
    found = json.loads(report.read_text())
    assert (found["Success Requests"], found["Failed Requests"]) == (4, 0), found
print("ok")

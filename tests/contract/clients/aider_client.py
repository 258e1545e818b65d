"""aider: an edit and a question, whole and streamed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

url, key, model = sys.argv[1:4]
Path("a.py").write_text('print("hello")\n')
settings = f"- name: openai/{model}\n  edit_format: whole\n  extra_params:\n    max_tokens: 60\n"
Path("settings.yml").write_text(settings)
for more in (["--stream"], ["--no-stream"], ["--edit-format", "ask", "--reasoning-effort", "low"]):
    command = [
        str(Path(sys.executable).parent / "aider"), "--model", f"openai/{model}", "--openai-api-base", f"{url}/v1",
        "--openai-api-key", key, "--model-settings-file", "settings.yml", "--no-git", "--yes-always",
        "--no-check-update", "--no-show-model-warnings", "--no-check-model-accepts-settings", "--analytics-disable",
        "--map-tokens", "0", "--no-detect-urls", "--no-show-release-notes", *more, "--message", "Say hello.", "a.py",
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert "Tokens:" in done.stdout, done.stdout  # what an answer cost is told when it is whole
    assert "litellm." not in done.stdout, done.stdout  # how it tells of errors of the server
print("ok")

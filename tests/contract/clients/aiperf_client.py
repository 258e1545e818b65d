"""aiperf: load over chats (with the usage in every chunk), completions, responses and embeddings."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers

url, key, model = sys.argv[1:4]

# A tokenizer that needs no download: one token a byte.
folder = Path("bytes").absolute()
folder.mkdir()
alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
tokenizer = Tokenizer(models.BPE(vocab={char: number for number, char in enumerate(alphabet)}, merges=[]))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
tokenizer.save(str(folder / "tokenizer.json"))
(folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))

Path("prompts.jsonl").write_text("".join(json.dumps({"text": f"Number {at}?"}) + "\n" for at in range(6)))
counted = ["--streaming", "--use-server-token-count", "--per-chunk-usage"]
for api, more in (
    ("chat", [*counted, "--extra-inputs", "max_tokens:8"]),
    ("completions", ["--streaming", "--extra-inputs", "max_tokens:8"]),
    ("responses", ["--streaming", "--extra-inputs", "max_output_tokens:8"]),
    ("embeddings", []),
):
    command = [
        str(Path(sys.executable).parent / "aiperf"), "profile", "--model", model, "--url", url, "--api-key", key,
        "--endpoint-type", api, "--input-file", "prompts.jsonl", "--custom-dataset-type", "single_turn",
        "--request-count", "4", "--concurrency", "2", "--tokenizer", str(folder), "--ui", "simple",
        "--artifact-dir", f"out-{api}", *more,
    ]  # fmt: skip
    subprocess.run(command, check=True)
    (report,) = Path(f"out-{api}").rglob("profile_export_aiperf.json")
    found = json.loads(report.read_text())
    assert found["request_count"]["avg"] == 4, found
    assert not found.get("error_summary"), found["error_summary"]
print("ok")

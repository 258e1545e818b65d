#!/usr/bin/env bash
# transformers writes Qwen3-MoE's `num_experts` as `num_local_experts`, which no reader of published files knows.
#
# Expected: a configuration that is read and saved again keeps the names that the published config.json has, and that
#           other engines read: `num_experts`.
# Happens:  Qwen3MoeConfig takes num_experts, and saves it under num_local_experts alone; Qwen2-MoE keeps its name.
# Why it matters: a fine-tune of a published model, saved by transformers, is refused, or read with a default number of
#           experts, by an engine that knows the published name only.
# Versions: transformers 5.24.0, Python 3.11. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "transformers==5.24.0" 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import json
import sys

import transformers

said = {}
for name in ("Qwen3MoeConfig", "Qwen2MoeConfig"):
    saved = json.loads(getattr(transformers, name)(num_experts=8).to_json_string(use_diff=False))
    said[name] = {key: saved[key] for key in ("num_experts", "num_local_experts") if key in saved}
    print(f"{name}(num_experts=8) is saved with", said[name])
as_recorded = said == {"Qwen3MoeConfig": {"num_local_experts": 8}, "Qwen2MoeConfig": {"num_experts": 8}}
print("as recorded: one of the two is renamed" if as_recorded else "changed")
sys.exit(not as_recorded)
PYTHON

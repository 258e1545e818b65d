#!/usr/bin/env bash
# transformers' Nemotron-H holds time steps above `time_step_min` in prompts and not in decoding.
#
# Expected: the logits of a text are the same whether it is computed at once or token by token over a cache, and time steps
#           are held between the two numbers of `time_step_limit`, as in its other families with Mamba-2.
# Happens:  whole texts hold them above `time_step_min`, which elsewhere only draws initial weights; the step of a single
#           token holds them nowhere, so the two differ where a time step is smaller. `time_step_limit` changes nothing.
# Why it matters: whoever compares an engine with transformers finds it wrong in decoding, or in prompts, and an answer
#           depends on how much of its text was computed at once.
# Versions: transformers 5.24.0, torch 2.13.0, Python 3.11. Date: 2026-11-29.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet "transformers==5.24.0" "torch==2.13.0" "numpy==2.4.6" 2>/dev/null
"$folder/venv/bin/python" - 2>/dev/null <<'PYTHON'
import sys

import torch
from transformers import NemotronHConfig, NemotronHForCausalLM

IDS = torch.arange(12)[None]
SIZES = {
    "vocab_size": 64, "hidden_size": 64, "layers_block_type": ["mamba", "attention"], "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16, "intermediate_size": 64, "mamba_num_heads": 8, "mamba_head_dim": 16,
    "n_groups": 2, "ssm_state_size": 16, "chunk_size": 16, "initializer_range": 0.3,
}  # fmt: skip


@torch.no_grad()
def logits(**options):
    torch.manual_seed(0)
    model = NemotronHForCausalLM(NemotronHConfig(**SIZES)).eval()
    weights = model.state_dict()
    model = NemotronHForCausalLM(NemotronHConfig(**SIZES, **options)).eval()  # the same weights, other limits
    model.load_state_dict(weights)
    whole, cache, rows = model(IDS, use_cache=False).logits[0], None, []
    for index in range(IDS.shape[1]):
        out = model(IDS[:, index : index + 1], past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        rows.append(out.logits[0, -1])
    return whole, torch.stack(rows)


def apart(first, second):
    return float((first - second).abs().max())


plain, stepped = logits(time_step_min=1e-9)  # below every time step
print(f"time_step_min 1e-9: at once and token by token are {apart(plain, stepped):.1e} apart")
held, walked = logits(time_step_min=0.2)
print(f"time_step_min 0.2: at once and token by token are {apart(held, walked):.2f} apart")
limited, _ = logits(time_step_min=1e-9, time_step_limit=(0.2, 0.3))
print(f"time_step_limit (0.2, 0.3) changes logits by {apart(plain, limited):.1e}")
as_recorded = apart(plain, stepped) < 1e-3 and apart(held, walked) > 0.1 and apart(plain, limited) == 0
print("as recorded: prompts hold time steps above time_step_min, decoding does not" if as_recorded else "changed")
sys.exit(not as_recorded)
PYTHON

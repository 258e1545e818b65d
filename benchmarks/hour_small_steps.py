"""Small steps of all kernels but cells: prompts, decode, copies, masks, sampling, packed weights, experts, states.

python benchmarks/hour_small_steps.py cuda|cpu      exits with 0 where all of it ran and ended in numbers
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch

from stemma.fsm.regex import Regex
from stemma.kernels.ops import BlockCopy
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.packing import zeros
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny

FAMILIES = ("qwen3_5_text", "nemotron_h", "qwen3_moe")
"""With the delta rule, Mamba-2, experts."""
LONG = 600
"""Tokens: attention in two pieces, and their merge."""
SHORT = 80


def steps(ops: TritonOps, family: str, new_tokens: int, length: int) -> None:
    """A prompt, others behind the same beginning, sampled, guided; all twice, so that steps are replayed."""
    with Engine.of(tiny(ops, family), kv_tokens=4096, block_size=16) as engine:
        prompts = [[*(at % 50 for at in range(length)), end] for end in (50, 51, 52)]
        for _ in range(2):
            engine.generate(prompts, max_tokens=new_tokens, temperature=0.8, top_k=20, top_p=0.9, seed=1)
        engine.generate(prompts[0], max_tokens=new_tokens, grammar=Regex("[a-z]{1,9}"), temperature=1.0, seed=1)
        engine.generate(prompts[1], max_tokens=new_tokens, logprobs=2, repetition_penalty=1.2)


def packed(ops: TritonOps, four_bits: bool) -> None:
    linear = zeros(64, 48, four_bits, device=ops.device)
    linear.codes.random_(0, 127)
    linear.scales.uniform_(0.0, 1.0)
    for rows in (1, 20, 70):
        x = torch.randn(rows, 64, device=ops.device, dtype=ops.dtype)
        out = ops.linear_add(x, linear, torch.zeros(rows, 48, device=ops.device, dtype=ops.dtype))
        assert torch.isfinite(out.float()).all()


def copies(ops: TritonOps) -> None:
    from stemma.kernels.ops import KVShape

    kv = ops.kv(KVShape(2, 8, 16, 2, 16))
    kv.keys[:, 1].fill_(1)
    ops.copy_blocks(kv, [BlockCopy(1, 3, 7)])
    assert float(kv.keys[:, 3, :, :7].float().sum()) == 2 * 2 * 7 * 16
    assert np.frombuffer(ops.read_blocks(kv, np.array([3], np.int32)), np.uint8).any()


def main(device: str) -> None:
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    new_tokens = 6 if device == "cuda" else 2
    types: tuple[Any, ...] = ("activation", "int8", "fp8") if device == "cuda" else ("activation",)
    for kv_type in types:
        length = LONG if device == "cuda" else 40
        steps(TritonOps(torch.device(device), dtype, kv_type), "llama", new_tokens, length)
    for family in FAMILIES if device == "cuda" else ():
        steps(TritonOps(torch.device(device), dtype), family, new_tokens, SHORT)
    ops = TritonOps(torch.device(device), dtype)
    for four_bits in (True, False):
        packed(ops, four_bits)
    copies(ops)
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main(sys.argv[1])

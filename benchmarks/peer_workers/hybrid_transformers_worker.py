"""transformers behind the workers' protocol for the shapes of `hybrid_models.py`: bfloat16, random weights of its own.

Arguments: the model's file, which is not read, and the shape's name. A request goes on from a copy of its parent's
`past_key_values`, one request after the other.
"""

from __future__ import annotations

import copy
import sys
import time
from typing import Any

import torch
from protocol import Request, Timed, serve
from transformers import AutoModelForCausalLM, Lfm2Config, LlamaConfig, Qwen3_5TextConfig

LFM2_ATTENTION = (2, 5, 8, 10, 12, 14)
WIDTHS = {"hidden_size": 1024, "num_attention_heads": 16, "num_key_value_heads": 8, "intermediate_size": 4608,
          "vocab_size": 65_536, "num_hidden_layers": 16, "tie_word_embeddings": True}  # fmt: skip


def config(shape: str) -> Any:
    if shape == "llama":
        return LlamaConfig(**WIDTHS, max_position_embeddings=8192)
    if shape == "lfm2":
        kinds = ["full_attention" if layer in LFM2_ATTENTION else "conv" for layer in range(16)]
        return Lfm2Config(**WIDTHS, layer_types=kinds, conv_L_cache=3, block_auto_adjust_ff_dim=False)
    return Qwen3_5TextConfig(
        hidden_size=1024, num_attention_heads=8, num_key_value_heads=2, head_dim=256, intermediate_size=3584,
        vocab_size=248_320, num_hidden_layers=24, tie_word_embeddings=True, linear_num_value_heads=16,
    )  # fmt: skip


torch.manual_seed(0)
model = AutoModelForCausalLM.from_config(config(sys.argv[2]), dtype=torch.bfloat16).eval()
caches: dict[str, Any] = {}


def complete(request: Request, prompt: list[int], started: float) -> tuple[list[int], float]:
    cache = copy.deepcopy(caches[request["parent"]]) if request.get("parent") else None
    length = 0 if cache is None else cache.get_seq_length()
    ids = torch.tensor([prompt[length:]])
    tokens: list[int] = []
    first = 0.0
    while len(tokens) < request["max"]:
        done = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = done.past_key_values
        tokens.append(int(done.logits[0, -1].argmax()))
        first = first or time.perf_counter() - started
        ids = torch.tensor([tokens[-1:]])
    caches[request["id"]] = cache
    return tokens, first


@torch.inference_mode()
def run(requests: list[Request], prompts: list[list[int]]) -> Timed:
    started = time.perf_counter()
    done = [complete(request, prompt, started) for request, prompt in zip(requests, prompts, strict=True)]
    return Timed([tokens for tokens, _ in done], [first for _, first in done])


serve(run)

"""first_hour.py, identity: the tokens that this device chooses, judged by a CPU's log-probabilities in float32.

A token that the device chooses greedily may differ from the CPU's only where the CPU finds both nearly as likely: its
margin is what the CPU's log-probability of its own best token is above that of the device's.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from hour_lines import Lines

from stemma.fsm.json_schema import JSONSchema
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.triton.ops import TritonOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny

MARGIN = 0.1
FAMILIES = ("llama", "qwen2", "qwen3", "gemma2", "qwen3_5_text", "granitemoehybrid")


class Sizes(NamedTuple):
    prompts: int
    prompt: int
    new: int
    families: tuple[str, ...]


ON_GPU = Sizes(16, 90, 64, FAMILIES)
ON_CPU = Sizes(2, 20, 3, ("llama",))


def ways(device: str) -> dict[str, tuple[Any, str]]:
    """Types of activations and of KV."""
    if device == "cpu":
        return {"float32": (torch.float32, "activation"), "int8 KV": (torch.float32, "int8")}
    return {
        "bfloat16": (torch.bfloat16, "activation"), "bfloat16, int8 KV": (torch.bfloat16, "int8"),
        "bfloat16, fp8 KV": (torch.bfloat16, "fp8"), "float16": (torch.float16, "activation"),
    }  # fmt: skip


def run(lines: Lines, device: str) -> None:
    sizes = ON_GPU if device == "cuda" else ON_CPU
    random = np.random.default_rng(0)
    prompts = [random.integers(0, 256, sizes.prompt).tolist() for _ in range(sizes.prompts)]
    judges = {family: Judge(family) for family in sizes.families}
    lines.attempt("JSON", lambda: json_text(lines, device))
    for name, (dtype, kv_type) in ways(device).items():
        for family in sizes.families if kv_type == "activation" else ("llama",):
            case = f"{family}, {name}"
            lines.attempt(
                case, lambda c=case, f=family, d=dtype, k=kv_type: compare(  # type: ignore[misc]
                    lines, c, judges[f], written(f, TritonOps(torch.device(device), d, k), prompts, sizes)
                )
            )  # fmt: skip


class Judge:
    """The same model on the CPU in float32. Its weights are the device's before they are rounded."""

    def __init__(self, family: str) -> None:
        self._engine = Engine.of(tiny(ReferenceOps(torch.device("cpu"), torch.float32), family), kv_tokens=8192)

    def margins(self, prompt: list[int], tokens: list[int]) -> list[float]:
        """Of each token, how much more likely the CPU's own choice is."""
        asked = [*prompt, *tokens]
        found = self._engine.generate(asked, max_tokens=1, prompt_logprobs=1, temperature=0.0).prompt_logprobs
        assert found is not None
        mine = found[-len(tokens) :]
        return [max(each.top[0][1], each.logprob) - each.logprob for each in mine if each is not None]


def written(
    family: str, ops: TritonOps, prompts: list[list[int]], sizes: Sizes
) -> dict[str, list[tuple[list[int], list[int]]]]:
    """Prompts and tokens, by how they were computed."""
    ways: dict[str, list[tuple[list[int], list[int]]]] = {}
    options: dict[str, Any] = {"max_tokens": sizes.new, "temperature": 0.0, "ignore_eos": True}
    with Engine.of(tiny(ops, family), kv_tokens=8192, block_size=16, drafts_from=("none",)) as engine:
        for way in ("cold", "cached"):
            ways[way] = [(prompt, [*engine.generate(prompt, **options).tokens]) for prompt in prompts[:4]]
        batch = engine.generate(prompts, **options)
        ways["batch"] = [(prompt, [*each.tokens]) for prompt, each in zip(prompts, batch, strict=True)]
    with Engine.of(tiny(ops, family), kv_tokens=8192, block_size=16, max_chunk=24) as engine:
        ways["chunked, drafts"] = [(prompt, [*engine.generate(prompt, **options).tokens]) for prompt in prompts[:4]]
    return ways


def compare(lines: Lines, case: str, judge: Judge, ways: dict[str, list[tuple[list[int], list[int]]]]) -> None:
    worst = {
        way: max(margin for prompt, tokens in pairs for margin in judge.margins(prompt, tokens))
        for way, pairs in ways.items()
    }
    same = sum(a == b for a, b in zip(ways["cold"], ways["cached"], strict=True))
    shown = ", ".join(f"{way} {margin:.3f}" for way, margin in worst.items())
    lines.judge(case, max(worst.values()) <= MARGIN, f"margins: {shown}; cold as cached: {same} of {len(ways['cold'])}")


def json_text(lines: Lines, device: str) -> None:
    """Guided text of a random model is what its schema says."""
    import json

    schema = {
        "type": "object", "properties": {"n": {"type": "integer", "maximum": 99}, "b": {"type": "boolean"}},
        "required": ["n", "b"], "additionalProperties": False,
    }  # fmt: skip
    ops = TritonOps(torch.device(device), torch.bfloat16 if device == "cuda" else torch.float32)
    with Engine.of(tiny(ops), kv_tokens=1024, block_size=16) as engine:
        text = engine.generate("json:", grammar=JSONSchema(schema), max_tokens=60, temperature=1.0, seed=1).text
    lines.judge("JSON", set(json.loads(text)) == {"n", "b"}, text[:200])

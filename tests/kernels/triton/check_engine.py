"""The whole engine on the Triton back end: the reference's tokens, cold and cached, in batches, sampled, guided."""

from __future__ import annotations

import re

import pytest
import torch
from triton_support import DEVICE, EXACT, INTERPRETED

from stemma.fsm.syntax import ast
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.triton.ops import TritonOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny


class Code:
    """Three digits, a dash, two letters: [0-9]{3}-[ab]{2}."""

    def grammar(self) -> ast.Grammar:
        digits = ast.Repeat(ast.Characters(((48, 57),)), 3, 3)
        letters = ast.Repeat(ast.Characters(((97, 98),)), 2, 2)
        return ast.Grammar(
            ast.Concatenation((digits, ast.Literal(b"-"), letters)), lambda rule: ast.Literal(str(rule).encode())
        )


PROMPTS = [b"the common beginning of many texts, " + end for end in (b"and one end", b"another", b"x")]


def generate(ops: object, family: str, prompts: list[bytes], **options: object) -> list[list[int]]:
    with Engine.of(tiny(ops, family), kv_tokens=2048, block_size=16) as engine:  # type: ignore[arg-type]
        first = engine.generate([list(prompt) for prompt in prompts], max_tokens=4, **options)  # type: ignore[call-overload]
        again = engine.generate([list(prompt) for prompt in prompts], max_tokens=4, **options)  # type: ignore[call-overload]
    tokens = [list(completion.tokens) for completion in first]
    assert tokens == [list(completion.tokens) for completion in again]
    return tokens


@pytest.mark.skipif(
    not INTERPRETED, reason="without float32 activations a near-tie of a random model may fall otherwise"
)
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
def test_greedy_tokens_are_those_of_the_reference(family: str) -> None:
    expected = generate(ReferenceOps(torch.device("cpu"), torch.float64), family, PROMPTS, temperature=0.0)
    assert generate(TritonOps(DEVICE, EXACT), family, PROMPTS, temperature=0.0) == expected


@pytest.mark.skipif(
    not INTERPRETED, reason="without float32 activations a near-tie of a random model may fall otherwise"
)
@pytest.mark.parametrize("family", ["qwen3_5_text", "granitemoehybrid"])
def test_greedy_tokens_of_models_with_states(family: str) -> None:
    """A prompt that is longer than a cell, and what goes on behind its mark."""
    prompts = [PROMPTS[0] + PROMPTS[1]]
    expected = generate(ReferenceOps(torch.device("cpu"), torch.float64), family, prompts, temperature=0.0)
    assert generate(TritonOps(DEVICE, EXACT), family, prompts, temperature=0.0) == expected


@pytest.mark.skipif(
    not INTERPRETED, reason="without float32 activations a near-tie of a random model may fall otherwise"
)
def test_sampled_tokens_are_those_of_the_reference() -> None:
    options = {"temperature": 0.8, "top_k": 50, "top_p": 0.9, "seed": 7}
    expected = generate(ReferenceOps(torch.device("cpu"), torch.float64), "llama", PROMPTS[:2], **options)
    assert generate(TritonOps(DEVICE, EXACT), "llama", PROMPTS[:2], **options) == expected


def test_a_grammar_holds() -> None:
    with Engine.of(tiny(TritonOps(DEVICE, EXACT)), kv_tokens=1024, block_size=16) as engine:
        completion = engine.generate("number:", grammar=Code(), max_tokens=12, temperature=1.0, seed=1)
    assert re.fullmatch("[0-9]{3}-[ab]{2}", completion.text)

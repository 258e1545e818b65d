"""The default model on the compiled kernels says what it says on the reference.

Greedy identity is checked without generating twice: if at every position of our completion the reference, given the
same tokens before it, prefers our token, then the reference would have generated the same completion.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.memory import make_plans
from stemma.kernels.ops import AttentionMetadata
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.weights import StoredWeight, dequantize
from stemma.runtime.engine import Engine
from stemma.runtime.model.load import LoadedModel, assemble, read_checkpoint
from stemma.runtime.model.pull import default_model
from tests.kernels.memories import everywhere, memory_of

PROMPTS = [
    "The capital of France is", "Once upon a time there was a miller who", "In computer science, a radix tree is",
    "To bake bread at home, you first", "The three laws of motion say that", "def fibonacci(n):", "Dear Sir or Madam,",
    "The weather in the mountains changes", "Water boils at", "A good teacher", "The history of the printing press",
    "Q: What is 12 times 12?\nA:", "My favourite animal is", "The river flows from the north", "Economists disagree",
    "In the year 1969,", "SELECT name FROM", "Music is", "The cell is the smallest unit", "She opened the door and",
]  # fmt: skip
TEXT = """A stemma is the tree that shows which texts descend from which. Scholars draw it to find out how the copies of
a lost book are related. Every scribe who copied a manuscript made mistakes, and whoever copied that copy repeated them
and added some of his own. If two manuscripts share a mistake that nobody would make twice, they probably go back to the
same source. In this way one can draw the family of a text, from the original at the root down to the last copy, and
sometimes one can even say what stood in a book that burnt a thousand years ago. The method is old, but it works for
more than books. Biologists use it for species, linguists for languages, and programmers for versions of a program. What
they all have in common is that the same beginning is kept only once, and that what is new is written where it departs
from the old."""


def load(ops: CpuOps | ReferenceOps, convert: Callable[[StoredWeight], StoredWeight] = lambda w: w) -> LoadedModel:
    """The default model with its weights as stored, or converted."""
    checkpoint = read_checkpoint(default_model())
    tensors = {name: convert(weight) for name, weight in checkpoint.tensors.items()}
    return assemble(replace(checkpoint, tensors=tensors), ops)


def in_bfloat16(weight: StoredWeight) -> StoredWeight:
    rounded = torch.from_numpy(dequantize(weight)).to(torch.bfloat16)
    return StoredWeight("BF16", weight.shape, rounded.view(torch.uint16).numpy())


def logits(loaded: LoadedModel, sequences: list[list[int]]) -> list[torch.Tensor]:
    """Of all positions of each sequence, computed in one step."""
    lengths = [len(tokens) for tokens in sequences]
    starts = np.cumsum([0, *lengths]).astype(np.int32)
    blocks = np.cumsum([0, *(-(-length // 16) for length in lengths)])
    tables = np.zeros((len(sequences), int(np.diff(blocks).max())), dtype=np.int32)
    for table, first, last in zip(tables, blocks[:-1], blocks[1:], strict=True):
        table[: last - first] = np.arange(first, last)
    positions = np.concatenate([np.arange(length, dtype=np.int32) for length in lengths])
    slots = positions + np.repeat(blocks[:-1] * 16, lengths).astype(np.int32)
    metadata = AttentionMetadata(positions, slots, starts, np.array(lengths, dtype=np.int32), tables)
    ops = loaded.model.ops
    memory = memory_of(ops, loaded.config, int(blocks[-1]))
    plans = make_plans(ops, everywhere(metadata), memory)
    hidden = loaded.model.forward(np.concatenate(sequences).astype(np.int32), plans, memory)
    return list(torch.split(loaded.model.logits(hidden, np.arange(starts[-1], dtype=np.int32)), lengths))


def test_greedy_tokens_with_bfloat16_weights_are_the_references(ops: CpuOps) -> None:
    loaded = load(ops, in_bfloat16)
    prompts = [loaded.tokenizer.encode(prompt) for prompt in PROMPTS]
    with Engine.of(loaded, kv_tokens=4096) as engine:
        completions = engine.generate([list(p) for p in prompts], max_tokens=64, temperature=0, ignore_eos=True)
    sequences = [[*prompt, *done.tokens] for prompt, done in zip(prompts, completions, strict=True)]
    reference = load(ReferenceOps(torch.device("cpu")), in_bfloat16)
    for prompt, tokens, scores in zip(prompts, sequences, logits(reference, sequences), strict=True):
        assert scores[len(prompt) - 1 : -1].argmax(-1).tolist() == tokens[len(prompt) :]


def test_perplexity_with_stored_weights_is_the_references(ops: CpuOps) -> None:
    quantised, reference = load(ops), load(ReferenceOps(torch.device("cpu")))
    tokens = list(quantised.tokenizer.encode(TEXT))
    perplexities = [
        float(torch.nn.functional.cross_entropy(logits(loaded, [tokens])[0][:-1], torch.tensor(tokens[1:])).exp())
        for loaded in (quantised, reference)
    ]
    assert perplexities[0] == pytest.approx(perplexities[1], rel=5e-3)

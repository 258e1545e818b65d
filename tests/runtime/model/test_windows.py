"""Families whose layers have windows, past every window: against transformers, in steps of any length, with block
tables that name nothing behind the window; from a mark; and on the CPU the same bits however a text is cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from stemma.runtime.model import load
from tests.kernels.on_tensors import tensor_ops
from tests.runtime.model.family_cases import GEMMA4, SHARED, windows
from tests.runtime.model.running import Running, all_logits, logits_behind_a_mark, reference_ops
from tests.runtime.model.test_logits import save

IDS = np.random.default_rng(11).integers(0, 260, 1500).tolist()
EXPERTS: dict[str, Any] = {"num_local_experts": 4, "num_experts_per_tok": 2}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "mistral": ("mistral", {"sliding_window": 64}),
    "qwen2": ("qwen2", {"use_sliding_window": True, "max_window_layers": 1, "sliding_window": 16}),
    "phi3": ("phi3", {"sliding_window": 30, "head_dim": None}),
    "gemma2": ("gemma2", {"sliding_window": 16}),
    "gemma3": ("gemma3_text", {**windows(1, 1, 0), "sliding_window": 33}),
    "gemma3, a window of 512": ("gemma3_text", {**windows(1, 1, 0), "sliding_window": 512}),
    "gemma4": ("gemma4_text", {**GEMMA4, "sliding_window": 24}),
    "gemma4, KV shared": ("gemma4_text", {**GEMMA4, "sliding_window": 64, "num_kv_shared_layers": 2}),
    "gemma4, a window of 512, keys are values": (
        "gemma4_text",
        {**GEMMA4, "sliding_window": 512, "attention_k_eq_v": True, "num_global_key_value_heads": 1},
    ),
    "gemma4, experts": (
        "gemma4_text",
        {**GEMMA4, "hidden_size_per_layer_input": 0, "enable_moe_block": True, "num_experts": 4, "top_k_experts": 2,
         "moe_intermediate_size": 32},
    ),
    "gpt-oss": ("gpt_oss", {**EXPERTS, "sliding_window": 20, "rope_parameters": {"rope_type": "default",
                                                                               "rope_theta": 150000.0}}),
    "olmo3": ("olmo3", {**windows(1, 1, 1, 0), "sliding_window": 40}),
    "cohere2": ("cohere2", {**windows(1, 0), "sliding_window": 50}),
    "exaone4": ("exaone4", {**windows(1, 0), "sliding_window": 17}),
}  # fmt: skip


EXACT_TO = {"gemma4, experts": 850}
"""Tokens up to where transformers is as exact: it computes angles in float32, which routers make more of."""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def saved(case: str, folder: Path) -> transformers.PreTrainedModel:
    family, options = CASES[case]
    sizes = {**SHARED, "max_position_embeddings": 2048, **options}
    return save(folder, transformers.CONFIG_MAPPING[family](**{k: v for k, v in sizes.items() if v is not None}))


def expected(theirs: transformers.PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return theirs(torch.tensor([IDS])).logits[0]


def steps(lengths: list[int]) -> Iterator[list[int]]:
    """IDS in pieces of these lengths, the last of them again and again."""
    start = 0
    for index in range(len(IDS)):
        length = lengths[min(index, len(lengths) - 1)]
        if start < len(IDS):
            yield IDS[start : start + length]
        start += length


CUTS = {
    "whole": [1500],
    "chunks, then decoding": [64] * 16 + [7] * 63 + [1],
    "decoding, then chunks": [1] * 70 + [430, 7, 64, 900, 1],
}


@pytest.mark.parametrize("case", CASES)
def test_logits_past_every_window(case: str, tmp_path: Path) -> None:
    want = expected(saved(case, tmp_path))
    model: Any = load(tmp_path, reference_ops()).model
    assert model.config.marks is not None
    exact = slice(EXACT_TO.get(case, len(IDS)))
    assert float((all_logits(model, IDS) - want)[exact].abs().max()) < 1e-3
    for cut in CUTS.values():
        running = Running(model, len(IDS))
        found = torch.cat([running.step(ids) for ids in steps(cut)])
        assert float((found - want)[exact].abs().max()) < 1e-3


@pytest.mark.parametrize("case", CASES)
def test_logits_behind_a_mark(case: str, tmp_path: Path) -> None:
    """Elsewhere, further than the window is, the sequence went another way first."""
    want = expected(saved(case, tmp_path))
    model: Any = load(tmp_path, reference_ops()).model
    for at in (5, 700):
        found = logits_behind_a_mark(model, IDS[:900], at)
        assert float((found - want[at:900]).abs().max()) < 1e-3


@pytest.mark.parametrize("case", CASES)
def test_steps_change_no_bit_on_the_cpu(case: str, tmp_path: Path) -> None:
    saved(case, tmp_path)
    model: Any = load(tmp_path, tensor_ops(num_threads=2)).model
    want = all_logits(model, IDS).clone()
    for cut in list(CUTS.values())[1:]:
        running = Running(model, len(IDS))
        for ids in steps(cut):
            start = running.position
            assert torch.equal(running.step(ids), want[start : start + len(ids)])

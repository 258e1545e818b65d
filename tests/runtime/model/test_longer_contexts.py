"""Models whose rotation changes with the length of the text, asked for more than they were trained on: what
transformers computes of a prompt that is as long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from stemma.runtime.engine.engine import Engine
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model import load
from tests.runtime.model.family_cases import LONGROPE, SHARED, rope
from tests.runtime.model.gguf_families import write_family
from tests.runtime.model.running import all_logits, reference_ops
from tests.runtime.model.test_logits import save

IDS = np.random.default_rng(7).integers(0, 256, 200).tolist()
ORIGINAL = 64
LONG = {**LONGROPE, "original_max_position_embeddings": ORIGINAL}
DYNAMIC = {**rope("dynamic", factor=4.0), "max_position_embeddings": ORIGINAL}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "longrope": ("phi3", LONG),
    "longrope by its parameters": (
        "llama", {"rope_parameters": {**LONGROPE["rope_parameters"], "original_max_position_embeddings": ORIGINAL}}
    ),
    "dynamic": ("llama", DYNAMIC),
}  # fmt: skip


def logits(model: transformers.PreTrainedModel, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0]


@pytest.mark.parametrize("case", CASES)
def test_the_longer_context_is_transformers(case: str, tmp_path: Path) -> None:
    family, options = CASES[case]
    theirs = save(tmp_path, transformers.CONFIG_MAPPING[family](**{**SHARED, **options}))
    longer = load(tmp_path, reference_ops(), context_length=len(IDS))
    assert longer.config.context_length >= len(IDS)
    assert float((all_logits(longer.model, IDS) - logits(theirs, IDS)).abs().max()) < 1e-3
    for asked in (None, ORIGINAL):
        usual = load(tmp_path, reference_ops(), context_length=asked)
        assert usual.config.context_length == ORIGINAL
        fresh = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
        assert float((all_logits(usual.model, IDS[:60]) - logits(fresh, IDS[:60])).abs().max()) < 1e-3


def test_a_gguf_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.CONFIG_MAPPING["phi3"](**{**SHARED, "vocab_size": 261, **LONG})
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    write_family(tmp_path / "model.gguf", theirs)
    longer = load(tmp_path / "model.gguf", reference_ops(), context_length=len(IDS))
    assert float((all_logits(longer.model, IDS) - logits(theirs, IDS)).abs().max()) < 1e-3
    assert load(tmp_path / "model.gguf", reference_ops()).config.context_length == ORIGINAL


def test_the_engine_asks_by_its_option(tmp_path: Path) -> None:
    save(tmp_path, transformers.CONFIG_MAPPING["phi3"](**{**SHARED, **LONG}))
    with Engine(tmp_path, context_length=len(IDS), kv_tokens=512) as engine:
        assert engine.context_length == len(IDS)
        assert engine.generate(IDS[:120], max_tokens=2).usage.prompt_tokens == 120
    with pytest.raises(InvalidRequest, match="between 1 and the model's 1024"):
        Engine(tmp_path, context_length=2000)

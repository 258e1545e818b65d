"""MiniCPM 1 to 4, folders and GGUF files, against a Llama of transformers that has its scales in its weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from stemma.runtime.model import load
from tests.runtime.model.gguf_families import write_family
from tests.runtime.model.minicpm_cases import CASES, SCALES, logits, unscaled
from tests.runtime.model.running import all_logits, reference_ops
from tests.runtime.model.test_logits import write_tokenizer

IDS = np.random.default_rng(7).integers(0, 256, 200).tolist()


@pytest.mark.parametrize("index", range(len(CASES)))
def test_a_folder(index: int, tmp_path: Path) -> None:
    unscaled(index).save_pretrained(tmp_path)
    write_tokenizer(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    own = {name: value for name, value in CASES[index].items() if name in SCALES}
    del config["scales"]
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "minicpm", **own}))
    found = all_logits(load(tmp_path, reference_ops()).model, IDS)
    expected = logits(index, IDS)
    assert float(expected.std()) > 0.01
    assert float((found - expected).abs().max()) < 1e-3


@pytest.mark.parametrize("index", range(len(CASES)))
def test_a_gguf_file(index: int, tmp_path: Path) -> None:
    write_family(tmp_path / "model.gguf", unscaled(index))
    found = all_logits(load(tmp_path / "model.gguf", reference_ops()).model, IDS)
    assert float((found - logits(index, IDS)).abs().max()) < 1e-3


def test_the_scales_change_the_numbers() -> None:
    with torch.no_grad():
        plain = unscaled(0)(torch.tensor([IDS])).logits[0]
    assert float((logits(0, IDS) - plain).abs().max()) > 0.1

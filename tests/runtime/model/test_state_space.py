"""Families with Mamba-2 layers: texts longer than any chunk of transformers' scan, what files say in other words, what
is refused, and that factors leave large matrices as they are stored."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

from stemma.kernels.weights import StoredWeight
from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model import ModelConfig, load
from stemma.runtime.model.families.folder_config import read_config
from stemma.runtime.model.files.adapters.merge import merged
from stemma.runtime.model.load import assemble, read_checkpoint
from stemma.runtime.model.parts.adapted_ops import Span
from stemma.runtime.model.parts.decoder import Decoder
from stemma.runtime.model.weights import Weights
from tests.runtime.model.family_cases import CASES, FACTORS, FALCON, MAMBA2, NEMOTRON, SHARED
from tests.runtime.model.lora_making import adapter_of
from tests.runtime.model.running import all_logits, chunked_logits, reference_ops
from tests.runtime.model.test_logits import save
from tests.runtime.model.test_loras import IDS, beside, logits

INFINITY = {"__float__": "Infinity"}


def written(family: str, **options: Any) -> dict[str, Any]:
    raw: dict[str, Any] = transformers.CONFIG_MAPPING[family](**{**SHARED, **options}).to_dict()
    return raw


def config_of(family: str, **changes: Any) -> ModelConfig:
    return read_config({**written(family, **CASES[family][0]), **changes}, "x")


@pytest.mark.parametrize("family", ["mamba2", "granitemoehybrid"])
def test_long_texts(family: str, tmp_path: Path) -> None:
    """Six chunks of transformers' scan; ours by steps of 500."""
    config = transformers.CONFIG_MAPPING[family](**{**SHARED, "max_position_embeddings": 2048, **CASES[family][0]})
    theirs, ids = save(tmp_path, config), np.random.default_rng(5).integers(0, 260, 1500).tolist()
    with torch.no_grad():
        want = theirs(torch.tensor([ids])).logits[0]
    found = chunked_logits(load(tmp_path, reference_ops()).model, ids, 500)
    assert float((found - want).abs().max()) < 1e-3


def test_a_model_of_states_alone_keeps_nothing_of_each_token() -> None:
    shape = config_of("mamba2").memory_shape(100, 16, num_slots=3)
    assert (shape.full.num_layers, shape.window, shape.full.head_dim > 0) == (0, None, True)
    assert shape.states is not None
    assert shape.states.slot_bytes == 2 * 4 * (192 * 3 + 8 * 16 * 16)


def test_layers_of_one_part_each() -> None:
    layers = config_of("nemotron_h").layers
    assert [(layer.mixer, layer.mlp) for layer in layers] == [
        ("mamba", False), ("none", True), ("attention", False), ("none", True)
    ]  # fmt: skip
    assert config_of("nemotron_h").experts is not None


def test_letters_of_older_files_are_layers() -> None:
    raw = written("nemotron_h", **NEMOTRON)
    named = read_config(raw, "x")
    del raw["layers_block_type"]
    assert read_config({**raw, "hybrid_override_pattern": "ME*-", "num_hidden_layers": 4}, "x") == named


@pytest.mark.parametrize("most", [float("inf"), INFINITY], ids=["a number", "as transformers writes it"])
@pytest.mark.parametrize("family", ["mamba2", "falcon_h1", "granitemoehybrid", "nemotron_h"])
def test_limits_of_time_steps(family: str, most: Any) -> None:
    mamba = config_of(family, time_step_limit=[0.25, most]).mamba
    assert mamba is not None
    assert (mamba.spec.low, mamba.spec.high) == (0.25, float("inf"))


REFUSED: list[tuple[str, Mapping[str, Any], str]] = [
    ("mamba2", {"time_step_limit": [0.5, 0.1]}, "time_step_limit"),
    ("mamba2", {"time_step_limit": [0.5]}, "time_step_limit"),
    ("mamba2", {"hidden_act": "gelu"}, "hidden_act"),
    ("mamba2", {"rms_norm": False}, "rms_norm"),
    ("mamba2", {"head_dim": 24}, "do not fit"),
    ("granitemoehybrid", {"layer_types": ["mamba", "hyena", "attention"]}, "hyena"),
    ("granitemoehybrid", {"layer_types": ["mamba"]}, "layer_types"),
    ("granitemoehybrid", {"hidden_act": "gelu"}, "hidden_act"),
    ("granitemoehybrid", {"position_embedding_type": "alibi"}, "position_embedding_type"),
    ("falcon_h1", {"ssm_multipliers": [1.0, 2.0]}, "ssm_multipliers"),
    ("falcon_h1", {"key_multiplier": -1.0}, "key_multiplier"),
    ("falcon_h1", {"mamba_n_groups": 4}, "do not fit"),
    ("nemotron_h", {"moe_latent_size": 32}, "moe_latent_size"),
    ("nemotron_h", {"mlp_bias": True}, "mlp_bias"),
    ("nemotron_h", {"sliding_window": 40}, "sliding_window"),
    ("nemotron_h", {"mamba_hidden_act": "relu2"}, "mamba_hidden_act"),
    ("nemotron_h", {"layers_block_type": ["mamba", "conv"]}, "conv"),
]


@pytest.mark.parametrize(("family", "changes", "name"), REFUSED, ids=lambda value: str(value))
def test_what_is_not_run_is_refused(family: str, changes: Mapping[str, Any], name: str) -> None:
    with pytest.raises((UnsupportedModel, ModelFileError), match=name):
        config_of(family, **changes)


def test_names_of_before_transformers(tmp_path: Path) -> None:
    """Files of the authors of Mamba-2 have an `embedding`."""
    theirs = save(tmp_path, transformers.CONFIG_MAPPING["mamba2"](**{**SHARED, **MAMBA2}))
    checkpoint = read_checkpoint(tmp_path)
    names = set(checkpoint.tensors)
    assert {"model.embed_tokens.weight", "model.norm_f.weight", "model.layers.0.mixer.A_log"} <= names
    state = {name.replace("embeddings", "embedding"): value for name, value in theirs.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    assert set(read_checkpoint(tmp_path).tensors) == names


def half(tensor: StoredWeight) -> StoredWeight:
    """As BF16, if it is a matrix."""
    if len(tensor.shape) != 2:
        return tensor
    return StoredWeight("BF16", tensor.shape, (tensor.data.view(np.uint32) >> 16).astype(np.uint16))


def test_factors_leave_large_matrices_as_they_are_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the rows of time steps are multiplied."""
    save(tmp_path, transformers.CONFIG_MAPPING["falcon_h1"](**{**SHARED, **FALCON, **FACTORS}))
    checkpoint = read_checkpoint(tmp_path)
    ops, packed = reference_ops(), []
    linear = ops.linear
    monkeypatch.setattr(ops, "linear", lambda parts, *rest, **options: (packed.extend(parts), linear(parts, *rest))[1])
    Decoder(checkpoint.config, Weights({name: half(tensor) for name, tensor in checkpoint.tensors.items()}), ops)
    assert {part.shape for part in packed if part.type != "BF16"} == {(FALCON["mamba_n_heads"], 64)}


def test_an_adapter_of_matrices_with_factors(tmp_path: Path) -> None:
    """Chosen by a request, it is what it is when it is merged: its rows are multiplied likewise."""
    save(tmp_path, transformers.CONFIG_MAPPING["falcon_h1"](**{**SHARED, **FALCON, **FACTORS}))
    checkpoint, ops = read_checkpoint(tmp_path), reference_ops()
    adapter = adapter_of(checkpoint, 1, r"layers\..*proj.*\.weight")
    found = logits(beside(checkpoint, ops, one=adapter), Span("one", 0, 40))
    want = all_logits(assemble(merged(checkpoint, adapter), ops).model, IDS)
    assert float((found - want).abs().max()) < 1e-3

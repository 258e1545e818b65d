"""Files of models with gated delta rules or short convolutions, as others than transformers 5 write them; and what of
their settings is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from stemma.runtime.errors import StemmaError
from stemma.runtime.model import load
from stemma.runtime.model.families.folder_config import read_config
from stemma.runtime.model.tiny import tiny_config
from tests.runtime.model.family_cases import CASES, SHARED
from tests.runtime.model.gguf_families import metadata_of, tensors_of, write_family
from tests.runtime.model.running import all_logits, reference_ops
from tests.runtime.model.test_families import configuration
from tests.runtime.model.test_gguf_families import IDS, random_model
from tests.runtime.model.test_logits import save


def difference(place: Path, theirs: transformers.PreTrainedModel) -> float:
    with torch.no_grad():
        want = theirs(torch.tensor([IDS])).logits[0]
    return float((all_logits(load(place, reference_ops()).model, IDS) - want).abs().max())


def rewritten(folder: Path, tensors: dict[str, torch.Tensor], **settings: Any) -> None:
    raw = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**raw, **settings}))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")


@pytest.mark.parametrize("family", ["qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"])
def test_layers_that_guess_further_tokens_are_left_out(family: str, tmp_path: Path) -> None:
    theirs = save(tmp_path, configuration(family, 0))
    tensors = load_file(tmp_path / "model.safetensors")
    further = {"mtp.fc.weight": torch.ones(64, 128), "mtp.layers.0.input_layernorm.weight": torch.ones(64)}
    rewritten(tmp_path, tensors | further, mtp_num_hidden_layers=1, mtp_use_dedicated_embeddings=False)
    assert difference(tmp_path, theirs) < 1e-3


@pytest.mark.parametrize("family", ["qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"])
def test_layers_that_guess_further_tokens_of_a_gguf_file(family: str, tmp_path: Path) -> None:
    """The converter counts them, behind the others, and says that they attend."""
    theirs = random_model(family, 0)
    said = metadata_of(theirs.config)
    said |= {"block_count": 3, "nextn_predict_layers": 1,
             "attention.recurrent_layers": [*said["attention.recurrent_layers"], False]}  # fmt: skip
    further = {"blk.2.nextn.eh_proj.weight": np.ones((64, 128), np.float32),
               "blk.2.attn_norm.weight": np.ones(64, np.float32)}  # fmt: skip
    write_family(tmp_path / "model.gguf", theirs, said, tensors_of(theirs) | further)
    assert difference(tmp_path / "model.gguf", theirs) < 1e-3


def test_experts_of_a_layer_in_one_tensor(tmp_path: Path) -> None:
    """As the authors' files of Qwen 3.5 have them."""
    theirs = save(tmp_path, configuration("qwen3_5_moe_text", 0))
    tensors = load_file(tmp_path / "model.safetensors")
    for layer in range(2):
        place, parts = f"model.layers.{layer}.mlp.experts.", {}
        for part in ("gate", "up", "down"):
            parts[part] = torch.stack([tensors.pop(f"{place}{index}.{part}_proj.weight") for index in range(8)])
        tensors[f"{place}gate_up_proj"] = torch.cat((parts["gate"], parts["up"]), dim=1)
        tensors[f"{place}down_proj"] = parts["down"]
    rewritten(tmp_path, tensors)
    assert difference(tmp_path, theirs) < 1e-3


def test_gates_and_ups_of_experts_in_one_tensor_of_a_gguf_file(tmp_path: Path) -> None:
    theirs = random_model("qwen3_5_moe_text", 0)
    tensors = tensors_of(theirs)
    for layer in range(2):
        place = f"model.layers.{layer}.mlp.experts."
        pair = [tensors.pop(f"{place}{part}_proj.weight") for part in ("gate", "up")]
        tensors[f"{place}gate_up_proj.weight"] = np.concatenate(pair, axis=1)
    write_family(tmp_path / "model.gguf", theirs, None, tensors)
    assert difference(tmp_path / "model.gguf", theirs) < 1e-3


def test_an_older_conversion_of_projections(tmp_path: Path) -> None:
    """Of before queries, keys, values and gates were apart; and layers that attend are told by their distance."""
    theirs = random_model("qwen3_next", 3)
    said = {key: value for key, value in metadata_of(theirs.config).items() if key != "attention.recurrent_layers"}
    tensors = {name: tensor for name, tensor in tensors_of(theirs).items() if ".in_proj_" not in name}
    own = {name: values.numpy() for name, values in theirs.state_dict().items() if ".in_proj_" in name}
    write_family(tmp_path / "model.gguf", theirs, said | {"full_attention_interval": 3}, tensors | own)
    assert difference(tmp_path / "model.gguf", theirs) < 1e-3


def test_an_older_config_of_lfm2(tmp_path: Path) -> None:
    """With names of its authors' own program."""
    theirs = save(tmp_path, configuration("lfm2", 7))
    older = {"layer_types": None, "full_attn_idxs": [0, 2], "block_ff_dim": 96, "intermediate_size": 3,
             "tie_embedding": True, "tie_word_embeddings": None, "block_dim": 64, "block_use_swiglu": True,
             "use_pos_enc": True, "conv_dim": 64, "num_heads": 4, "block_norm_eps": 1e-5}  # fmt: skip
    rewritten(tmp_path, load_file(tmp_path / "model.safetensors"), **older)
    assert difference(tmp_path, theirs) < 1e-3


REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "attention without a gate": ("qwen3_5_text", {"attn_output_gate": False}, "attn_output_gate"),
    "another gate": ("qwen3_5_text", {"output_gate_type": "sigmoid"}, "output_gate_type"),
    "weights of experts as they are": ("qwen3_5_moe_text", {"norm_topk_prob": False}, "norm_topk_prob"),
    "another activation": ("qwen3_next", {"hidden_act": "gelu"}, "hidden_act"),
    "layers of a kind": ("qwen3_next", {"layer_types": ["linear_attention", "sliding_attention"]}, "sliding_attention"),
    "layers that are not told": ("lfm2_moe", {"layer_types": None}, "layer_types"),
    "a number for a list": ("lfm2", {"full_attn_idxs": 3}, "full_attn_idxs"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_run_is_refused(case: str) -> None:
    family, more, match = REFUSED[case]
    raw = transformers.CONFIG_MAPPING[family](**{**SHARED, **CASES[family][0]}).to_dict()
    assert read_config(raw, "x").family == family
    with pytest.raises(StemmaError, match=match):
        read_config({**raw, **more}, "x")


def test_scores_that_are_no_sigmoids_are_refused(tmp_path: Path) -> None:
    theirs = random_model("lfm2_moe", 0)
    write_family(tmp_path / "model.gguf", theirs, metadata_of(theirs.config) | {"expert_gating_func": 1})
    with pytest.raises(StemmaError, match="expert_gating_func"):
        load(tmp_path / "model.gguf", reference_ops())


@pytest.mark.parametrize("family", ["qwen3_next", "qwen3_5_text", "qwen3_5_moe_text", "lfm2", "lfm2_moe"])
def test_tiny_models_have_layers_of_both_kinds(family: str) -> None:
    assert [layer.has_state for layer in tiny_config(family).layers] == [True, False]

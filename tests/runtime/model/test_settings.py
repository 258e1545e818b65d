"""Settings that change the numbers are used as transformers and llama.cpp use them, or refused by name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model import load
from stemma.runtime.model.families.folder_config import read_config
from stemma.runtime.model.load import read_checkpoint
from tests.runtime.model.gguf_writing import write_gguf
from tests.runtime.model.running import all_logits, reference_ops
from tests.runtime.model.test_gguf_file import assert_same_logits, random_model
from tests.runtime.model.test_hugging_face import CONFIG
from tests.runtime.model.test_logits import LLAMA3, SHARED, save

IDS = list(range(3, 90))
LINEAR = {"type": "linear", "factor": 4.0}


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def difference_from_transformers(folder: Path) -> float:
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = theirs(torch.tensor([IDS])).logits[0]
    return float((all_logits(load(folder, reference_ops()).model, IDS) - expected).abs().max())


# config.json ----------------------------------------------------------------------------------------------------------
ROPE_CHANGES: dict[str, dict[str, Any]] = {
    "both spellings": {"rope_scaling": LINEAR},
    "both, and theta": {"rope_scaling": LINEAR, "rope_theta": 5e5},
    "theta outside": {"rope_parameters": {"rope_type": "linear", "factor": 2.0}, "rope_theta": 5e5},
    "theta inside": {"rope_parameters": {"rope_theta": 5e5}, "rope_theta": 1e4},
    "an empty older one": {"rope_parameters": {"rope_type": "linear", "factor": 2.0}, "rope_scaling": {}},
    "default by the older one": {
        "rope_parameters": {"rope_type": "linear", "factor": 2.0}, "rope_scaling": {"type": "default"}
    },
    "llama3 without its context": {"rope_scaling": {k: v for k, v in LLAMA3.items() if k[:8] != "original"}},
    "llama3, its context outside": {"rope_scaling": LLAMA3, "original_max_position_embeddings": 256},
}  # fmt: skip


@pytest.mark.parametrize("case", ROPE_CHANGES)
def test_rope_is_read_as_transformers_reads_it(case: str, tmp_path: Path) -> None:
    save(tmp_path, transformers.LlamaConfig(**SHARED))
    original = load(tmp_path, reference_ops()).config.rope
    change_config(tmp_path, **ROPE_CHANGES[case])
    assert difference_from_transformers(tmp_path) < 1e-3
    assert load(tmp_path, reference_ops()).config.rope != original or case == "default by the older one"


def test_what_is_absent_is_what_its_family_means() -> None:
    for family in ("mistral", "qwen2", "qwen3", "llama"):
        theirs = transformers.CONFIG_MAPPING[family]()
        raw = {"model_type": family, "intermediate_size": 8, "vocab_size": 9, "max_position_embeddings": 8192,
               "num_attention_heads": theirs.num_attention_heads, "hidden_size": theirs.hidden_size,
               "num_hidden_layers": 2}  # fmt: skip
        ours = read_config(raw, "x")
        head_dim = getattr(theirs, "head_dim", None) or theirs.hidden_size // theirs.num_attention_heads
        assert (ours.num_kv_heads, ours.head_dim) == (theirs.num_key_value_heads, head_dim)
        assert (ours.norm_epsilon, ours.tied_embeddings) == (theirs.rms_norm_eps, theirs.tie_word_embeddings)
        assert ours.context_length == 8192
        assert ours.layer(0).window == (theirs.sliding_window if family == "mistral" else None)


@pytest.mark.parametrize("case", ["another head", "the same head", "only a head"])
def test_tied_embeddings_with_a_head_in_the_file(case: str, tmp_path: Path) -> None:
    save(tmp_path, transformers.LlamaConfig(**SHARED))
    tensors = load_file(tmp_path / "model.safetensors")
    if case == "the same head":
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    if case == "only a head":
        del tensors["model.embed_tokens.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    change_config(tmp_path, tie_word_embeddings=True)
    assert difference_from_transformers(tmp_path) < 1e-3
    assert load(tmp_path, reference_ops()).config.tied_embeddings == (case != "another head")


@pytest.mark.parametrize("bias", [True, False])
def test_biases_are_what_the_configuration_says(bias: bool, tmp_path: Path) -> None:
    save(tmp_path, transformers.LlamaConfig(**SHARED, attention_bias=bias))
    change_config(tmp_path, attention_bias=not bias)
    with pytest.raises(UnsupportedModel, match=f"'attention_bias' to {not bias}, but the files hold"):
        load(tmp_path, reference_ops())


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"rope_scaling": {"type": "mrope", "factor": 4.0}, "rope_parameters": {"rope_type": "default"}}, "mrope"),
    ({"rope_scaling": {**LINEAR, "attention_factor": 2.0}}, "attention_factor"),
    ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, "full_attention"),
    ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor"),
    ({"is_causal": False}, "is_causal"),
    ({"logit_scale": 0.5}, "logit_scale"),
    ({"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ({"num_local_experts": 8}, "num_local_experts"),
    ({"quantization": {"bits": 4}}, "quantization"),
    ({"no_rope_layers": [1, 0]}, "no_rope_layers"),
    ({"num_key_value_heads": [2, 4]}, "num_key_value_heads"),
]


@pytest.mark.parametrize(("changes", "name"), REFUSED, ids=[name for _, name in REFUSED])
def test_a_setting_that_is_not_used_is_refused(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(UnsupportedModel, match=name):
        read_config({**CONFIG, **changes}, "x")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"rope_scaling": {**LINEAR, "factor": "4"}}, "factor"),
        ({"rope_scaling": {**LLAMA3, "low_freq_factor": 0}}, "low_freq_factor"),
        ({"num_hidden_layers": 0}, "num_hidden_layers"),
        ({"vocab_size": "260"}, "vocab_size"),
    ],
)
def test_a_setting_that_is_no_number_is_refused(changes: dict[str, Any], name: str) -> None:
    with pytest.raises(ModelFileError, match=f"{name}.* is .*, no positive"):
        read_config({**CONFIG, **changes}, "x")


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_what_transformers_writes_is_not_refused(family: str) -> None:
    """Every setting of its own, the generation settings that older versions kept here, and what is off."""
    theirs = transformers.CONFIG_MAPPING[family](max_position_embeddings=4096).to_dict()
    older = {"max_length": 20, "top_p": 1.0, "use_bfloat16": False, "torch_dtype": "bfloat16", "auto_map": {"A": "b"}}
    off = {"some_switch": False, "some_name": None, "some_list": [], "_attn_implementation_autoset": True}
    assert read_config({**theirs, **older, **off}, "x").family == family


# GGUF -----------------------------------------------------------------------------------------------------------------
def scaled(factor: float, kind: str = "linear", **more: Any) -> transformers.PreTrainedModel:
    rope = {"rope_type": kind, "rope_theta": 10000.0, "factor": factor, **more}
    return random_model(transformers.LlamaConfig, rope_parameters=rope)


METADATA: dict[str, tuple[dict[str, Any], float]] = {
    "a factor without a type": ({"rope.scaling.factor": 4.0}, 4.0),
    "the older name": ({"rope.scale_linear": 4.0}, 4.0),
    "the newer name first": ({"rope.scale_linear": 4.0, "rope.scaling.factor": 2.0}, 2.0),
    "none with a factor": ({"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, 1.0),
    "no factor": ({"rope.scaling.type": "linear"}, 1.0),
    "a factor of nothing": ({"rope.scaling.factor": 0.0}, 1.0),
    "yarn that scales nothing": (
        {"rope.scaling.type": "yarn", "rope.scaling.factor": 1.0, "rope.scaling.attn_factor": 1.0,
         "rope.scaling.yarn_beta_fast": 32.0, "rope.scaling.original_context_length": 4096}, 1.0
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", METADATA)
def test_metadata_of_rope_means_what_it_means_to_llama_cpp(case: str, tmp_path: Path) -> None:
    scalars, factor = METADATA[case]
    model = scaled(factor)
    write_gguf(tmp_path / "model.gguf", model, scalars=scalars)
    assert_same_logits(tmp_path / "model.gguf", model)


SCALED_BY_YARN = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 64}
YARN: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "betas": (
        {"rope.scaling.yarn_beta_fast": 16.0, "rope.scaling.yarn_beta_slow": 2.0}, {"beta_fast": 16, "beta_slow": 2}
    ),
    "a factor of attention": ({"rope.scaling.attn_factor": 1.5}, {"attention_factor": 1.5 * (1 + 0.1 * math.log(4))}),
    "that of DeepSeek": ({"rope.scaling.yarn_log_multiplier": 0.7}, {"mscale": 1.0, "mscale_all_dim": 0.7}),
}  # fmt: skip


@pytest.mark.parametrize("case", YARN)
def test_yarn_in_metadata_is_what_it_is_to_llama_cpp(case: str, tmp_path: Path) -> None:
    scalars, meaning = YARN[case]
    model = scaled(4.0, "yarn", original_max_position_embeddings=64, **meaning)
    write_gguf(tmp_path / "model.gguf", model, scalars=SCALED_BY_YARN | scalars)
    assert_same_logits(tmp_path / "model.gguf", model)


def test_a_factor_of_attention_counts_without_a_scaling(tmp_path: Path) -> None:
    model = scaled(1.0, "yarn", attention_factor=2.0)
    write_gguf(tmp_path / "model.gguf", model, scalars={"rope.scaling.attn_factor": 2.0})
    assert_same_logits(tmp_path / "model.gguf", model)


def test_divisors_of_frequencies_and_a_linear_factor_together(tmp_path: Path) -> None:
    model = scaled(4.0)
    factors = torch.linspace(1, 8, 32)
    model.model.rotary_emb.inv_freq /= factors
    write_gguf(
        tmp_path / "model.gguf", model, scalars={"rope.scaling.factor": 4.0}, rope_factors=factors.numpy()
    )  # fmt: skip
    assert_same_logits(tmp_path / "model.gguf", model)


REFUSED_METADATA: list[tuple[dict[str, Any], str]] = [
    ({"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.yarn_ext_factor": 0.5}, "ext_factor"),
    ({"rope.scaling.type": "longrope"}, "longrope"),
    ({"rope.scaling.factor": 2.0, "rope.scaling.yarn_ext_factor": 1.0}, "yarn_ext_factor"),
    ({"rope.dimension_count": 32}, "rope.dimension_count"),
    ({"attention.causal": False}, "attention.causal"),
    ({"attention.value_length": 32}, "attention.value_length"),
    ({"logit_scale": 0.5}, "logit_scale"),
    ({"attention.scale": 0.5}, "attention.scale"),
    ({"expert_group_count": 8}, "expert_group_count"),
    ({"rope.dimension_sections": [8, 12, 12, 0]}, "rope.dimension_sections"),
    ({"attention.sliding_window": [64, 128]}, "attention.sliding_window"),
]


@pytest.mark.parametrize(("scalars", "name"), REFUSED_METADATA)
def test_metadata_that_is_not_used_is_refused(scalars: dict[str, Any], name: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", random_model(transformers.LlamaConfig), scalars=scalars)
    with pytest.raises(UnsupportedModel, match=name):
        read_checkpoint(tmp_path / "model.gguf")


def test_metadata_that_is_off_or_says_nothing_of_numbers_is_let_by(tmp_path: Path) -> None:
    scalars = {"expert_count": 0, "attention.causal": True, "attention.value_length": 64, "vocab_size": 261,
               "rope.dimension_count": 64, "pooling_type": 3, "tensor_data_layout": "Meta AI original pth"}  # fmt: skip
    write_gguf(tmp_path / "model.gguf", random_model(transformers.LlamaConfig), scalars=scalars)
    assert read_checkpoint(tmp_path / "model.gguf").config.rope.factors == ()


@pytest.mark.parametrize("factor", [-4.0, float("inf"), float("nan")])
def test_a_factor_that_divides_nothing_is_refused(factor: float, tmp_path: Path) -> None:
    write_gguf(
        tmp_path / "model.gguf", random_model(transformers.LlamaConfig), scalars={"rope.scaling.factor": factor}
    )  # fmt: skip
    with pytest.raises(ModelFileError, match="no positive number"):
        load(tmp_path / "model.gguf", reference_ops())

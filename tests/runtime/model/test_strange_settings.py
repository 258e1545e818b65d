"""Settings of a config.json that are valid but strange, as transformers reads them; those that mean nothing, by
name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers

from stemma.runtime.errors import ModelFileError, StemmaError
from stemma.runtime.model import load
from stemma.runtime.model.families.folder_config import read_config
from tests.runtime.model.family_cases import CASES, SHARED, rope, windows
from tests.runtime.model.running import reference_ops
from tests.runtime.model.test_logits import save
from tests.runtime.model.test_settings import change_config, difference_from_transformers


def raw_of(family: str) -> dict[str, Any]:
    return transformers.CONFIG_MAPPING[family](**{**SHARED, **CASES[family][0]}).to_dict()


STRANGE: list[tuple[str, dict[str, Any]]] = [
    ("mistral", windows(1, 0)), ("mistral", windows(0, 1)),  # a Ministral
    ("gemma3_text", {"attn_logit_softcapping": 0.5}),  # said, and caps nothing
    ("deepseek_v3", {"norm_topk_prob": None}), ("deepseek_v3", {"rope_interleave": None}),  # off
    ("gemma4_text", {"rope_parameters": None}), ("ministral3", {"rope_parameters": None}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "changes"), STRANGE, ids=[f"{name}-{next(iter(of))}" for name, of in STRANGE])
def test_it_is_what_transformers_makes_of_it(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    save(tmp_path, transformers.CONFIG_MAPPING[family](**{**SHARED, **CASES[family][0]}))
    change_config(tmp_path, **changes)
    assert difference_from_transformers(tmp_path) < 1e-3


def test_a_mistral_that_names_its_layers_has_windows_there(tmp_path: Path) -> None:
    for family in ("mistral", "ministral"):
        config = read_config({**raw_of("mistral"), **windows(0, 1), "model_type": family}, "x")
        assert [config.layer(index).window for index in range(2)] == [None, 40]


NAMED: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {"head_dim": 17}, "head_dim"), ("glm4", {"head_dim": 20, **rope(partial_rotary_factor=0.25)}, "5 of a"),
    ("mistral", {"sliding_window": True}, "sliding_window"), ("gemma3_text", {"sliding_window": 0}, "sliding_window"),
    ("gemma3_text", {"sliding_window": None}, "sliding_window"), ("phi3", {"sliding_window": 0.5}, "sliding_window"),
    ("gemma2", {"query_pre_attn_scalar": 0}, "query_pre_attn_scalar"),
    ("gemma2", {"query_pre_attn_scalar": None}, "query_pre_attn_scalar"),
    ("gemma2", {"layer_types": None, "sliding_window_pattern": 3}, "sliding_window_pattern"),
    ("olmo2", {"sliding_window": 40}, "sliding_window"), ("minicpm3", {"logit_scale": 0.3}, "logit_scale"),
    ("gpt_oss", {"layer_types": None, "sliding_window_pattern": 3}, "sliding_window_pattern"),
    ("olmo3", {"layer_types": None, "sliding_window_pattern": 2}, "sliding_window_pattern"),
    ("granite", {"logits_scaling": 0.0}, "logits_scaling"), ("granite", {"attention_multiplier": None}, "attention_m"),
    ("cohere2", {"logit_scale": None}, "logit_scale"), ("llama", {"rms_norm_eps": None}, "rms_norm_eps"),
    ("smollm3", {"no_rope_layers": [1]}, "no_rope_layers"),
    ("exaone4", {"layer_types": None, "sliding_window": 40, "sliding_window_pattern": 0}, "sliding_window_pattern"),
    ("qwen2_moe", {"decoder_sparse_step": 0}, "decoder_sparse_step"),
    ("llama", rope("longrope", short_factor=[1.0] * 5, long_factor=[1.0] * 8), "short_factor"),
    ("llama", rope("longrope", short_factor=[1.0] * 8, long_factor=[1.0] * 5), "long_factor"),
    ("llama", rope(partial_rotary_factor=0.5), "to 0.5: models of this type rotate whole"),
]  # fmt: skip


@pytest.mark.parametrize(("family", "changes", "name"), NAMED, ids=[f"{one[0]}-{one[2]}" for one in NAMED])
def test_what_means_nothing_is_refused_by_name(family: str, changes: dict[str, Any], name: str) -> None:
    with pytest.raises(StemmaError, match=name):
        read_config({**raw_of(family), **changes}, "x")


WRONG: list[Any] = ["text", {}, {"a": 1}, [], [[]], -1, 0, 1e400, True, "3"]


def is_refused(config: dict[str, Any]) -> bool:
    """Any other error is the caller's."""
    try:
        read_config(config, "x")
    except StemmaError:
        return True
    return False


@pytest.mark.parametrize("family", CASES)
def test_a_value_of_a_wrong_kind_is_never_an_error_without_a_name(family: str) -> None:
    """Whatever is read at all: no other error than those that say what to do."""
    raw = raw_of(family)
    refused = [name for name in raw for value in WRONG if is_refused({**raw, name: value})]
    assert refused


def test_what_is_near_a_wrong_kind_is_told() -> None:
    with pytest.raises(ModelFileError, match=r"'layer_types' or one that it belongs to .* fetch the model again"):
        read_config({**raw_of("cohere2"), "layer_types": 3}, "x")


def test_a_model_of_odd_heads_is_refused_as_it_is_loaded(tmp_path: Path) -> None:
    save(tmp_path, transformers.LlamaConfig(**SHARED))
    change_config(tmp_path, head_dim=17)
    with pytest.raises(StemmaError, match="head_dim"):
        load(tmp_path, reference_ops())


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"n_group": 5}, "8 experts do not stand in 5 groups"), ({"n_group": 8}, "8 experts do not stand in 8 groups"),
     ({"topk_group": 5}, "choose 2, of 5 groups"), ({"num_experts_per_tok": 9}, "choose 9, of 2 groups")],
)  # fmt: skip
def test_experts_that_cannot_be_chosen_are_refused_as_they_are_loaded(
    changes: dict[str, Any], said: str, tmp_path: Path
) -> None:
    save(tmp_path, transformers.CONFIG_MAPPING["deepseek_v3"](**{**SHARED, **CASES["deepseek_v3"][0]}))
    change_config(tmp_path, **changes)
    with pytest.raises(ModelFileError, match=said):
        load(tmp_path, reference_ops())

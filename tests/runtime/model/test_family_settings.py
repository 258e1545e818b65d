"""Every setting that a family has in transformers is used, known to be without effect, or refused by its name."""

from __future__ import annotations

from typing import Any

import pytest
import transformers

from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model.families.folder_config import read_config
from stemma.runtime.model.families.register import FAMILIES
from stemma.runtime.model.settings import WITHOUT_EFFECT
from tests.runtime.model.family_cases import CASES, SHARED

SIZES = ("intermediate_size", "vocab_size", "max_position_embeddings", "num_attention_heads", "hidden_size",
         "num_hidden_layers")  # fmt: skip
ONLY_WITH_OTHERS = frozenset(
    {"model_type", "max_window_layers", "use_sliding_window", "sliding_window", "layer_types", "rope_parameters",
     "no_rope_layer_interval", "no_rope_layers", "original_max_position_embeddings", "num_hidden_layers",
     "mamba_expand", "mamba_norm_before_gate", "full_attn_idxs"}
)  # fmt: skip
"""Settings that count only where another is on: the cases of logits have those."""
ONLY_WITH_OTHERS_IN = {
    "gemma4_text": {"use_double_wide_mlp", "num_experts", "top_k_experts", "moe_intermediate_size"}
}  # fmt: skip


def written(family: str, **options: Any) -> dict[str, Any]:
    return transformers.CONFIG_MAPPING[family](**options).to_dict()


def changed(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value * 2 or 3
    if isinstance(value, list):
        return [0]
    return 3 if value is None else "something else"


@pytest.mark.parametrize("family", CASES)
def test_what_transformers_writes_is_read(family: str) -> None:
    """Every setting of its own, the generation settings that older versions kept here, and what is off."""
    older = {"max_length": 20, "top_p": 1.0, "use_bfloat16": False, "torch_dtype": "bfloat16", "auto_map": {"A": "b"}}
    off = {"some_switch": False, "some_name": None, "some_list": [], "_attn_implementation_autoset": True}
    for case in CASES[family]:
        raw = written(family, **{**SHARED, **case})
        assert read_config({**raw, **older, **off}, "x").family == family


@pytest.mark.parametrize(
    "family", sorted(CASES.keys() - {"granitemoehybrid", "deepseek_v2", "lfm2_moe", "glm4_moe"})
)  # they mean nothing that runs
def test_what_is_absent_is_what_the_family_means(family: str) -> None:
    """The sizes alone, of the family's own default, say what all settings say."""
    whole = written(family)
    sizes = {key: whole[key] for key in ("model_type", *SIZES) if key in whole}
    assert read_config(sizes, "x") == read_config(whole, "x")


@pytest.mark.parametrize("family", CASES)
def test_every_setting_is_used_or_refused(family: str) -> None:
    raw = written(family, **{**SHARED, **CASES[family][0]})
    before = read_config(raw, "x")
    ignored = []
    for name, value in raw.items():
        elsewhere = ONLY_WITH_OTHERS | ONLY_WITH_OTHERS_IN.get(family, set())
        if name in WITHOUT_EFFECT | FAMILIES[family].without_effect | elsewhere or name.startswith("_"):
            continue
        try:
            if read_config({**raw, name: changed(value)}, "x") == before:
                ignored.append(name)
        except (UnsupportedModel, ModelFileError):
            continue
    assert ignored == []


@pytest.mark.parametrize("family", ["gemma3_text", "olmo3"])
def test_an_older_scaling_is_that_of_the_layers_that_see_all(family: str) -> None:
    """As files on the hub have it, from before transformers 5."""
    raw = {key: value for key, value in written(family, **SHARED).items() if key != "rope_parameters"}
    raw |= {"rope_theta": 5e5, "rope_scaling": {"rope_type": "linear", "factor": 8.0}, "rope_local_base_freq": 2e4}
    raw["layer_types"] = ["sliding_attention", "full_attention"]
    without = raw if family == "gemma3_text" else {key: raw[key] for key in raw if key != "rope_local_base_freq"}
    theirs = transformers.CONFIG_MAPPING[family](**without).rope_parameters
    ours = [read_config(without, "x").layer(index).rope for index in range(2)]
    assert [rope.theta for rope in ours if rope] == [
        theirs[kind]["rope_theta"] for kind in ("sliding_attention", "full_attention")
    ]
    assert [bool(rope.factors) for rope in ours if rope] == [False, True]


def test_letters_say_what_a_list_says() -> None:
    """Of Nemotron-H, as files on the hub have it, from before transformers 5."""
    raw = {
        key: value for key, value in written("nemotron_h", **SHARED).items() if not key.endswith("layers_block_type")
    }
    kinds = ["mamba", "mlp", "mamba", "attention", "mlp"]
    newer = read_config({**raw, "layers_block_type": kinds}, "x")
    older = read_config({**raw, "hybrid_override_pattern": "M-M*-", "num_hidden_layers": 5}, "x")
    assert older == newer
    assert older.num_layers == 5

"""Mamba-2 itself (Dao and Gu 2024): layers of a state space and nothing else. What a model remembers does not grow."""

from __future__ import annotations

from stemma.runtime.model.config import Layer, Mamba, ModelConfig, Norms, RopeConfig
from stemma.runtime.model.families.family import GGUF, Family, Values
from stemma.runtime.model.families.reading import check_runnable
from stemma.runtime.model.families.state_space import (
    ENDLESS,
    INITIAL,
    check_activation,
    read_scan,
    renamed,
    ssm_tensors,
    undone,
)
from stemma.runtime.model.settings import Settings

NO_HEAD = 64
"""Dimensions of the one head that the keys and values of no layer have."""


def read(settings: Settings) -> ModelConfig:
    check_runnable(settings)
    check_activation(settings, "hidden_act")
    if not settings.get("rms_norm", True):
        settings.refuse("rms_norm", "a gate without a norm is not supported in models of this type")
    layers, hidden = settings.number("num_hidden_layers"), settings.number("hidden_size")
    inner, bias = int(settings.get("expand", 2) * hidden), settings.get("use_bias", False)
    scan = read_scan(settings, inner, "num_heads", "head_dim", "n_groups", "state_size")
    taps, conv_bias = settings.number("conv_kernel", 4), settings.get("use_conv_bias", True)
    return ModelConfig(
        name="",
        family="",
        num_layers=layers,
        num_heads=1,
        num_kv_heads=1,
        head_dim=NO_HEAD,
        hidden=hidden,
        intermediate=inner,
        vocab_size=settings.number("vocab_size"),
        context_length=settings.number("max_position_embeddings", ENDLESS),
        norm_epsilon=settings.amount("layer_norm_epsilon", 1e-5),
        rope=RopeConfig(10000.0),
        tied_embeddings=settings.get("tie_word_embeddings", False),
        layers=(Layer(None, mixer="mamba", mlp=False),) * layers,
        norms=Norms(attention="norm", mlp=None, last="model.norm_f"),
        mamba=Mamba(scan, taps, bias=bias, conv_bias=conv_bias, output_bias=bias),
    )


def told(settings: Settings) -> Values:
    """The converter says no heads of an attention, and sizes of a state instead of its heads'."""
    inner = settings.number("ssm.inner_size")
    return {
        "attention.head_count": 1, "head_dim": inner // settings.number("num_heads"),
        "expand": inner / settings.number("hidden_size"),
    }  # fmt: skip


SETTINGS = {"num_heads": "ssm.time_step_rank", "state_size": "ssm.state_size", "n_groups": "ssm.group_count",
            "conv_kernel": "ssm.conv_kernel", "layer_norm_epsilon": "attention.layer_norm_rms_epsilon",
            "head_dim": "head_dim"}  # fmt: skip
TENSORS = {**ssm_tensors("mixer"), "attn_norm": "norm", "output_norm": "model.norm_f"}
MAMBA2 = Family(
    read,
    GGUF("mamba2", SETTINGS, TENSORS, undone, told=told),
    defaults={"num_heads": 128, "head_dim": 64, "n_groups": 8, "state_size": 128, "hidden_size": 4096,
              "num_hidden_layers": 64, "vocab_size": 32768},
    without_effect=INITIAL | {"num_attention_heads", "num_key_value_heads", "intermediate_size", "rms_norm_eps",
                              "norm_before_gate", "time_step_init_scheme", "time_step_scale"},
    tiny={"num_heads": 8, "head_dim": 16, "n_groups": 2, "state_size": 16},
    folder=renamed,
)  # fmt: skip

"""StarCoder 2 (Lozhkov et al. 2024): layer norms and biases everywhere, a window, and an MLP without a gate."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import MLP, Attention, ModelConfig, Norms
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.reading import read_activation, read_sizes, read_window
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    config, bias = read_sizes(settings, epsilon="norm_epsilon"), settings.get("use_bias", True)
    return replace(
        config,
        layers=read_window(settings, config),
        attention=Attention(bias=bias, output_bias=bias),
        mlp=MLP(read_activation(settings, "gelu_tanh"), bias=bias, gate=None, up="c_fc", down="c_proj"),
        norms=Norms(kind="layer", bias=True),
    )


STARCODER2 = Family(
    read,
    GGUF("starcoder2", settings={"use_bias": "attention_bias"},
         tensors={"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}),
    defaults={"num_key_value_heads": 2, "norm_epsilon": 1e-5, "tie_word_embeddings": True},
    without_effect=frozenset({"embedding_dropout", "attention_softmax_in_fp32", "mlp_type", "norm_type",
                              "scale_attention_softmax_in_fp32", "scale_attn_weights"}),
    tiny={"rms_norm_eps": None, "norm_epsilon": 1e-5},
)  # fmt: skip

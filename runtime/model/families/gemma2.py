"""Gemma 2 (Gemma Team 2024): Gemma with norms before and behind each part, soft caps, and a window in every other
layer."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import MLP, Attention, ModelConfig, Norms, Scales
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.gemma import one_less
from stemma.runtime.model.families.reading import read_activation, read_layers, read_sizes, slides_every_other
from stemma.runtime.model.settings import Settings

NORMS = Norms(
    behind_attention="post_attention_layernorm", mlp="pre_feedforward_layernorm",
    behind_mlp="post_feedforward_layernorm", one_more=True,
)  # fmt: skip
TENSORS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
LARGEST = 46  # layers: the model of 27B parameters scales by the width of the stream, not of the heads


def read(settings: Settings) -> ModelConfig:
    config = with_caps(read_sizes(settings), settings, LARGEST)
    return replace(config, layers=read_layers(settings, config.rope, slides_every_other(settings)))


def with_caps(config: ModelConfig, settings: Settings, largest: int) -> ModelConfig:
    """What Gemma 2 and 3 share. GGUF files do not say the scale of attention, which is another in the largest."""
    bias = settings.get("attention_bias", False)
    width = config.hidden // config.num_heads if config.num_layers == largest else config.head_dim
    return replace(
        config,
        attention=Attention(
            scale=settings.amount("query_pre_attn_scalar", width) ** -0.5,
            softcap=settings.get("attn_logit_softcapping"),
            bias=bias,
            output_bias=bias,
        ),
        mlp=MLP(activation=read_activation(settings, "gelu_tanh", "hidden_activation")),
        norms=NORMS,
        scales=Scales(embedding=config.hidden**0.5, logits_softcap=settings.get("final_logit_softcapping")),
    )


GEMMA2 = Family(
    read,
    GGUF("gemma2", tensors=TENSORS, undo=one_less,
         defaults={"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "sliding_window": 4096}),
    defaults={"num_key_value_heads": 4, "head_dim": 256, "tie_word_embeddings": True, "query_pre_attn_scalar": 256,
              "sliding_window": 4096, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0},
    without_effect=frozenset({"hidden_act", "cache_implementation"}),
)  # fmt: skip

"""GLM 4 (GLM Team 2024): half of each head is rotated, in pairs of neighbours; the models of 2025 norm behind each
part too."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import MLP, Attention, ModelConfig, Norms
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.reading import read_activation, read_head_dim, read_sizes
from stemma.runtime.model.families.rope_settings import read_rope
from stemma.runtime.model.settings import Settings

NORMS = Norms(behind_attention="post_self_attn_layernorm", behind_mlp="post_mlp_layernorm")
DEFAULTS = {"num_key_value_heads": 2, "head_dim": 128, "attention_bias": True, "rms_norm_eps": 1.5625e-7}


def read(settings: Settings) -> ModelConfig:
    """The older, which transformers calls glm."""
    rotation = read_rope(settings, read_head_dim(settings), partial=0.5)
    return replace(
        read_sizes(settings, rotation),
        attention=Attention(
            rotated=rotation.rotated, interleaved=True, bias=settings.get("attention_bias", False)
        ),
        mlp=MLP(activation=read_activation(settings)),
    )  # fmt: skip


def read4(settings: Settings) -> ModelConfig:
    return replace(read(settings), norms=NORMS)


GLM = Family(read, GGUF("chatglm", tensors={"ffn_up": "mlp.gate_up_proj"}), defaults=DEFAULTS)
GLM4 = Family(
    read4,
    GGUF("glm4", tensors={"ffn_up": "mlp.gate_up_proj", "post_attention_norm": "post_self_attn_layernorm",
                          "post_ffw_norm": "post_mlp_layernorm"}),
    defaults=DEFAULTS,
)  # fmt: skip

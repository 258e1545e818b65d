"""StableLM 2 and 3B (Bellagente et al. 2024): layer norms with biases, a quarter of each head rotated, and in some
models attention and MLP side by side."""

from __future__ import annotations

from dataclasses import replace

from stemma.runtime.model.config import MLP, Attention, ModelConfig, Norms
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.reading import read_activation, read_head_dim, read_sizes
from stemma.runtime.model.families.rope_settings import read_rope
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    rotation = read_rope(settings, read_head_dim(settings), partial=0.25)
    parallel = settings.get("use_parallel_residual", False)
    if settings.get("qk_layernorm"):
        settings.refuse("qk_layernorm", "a layer norm of its own for each head is not supported")
    return replace(
        read_sizes(settings, rotation, epsilon="layer_norm_eps"),
        attention=Attention(rotated=rotation.rotated, bias=settings.get("use_qkv_bias", False)),
        mlp=MLP(activation=read_activation(settings)),
        norms=Norms(
            mlp=None if parallel else "post_attention_layernorm", kind="layer", bias=True, parallel=parallel
        ),
    )  # fmt: skip


STABLELM = Family(
    read,
    GGUF("stablelm", settings={"use_qkv_bias": "attention_bias"}),
    defaults={"num_key_value_heads": 32, "layer_norm_eps": 1e-5},
    without_effect=frozenset({"head_dim", "rotary_scaling_factor"}),
    tiny={"rms_norm_eps": None, "layer_norm_eps": 1e-5},
)

"""StableLM 2 and 3B (Bellagente et al. 2024): layer norms with biases, a quarter of each head rotated; in some
models attention and MLP side by side, and a layer norm of each head of Q and K."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from stemma.kernels.weights import StoredWeight, dequantize
from stemma.runtime.errors import ModelFileError
from stemma.runtime.model.config import MLP, Attention, ModelConfig, Norms
from stemma.runtime.model.families.family import GGUF, Family
from stemma.runtime.model.families.reading import read_activation, read_head_dim, read_sizes
from stemma.runtime.model.families.rope_settings import read_rope
from stemma.runtime.model.settings import Settings


def read(settings: Settings) -> ModelConfig:
    rotation = read_rope(settings, read_head_dim(settings), partial=0.25)
    parallel = settings.get("use_parallel_residual", False)
    normed = settings.get("qk_layernorm") or settings.get("use_qk_norm")
    return replace(
        read_sizes(settings, rotation, epsilon="layer_norm_eps"),
        attention=Attention(
            rotated=rotation.rotated, bias=settings.get("use_qkv_bias", False), norms="each" if normed else None
        ),
        mlp=MLP(activation=read_activation(settings)),
        norms=Norms(
            mlp=None if parallel else "post_attention_layernorm", kind="layer", bias=True, parallel=parallel
        ),
    )  # fmt: skip


def norms_together(tensors: Mapping[str, StoredWeight], config: ModelConfig) -> dict[str, StoredWeight]:
    """The norms of a layer's heads, which are tensors of their own in a folder, as one."""
    found, heads = {}, {"q": config.num_heads, "k": config.num_kv_heads}
    for name, tensor in tensors.items():
        single = NORM.fullmatch(name)
        if single is None:
            found[name] = tensor
        elif single["head"] == "0":
            of_heads = [
                f"{single['layer']}{single['part']}_layernorm.norms.{head}.weight"
                for head in range(heads[single["part"]])
            ]
            if missing := [other for other in of_heads if other not in tensors]:
                raise ModelFileError(f"the model's files hold no tensor {missing[0]!r}; fetch the model again")
            values = np.concatenate([dequantize(tensors[other]) for other in of_heads])
            found[f"{single['layer']}{single['part']}_norm.weight"] = StoredWeight("F32", values.shape, values)
    return found


def norms_flat(name: str, tensor: StoredWeight, config: ModelConfig) -> StoredWeight:
    """llama.cpp's converter makes one tensor of them, with a row for each head."""
    if not name.endswith(("q_norm.weight", "k_norm.weight")):
        return tensor
    return replace(tensor, shape=(math.prod(tensor.shape),), data=tensor.data.reshape(-1))


NORM = re.compile(r"(?P<layer>.*self_attn\.)(?P<part>[qk])_layernorm\.norms\.(?P<head>\d+)\.weight")
STABLELM = Family(
    read,
    GGUF("stablelm", settings={"use_qkv_bias": "attention_bias"}, undo=norms_flat),
    defaults={"num_key_value_heads": 32, "layer_norm_eps": 1e-5},
    without_effect=frozenset({"head_dim", "rotary_scaling_factor"}),
    tiny={"rms_norm_eps": None, "layer_norm_eps": 1e-5},
    folder=norms_together,
)

"""What families with Mamba-2 layers have in common: how a config.json and GGUF say their sizes, and what llama.cpp's
converter changes in their tensors."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import numpy as np

from stemma.kernels.states import Mamba2Spec
from stemma.kernels.weights import StoredWeight, dequantize
from stemma.runtime.errors import ModelFileError
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.settings import Settings

ENDLESS = 2**20
"""Tokens of context where nothing but states remembers: what llama.cpp's converter says of such models."""
INITIAL = frozenset({"time_step_min", "time_step_max", "time_step_floor", "time_step_rank", "rescale_prenorm_residual",
                     "residual_in_fp32", "chunk_size", "mamba_chunk_size", "use_mamba_kernels",
                     "mamba_ssm_cache_dtype", "num_logits_to_keep"})  # fmt: skip
"""Settings of how weights are made before a training, and of how transformers computes."""
IN_GGUF = MappingProxyType(
    {"mamba_n_heads": "ssm.time_step_rank", "mamba_n_groups": "ssm.group_count", "mamba_d_state": "ssm.state_size",
     "mamba_d_conv": "ssm.conv_kernel"}
)  # fmt: skip
OLDER = MappingProxyType({"linear_attention": "mamba", "full_attention": "attention"})
WHOLE = MappingProxyType({"backbone": "model", "embeddings": "embed_tokens", "embedding": "embed_tokens"})


def read_limits(settings: Settings) -> tuple[float, float]:
    """What time steps are held between. transformers writes infinity as a mapping. Raises UnsupportedModel where that
    is no range."""
    said = settings.get("time_step_limit", [0.0, math.inf])
    limits = [float(each["__float__"] if isinstance(each, Mapping) else each) for each in said]
    if len(limits) != 2 or not 0.0 <= limits[0] < limits[1]:
        settings.refuse("time_step_limit", "time steps are held between two numbers, the lower first")
    return limits[0], limits[1]


def read_kinds(settings: Settings, known: Collection[str], said: Sequence[str] | None = None) -> list[str]:
    """What each layer is, as older files say it; a file that does not has Mamba-2 everywhere. said: None is
    `layer_types`. Raises UnsupportedModel for kinds that are not known."""
    found = said or settings.get("layer_types") or settings.get("layers_block_type")
    kinds = [OLDER.get(kind, kind) for kind in found or ["mamba"] * settings.number("num_hidden_layers")]
    unknown = sorted(set(map(str, kinds)) - set(known))
    if unknown:
        settings.refuse("layer_types", f"layers of kind {', '.join(unknown)} are not supported")
    return kinds


def check_activation(settings: Settings, name: str) -> None:
    """Raises UnsupportedModel where what is convolved is not to go through a SiLU."""
    if settings.get(name, "silu") not in ("silu", "swish"):
        settings.refuse(name, "what Mamba-2 layers convolve goes through a SiLU; others are not supported")


def read_scan(settings: Settings, inner: int, heads: str, head_dim: str, groups: str, state: str) -> Mamba2Spec:
    """inner: heads times their size. heads, head_dim, groups, state: the names of settings."""
    low, high = read_limits(settings)
    count, said = settings.number(heads), settings.get(head_dim, "auto")
    size = inner // count if said == "auto" else settings.number(head_dim)
    spec = Mamba2Spec(count, size, settings.number(groups), settings.number(state), low, high)
    if spec.heads * spec.head_dim != inner or spec.heads % spec.groups:
        raise ModelFileError(
            f"{settings.place} says {inner} features in {spec.heads} heads of {spec.head_dim} and {spec.groups} groups "
            "of heads, which do not fit; fetch or convert the model again"
        )
    return spec


def ssm_tensors(place: str) -> dict[str, str]:
    """GGUF's names of a Mamba-2 layer's tensors, in a layer. place: what the part is called there."""
    return {
        "ssm_in": f"{place}.in_proj", "ssm_conv1d": f"{place}.conv1d", "ssm_dt.bias": f"{place}.dt_bias",
        "ssm_a": f"{place}.A_log", "ssm_d": f"{place}.D", "ssm_norm": f"{place}.norm", "ssm_out": f"{place}.out_proj",
    }  # fmt: skip


def undone(name: str, tensor: StoredWeight, config: ModelConfig) -> StoredWeight:
    """llama.cpp's converter stores -exp(A_log), and D, as columns, the norm by groups, and convolutions without the
    dimension in the middle."""
    assert config.mamba is not None
    spec, place = config.mamba.spec, config.mamba.place
    last = name.partition(f".{place}.")[2]
    if last == "A_log":
        values = np.log(-dequantize(tensor).reshape(spec.heads))
        return StoredWeight("F32", values.shape, values)
    shapes: Mapping[str, tuple[int, ...]] = {
        "D": (spec.heads,), "norm.weight": (spec.heads * spec.head_dim,),
        "conv1d.weight": (spec.width, 1, config.mamba.taps),
    }  # fmt: skip
    shape = shapes.get(last, tensor.shape)
    fits = tensor.shape != shape and tensor.data.size == math.prod(shape)
    return replace(tensor, shape=shape, data=tensor.data.reshape(shape)) if fits else tensor


def renamed(tensors: Mapping[str, StoredWeight], config: ModelConfig) -> dict[str, StoredWeight]:
    """Of folders whose network is a `backbone`, with `embeddings`."""
    return {".".join(WHOLE.get(part, part) for part in name.split(".")): tensor for name, tensor in tensors.items()}

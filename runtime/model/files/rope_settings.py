"""Rotary scalings as files say them: config.json as transformers reads it, GGUF's metadata as llama.cpp does. All that
is supported comes down to one divisor for each frequency, and what does not is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemma.kernels.weights import StoredWeight, dequantize, is_finite
from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model.config import RopeConfig
from stemma.runtime.model.families.rope import linear_factors, llama3_factors
from stemma.runtime.model.files.settings import Settings

ROPE_FACTORS = "rope_freqs.weight"
PARTIAL = "models that rotate only a part of each head are not supported"
SHARED_KEYS = frozenset(
    {"rope_type", "type", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings"}
)
YARN_KEYS = tuple(f"rope.scaling.yarn_{name}" for name in ("log_multiplier", "ext_factor", "beta_fast", "beta_slow"))
LLAMA3_KEYS = frozenset({"low_freq_factor", "high_freq_factor"})


def read_rope(settings: Settings, head_dim: int) -> RopeConfig:
    """Of a config.json. `rope_scaling`, the older spelling, goes before `rope_parameters` and hides all of it: it is
    what a user adds by hand to a file that transformers wrote."""
    newer, older = settings.get("rope_parameters"), settings.get("rope_scaling")
    place = "rope_scaling" if older else "rope_parameters"
    scaling: Mapping[str, Any] = older or newer or {}
    theta = float(_first(scaling.get("rope_theta"), settings.get("rope_theta"), 10000.0))
    kind = _first(scaling.get("rope_type"), scaling.get("type"), "default")
    if _first(scaling.get("partial_rotary_factor"), settings.get("partial_rotary_factor"), 1.0) != 1.0:
        raise UnsupportedModel(f"partial_rotary_factor: {PARTIAL}")
    whole = settings.number("max_position_embeddings")
    original = _first(
        settings.get("original_max_position_embeddings"), scaling.get("original_max_position_embeddings"), whole
    )
    if kind not in ("default", "linear", "llama3"):
        raise UnsupportedModel(f"rope scaling {kind!r} in {place} is not supported; supported: linear, llama3")
    without_effect = SHARED_KEYS | (LLAMA3_KEYS | {"factor"} if kind != "llama3" else frozenset())
    inner = Settings(scaling, f"{place} of config.json")
    factors: tuple[float, ...] = ()
    if kind == "linear":
        factors = linear_factors(head_dim, inner.amount("factor"))
    elif kind == "llama3":
        low, high = inner.amount("low_freq_factor"), inner.amount("high_freq_factor")
        factors = llama3_factors(theta, head_dim, inner.amount("factor"), low, high, original)
    inner.check_all_used(without_effect)
    return RopeConfig(theta, factors)


def read_gguf_rope(settings: Settings, tensors: Mapping[str, StoredWeight], head_dim: int) -> RopeConfig:
    """Of a GGUF file: its divisors of frequencies, times the linear factor."""
    if settings.number("rope.dimension_count", head_dim) != head_dim:
        settings.refuse("rope.dimension_count", PARTIAL)
    theta = settings.get("rope.freq_base", 10000.0)
    factor = _gguf_factor(settings)
    if ROPE_FACTORS not in tensors:
        return RopeConfig(theta, linear_factors(head_dim, factor) if factor != 1.0 else ())
    if not is_finite(tensors[ROPE_FACTORS]):
        raise ModelFileError(f"tensor {ROPE_FACTORS!r} has numbers that are NaN or infinite; fetch the model again")
    divisors = dequantize(tensors[ROPE_FACTORS]).tolist()
    if len(divisors) != head_dim // 2:
        raise ModelFileError(f"tensor {ROPE_FACTORS!r} has {len(divisors)} numbers, but a head has {head_dim // 2}")
    return RopeConfig(theta, tuple(divisor * factor for divisor in divisors))


def _gguf_factor(settings: Settings) -> float:
    """What positions are divided by. As in llama.cpp, a factor without a type is linear, 0 is none, and
    `rope.scale_linear` is its older name; yarn by a factor of 1 scales nothing."""
    for name in ("rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor"):
        if settings.get(name, 1.0) != 1.0:
            settings.refuse(name, "a factor on rotated queries and keys is not supported")
    kind = settings.get("rope.scaling.type", "linear")
    older = settings.get("rope.scale_linear", 0.0)
    factor = float(settings.get("rope.scaling.factor", older) or 1.0)
    if kind not in ("none", "linear", "yarn") or (kind == "yarn" and factor != 1.0):
        settings.refuse("rope.scaling.type", "this rope scaling is not supported; supported: linear, llama3")
    if kind == "none" or factor == 1.0:
        for name in YARN_KEYS:
            settings.get(name)  # nothing is scaled, so they are without effect
        return 1.0
    return factor


def _first(*values: Any) -> Any:
    """The first that is said."""
    return next(value for value in values if value is not None)

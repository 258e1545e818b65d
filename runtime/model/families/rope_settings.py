"""Rotary scalings as a config.json says them, read as transformers reads it. All that is supported comes down to one
divisor for each frequency and one factor of all, and what does not is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from stemma.runtime.errors import UnsupportedModel
from stemma.runtime.model.config import RopeConfig
from stemma.runtime.model.parts.scalings import (
    dynamic_growth,
    linear_factors,
    llama3_factors,
    longrope_amplitude,
    proportional_factors,
    yarn_amplitude,
    yarn_factors,
)
from stemma.runtime.model.settings import ASKED_CONTEXT, Settings

FULL, SLIDING = "full_attention", "sliding_attention"
KINDS = ("linear", "llama3", "yarn", "longrope", "dynamic", "proportional", "divisors")
SHARED_KEYS = frozenset(
    {"rope_type", "type", "rope_theta", "partial_rotary_factor", "original_max_position_embeddings",
     "max_position_embeddings", "mrope_section", "mrope_interleaved"}
)  # fmt: skip
"""Read elsewhere, or, as what parts of a head turn by an image's rows and columns, without effect on text, which has
one position in all of them."""
LLAMA3_KEYS = frozenset({"low_freq_factor", "high_freq_factor"})


@dataclass(frozen=True, slots=True)
class Rotation:
    """How a model rotates. rotated: dimensions of each head. context_length: up to where the scaling is exact."""

    rope: RopeConfig
    rotated: int
    context_length: int


def read_rope(
    settings: Settings, head_dim: int, theta: float = 10000.0, partial: float | None = None
) -> Rotation:  # fmt: skip
    """theta, partial: what a file means that does not say; partial None is a family that rotates whole heads.

    `rope_scaling`, the older spelling, goes before `rope_parameters` and hides all of it: it is what a user adds by
    hand to a file that transformers wrote.
    """
    newer = settings.get("rope_parameters", settings.meant("rope_parameters"))
    older = settings.get("rope_scaling")
    scaling: Mapping[str, Any] = older or newer or {}
    place = "rope_scaling" if older else "rope_parameters"
    return _read(settings, scaling, place, head_dim, settings.get("rope_theta", theta), partial)


def read_ropes(
    settings: Settings, head_dim: int, theta: float, local_theta: float, local_head_dim: int | None = None
) -> tuple[Rotation, Rotation]:  # fmt: skip
    """Of layers that see all, and of those with a window, which `rope_parameters` have by the kinds of layers. Older
    files, and GGUF, have one scaling, which is that of the layers that see all."""
    newer = settings.get("rope_parameters", settings.meant("rope_parameters") or {})
    older = settings.get("rope_scaling", {})
    nested = isinstance(newer.get(FULL), Mapping) or isinstance(newer.get(SLIDING), Mapping)
    full = {**((newer.get(FULL) or {}) if nested else newer), **older}
    local = (newer.get(SLIDING) or {}) if nested else {"partial_rotary_factor": 1.0}
    whole = settings.get("rope_theta", theta)
    return (
        _read(settings, full, "rope_parameters", head_dim, whole, None),
        _read(settings, local, "rope_parameters", local_head_dim or head_dim, local_theta, None),
    )


def _read(
    settings: Settings, scaling: Mapping[str, Any], place: str, head_dim: int, theta: float, partial: float | None
) -> Rotation:  # fmt: skip
    whole = settings.number("max_position_embeddings")
    inner = Settings({"rope_theta": theta} | _said(scaling), f"{place} of config.json")
    share = inner.get("partial_rotary_factor", settings.get("partial_rotary_factor", partial or 1.0))
    whole_heads = inner.get("rope_type") == "proportional"
    if partial is None and share != 1.0 and not whole_heads:
        said = inner if settings.get("partial_rotary_factor") is None else settings
        said.refuse("partial_rotary_factor", "models of this type rotate whole heads")
    original = settings.get("original_max_position_embeddings", inner.get("original_max_position_embeddings", whole))
    rotated = head_dim if whole_heads else int(head_dim * share)
    if rotated % 2:
        raise UnsupportedModel(f"{rotated} of a head's {head_dim} dimensions are rotated, which are no pairs")
    return _rotation(inner, rotated, Contexts(whole, int(original), settings.get(ASKED_CONTEXT)), place)


def _said(scaling: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in scaling.items() if value is not None}


class Contexts(NamedTuple):
    """Tokens that the files promise, those of the text that the model was trained on first, and those asked for."""

    whole: int
    original: int
    asked: int | None


def _rotation(inner: Settings, rotated: int, contexts: Contexts, place: str) -> Rotation:
    whole, original, asked = contexts
    kind = inner.get("rope_type", inner.get("type", "default"))
    theta = float(inner.get("rope_theta"))
    kind = "longrope" if kind == "su" else kind
    if kind != "default" and kind not in KINDS:
        raise UnsupportedModel(f"rope scaling {kind!r} in {place} is not supported; supported: {', '.join(KINDS[:-1])}")
    without_effect = SHARED_KEYS | (LLAMA3_KEYS if kind != "llama3" else frozenset())
    factors: tuple[float, ...] = ()
    amplitude, context = 1.0, whole
    if kind == "linear":
        factors = linear_factors(rotated, inner.amount("factor"))
    elif kind == "proportional":
        factors = proportional_factors(rotated, inner.get("partial_rotary_factor", 1.0), inner.get("factor", 1.0))
    elif kind == "llama3":
        low, high = inner.amount("low_freq_factor"), inner.amount("high_freq_factor")
        factors = llama3_factors(theta, rotated, inner.amount("factor"), low, high, original)
    elif kind == "yarn":
        factors, amplitude = _yarn(inner, theta, rotated, whole, original)
    elif kind == "longrope":
        context = whole if asked is not None and asked > original else min(whole, original)
        factors, amplitude = _longrope(inner, rotated, whole, original, "long" if context > original else "short")
    elif kind == "dynamic" and inner.get("alpha"):
        theta *= inner.amount("alpha") ** (rotated / (rotated - 2))
        without_effect |= {"factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim"}
    elif kind == "divisors":
        factors, amplitude = tuple(inner.need("divisors")), inner.get("attention_factor", 1.0)
    elif kind == "dynamic" and asked is not None and asked > whole:
        context = min(asked, int(whole * inner.amount("factor")))
        theta *= dynamic_growth(inner.amount("factor"), context / whole, rotated)
    else:
        without_effect |= {"factor"}  # up to the context that the model was trained on, dynamic scaling is none
    if inner.get("llama_4_scaling_beta"):
        context = min(context, original)  # from there on queries grow with their position (Ministral 3)
    inner.check_all_used(without_effect)
    return Rotation(RopeConfig(theta, factors, amplitude), rotated, context)


def _yarn(inner: Settings, theta: float, rotated: int, whole: int, original: int) -> tuple[tuple[float, ...], float]:
    factor = float(inner.get("factor", whole / original))
    slope, all_slope = inner.get("mscale"), inner.get("mscale_all_dim")
    amplitude = inner.get("attention_factor")
    if amplitude is None:
        both = bool(slope and all_slope)
        amplitude = (
            yarn_amplitude(factor, slope) / yarn_amplitude(factor, all_slope) if both else yarn_amplitude(factor)
        )
    fast, slow = inner.get("beta_fast") or 32, inner.get("beta_slow") or 1
    factors = yarn_factors(theta, rotated, factor, fast, slow, original, inner.get("truncate", True))
    return factors, float(amplitude)


def _longrope(inner: Settings, rotated: int, whole: int, original: int, kind: str) -> tuple[tuple[float, ...], float]:
    """The short factors are those of the context that the model was trained on, the long ones of a longer one that was
    asked for. A key has one place in the KV whatever comes behind it, so the frequencies cannot change with the length,
    as they do in transformers."""
    divisors = {name: inner.need(f"{name}_factor") for name in ("short", "long")}
    for name, said in divisors.items():
        if len(said) != rotated // 2:
            inner.refuse(f"{name}_factor", f"that is not one number for each of {rotated // 2} frequencies")
    factor = inner.get("factor", whole / original)
    amplitude = inner.get("attention_factor", longrope_amplitude(factor, original))
    return tuple(float(divisor) for divisor in divisors[kind]), float(amplitude)

"""Matrices of a layer's experts as one launch reads them: those of each layout one behind the other."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from stemma.kernels.triton.packing import (
    DenseLinear,
    GroupedLinear,
    PackedLinear,
    TritonLinear,
    as_packed,
    unpack,
)

log = logging.getLogger(__name__)


def group(made: Sequence[TritonLinear], dtype: torch.dtype) -> tuple[GroupedLinear, ...]:
    """Matrices of one shape, those of each layout together, so that none becomes what it is not: in a file of several
    formats, or where some were left out when a model was quantised. Only what has inputs in an order of its own becomes
    dense, because rows are put in order for all experts at once; a warning says what that takes."""
    linears = [as_packed(linear) for linear in made]
    ordered = [linear for linear in linears if isinstance(linear, PackedLinear) and linear.order is not None]
    if ordered:
        numbers = sum(linear.in_features * linear.out_features for linear in ordered)
        log.warning(
            "%d matrices of experts are kept dense, because each has an order of its inputs (desc_act): %.2f GB where "
            "four bits take %.2f", len(ordered), numbers * dtype.itemsize / 1e9, numbers * 5 / 8e9,
        )  # fmt: skip
        linears = [unpack(linear, dtype) if linear in ordered else linear for linear in linears]
    sizes = linears[0].in_features, linears[0].out_features
    assert {(linear.in_features, linear.out_features) for linear in linears} == {sizes}, "experts of several shapes"
    by_layout: dict[Any, list[int]] = {}
    for index, linear in enumerate(linears):
        layout = linear.layout if isinstance(linear, PackedLinear) else "dense"
        by_layout.setdefault(layout, []).append(index)
    wholes = [_stacked([linears[index] for index in chosen]) for chosen in by_layout.values()]
    if len(wholes) == 1:
        return tuple(wholes)
    return tuple(
        replace(whole, places=_places(chosen, len(linears)).to(whole.weights.device))
        for whole, chosen in zip(wholes, by_layout.values(), strict=True)
    )


def _stacked(linears: Sequence[DenseLinear | PackedLinear]) -> GroupedLinear:
    """Of one layout."""
    sizes = linears[0].in_features, linears[0].out_features
    biases = [linear.bias for linear in linears if linear.bias is not None]
    bias = torch.stack(biases) if biases else None
    packed = [linear for linear in linears if isinstance(linear, PackedLinear)]
    if not packed:
        dense = torch.stack([linear.weight for linear in linears if isinstance(linear, DenseLinear)])
        return GroupedLinear(dense, None, None, bias, *sizes, "dense", 0)
    format_, width, _ = packed[0].layout
    minima = [linear.minima for linear in packed if linear.minima is not None]
    whole = torch.stack([each.codes.view(torch.uint8) for each in packed])  # which all devices stack
    codes, scales = whole.view(packed[0].codes.dtype), torch.stack([each.scales for each in packed])
    return GroupedLinear(codes, scales, torch.stack(minima) if minima else None, bias, *sizes, format_, width)


def _places(chosen: Sequence[int], count: int) -> torch.Tensor:
    """Where each of so many stands among the chosen."""
    places = torch.full((count,), -1, dtype=torch.int32)
    places[list(chosen)] = torch.arange(len(chosen), dtype=torch.int32)
    return places

"""What the kernels of products are given, with which tile, on which grid. Outputs are the caller's."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton

from stemma.kernels.experts import ExpertsSpec
from stemma.kernels.triton.fp8 import GROUP
from stemma.kernels.triton.grouped import (
    choose_experts_kernel,
    grouped_linear_kernel,
    sort_entries_kernel,
    sum_experts_kernel,
)
from stemma.kernels.triton.launches import ELEMENTWISE_TILE, Launcher, dot_type
from stemma.kernels.triton.linear import packed_linear_kernel
from stemma.kernels.triton.packing import GroupedLinear, PackedLinear
from stemma.kernels.triton.targets import FEW, LinearTile, Target, cdiv, linear_splits, linear_tile, power_of_2

SORTED = 1024
"""Entries that a program looks at together."""


class Groups(NamedTuple):
    """Entries by expert; see grouped.py. rows: of a tile, about."""

    order: torch.Tensor
    tiles: torch.Tensor
    rows: int


class ProductKernels:
    """For one target and one type of activations."""

    def __init__(self, target: Target, dtype: torch.dtype, launch: Launcher) -> None:
        self._target = target
        self._launch = launch
        self._dot = dot_type(dtype)
        self._half = dtype == torch.float16
        self._ptx = target.backend == "cuda" and not triton.knobs.runtime.interpret

    def packed_linear(
        self,
        x: torch.Tensor,
        linear: PackedLinear,
        residual: torch.Tensor | None,
        out: torch.Tensor,
        scale: float = 1.0,
        row_scales: torch.Tensor | None = None,
    ) -> None:
        """out = residual + scale * linear(x). `out` may be `residual`: who writes a number has read it.

        row_scales: of a matrix of floats, for which x are codes.
        """
        sizes = linear.in_features, linear.out_features
        tile = self._tile(linear, len(x))
        splits = linear_splits(*sizes) if len(x) <= FEW else 1
        partials = out
        if splits > 1:
            partials = torch.empty((splits, *out.shape), dtype=torch.float32, device=out.device)
        arguments = {
            "x": x,
            "row_scales": linear.scales if row_scales is None else row_scales,
            "codes": linear.codes,
            "scales": linear.scales,
            "minima": linear.scales if linear.minima is None else linear.minima,
            "bias": linear.scales if linear.bias is None else linear.bias,
            "residual": out if residual is None else residual,
            "out": out,
            "partials": partials,
            "counters": linear.counters,
            "num_rows": len(x),
            "factor": scale,
            "IN": linear.in_features,
            "OUT": linear.out_features,
            "BIAS": linear.bias is not None,
            "RESIDUAL": residual is not None,
            "SPLITS": splits,
            **self._reading(linear, tile),
        }
        grid = (cdiv(linear.out_features, tile.outputs), cdiv(len(x), tile.rows), splits)
        self._launch(packed_linear_kernel, grid, arguments, tile.num_warps, tile.num_stages)

    def _tile(self, linear: PackedLinear | GroupedLinear, num_rows: int) -> LinearTile:
        tile = linear_tile(self._target, num_rows, linear.format == "four bits")
        return tile._replace(depth=GROUP) if linear.format == "floats" else tile

    def _reading(self, linear: PackedLinear | GroupedLinear, tile: LinearTile) -> dict[str, Any]:
        """How matrices are read: the constants of all products, and an option of Triton's."""
        return {
            "FORMAT": linear.format,
            "GROUP": linear.group,
            "MINIMA": linear.minima is not None,
            "FLOAT16": self._half,
            "PTX": self._ptx,
            "ROWS": tile.rows,
            "OUTPUTS": tile.outputs,
            "DEPTH": tile.depth,
            "SLOTS": tile.slots,
            "STAGES": tile.num_stages,
            "DOT": self._dot,
            **({"maxnreg": tile.registers} if tile.registers else {}),
        }

    def choose(
        self, spec: ExpertsSpec, outputs: torch.Tensor, correction: torch.Tensor | None, scales: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """A router's outputs -> the experts of each row, (rows, top_k) int32, and their weights, float32."""
        rows, num_experts = outputs.shape
        chosen = torch.empty((rows, spec.top_k), dtype=torch.int32, device=outputs.device)
        weights = torch.empty((rows, spec.top_k), dtype=torch.float32, device=outputs.device)
        arguments = {
            "outputs": outputs,
            "correction": weights if correction is None else correction,
            "scales": weights if scales is None else scales,
            "chosen": chosen,
            "weights": weights,
            "scaling": spec.scaling,
            "EXPERTS": num_experts,
            "TOP_K": spec.top_k,
            "CHOSEN": power_of_2(spec.top_k),
            "SCORE": spec.score,
            "GROUPS": spec.groups,
            "GROUPS_PAD": power_of_2(spec.groups),
            "MEMBERS_PAD": power_of_2(num_experts // spec.groups),
            "TOP_GROUPS": spec.top_groups,
            "TWO_BEST": spec.group_score == "two best",
            "CORRECTION": correction is not None,
            "RENORMALISE": spec.renormalise,
            "SCALES": scales is not None,
        }
        self._launch(choose_experts_kernel, (rows,), arguments, 1, 1)
        return chosen, weights

    def sort_entries(self, chosen: torch.Tensor, num_experts: int) -> Groups:
        """chosen: (rows, experts of each)."""
        num_entries = chosen.numel()
        # All formats have tiles of as many rows here, whatever else they differ in.
        tile = linear_tile(self._target, max(FEW, cdiv(num_entries, num_experts)))
        # Each expert that is hit has at most one tile that is not full.
        num_tiles = num_entries // tile.rows + min(num_entries, num_experts)
        order = torch.empty(num_entries, dtype=torch.int32, device=chosen.device)
        tiles = torch.empty((num_tiles, 3), dtype=torch.int32, device=chosen.device)
        arguments = {
            "chosen": chosen,
            "order": order,
            "tiles": tiles,
            "num_entries": num_entries,
            "num_tiles": num_tiles,
            "EXPERTS": num_experts,
            "BINS": power_of_2(num_experts + 1),
            "ROWS": tile.rows,
            "TILE": SORTED,
        }
        self._launch(sort_entries_kernel, (num_experts + 1,), arguments, 4, 1)
        return Groups(order, tiles, tile.rows)

    def grouped_linear(
        self, x: torch.Tensor, linear: GroupedLinear, groups: Groups, out: torch.Tensor,
        row_scales: torch.Tensor | None = None,
    ) -> None:  # fmt: skip
        """out: (entries, out_features). x: (entries, in_features), or a row for several entries beside each other.

        row_scales: of matrices of floats, for which x are codes.
        """
        tile = self._tile(linear, groups.rows)
        arguments = {
            "x": x,
            "row_scales": linear.weights if row_scales is None else row_scales,
            "weights": linear.weights,
            "scales": linear.weights if linear.scales is None else linear.scales,
            "minima": linear.weights if linear.minima is None else linear.minima,
            "bias": linear.weights if linear.bias is None else linear.bias,
            "order": groups.order,
            "tiles": groups.tiles,
            "places": groups.tiles if linear.places is None else linear.places,
            "out": out,
            "PLACED": linear.places is not None,
            "SHARED_BY": len(out) // len(x),
            "IN": linear.in_features,
            "OUT": linear.out_features,
            "BIAS": linear.bias is not None,
            **self._reading(linear, tile),
        }
        grid = (cdiv(linear.out_features, tile.outputs), len(groups.tiles))
        self._launch(grouped_linear_kernel, grid, arguments, tile.num_warps, tile.num_stages)

    def sum_experts(
        self, parts: torch.Tensor, weights: torch.Tensor, shared: tuple[torch.Tensor | None, torch.Tensor | None],
        residual: torch.Tensor | None, out: torch.Tensor, scale: float,
    ) -> None:  # fmt: skip
        """out = residual + scale * (weighted sum of parts + shared). shared: an MLP's output, and its gate's."""
        beside, gate = shared
        features = out.shape[1]
        arguments = {
            "parts": parts,
            "weights": weights,
            "shared": parts if beside is None else beside,
            "gate": parts if gate is None else gate,
            "residual": parts if residual is None else residual,
            "out": out,
            "factor": scale,
            "EXPERTS": weights.shape[1],
            "FEATURES": features,
            "TILE": ELEMENTWISE_TILE,
            "SHARED": beside is not None,
            "GATE": gate is not None,
            "RESIDUAL": residual is not None,
        }
        self._launch(sum_experts_kernel, (len(out), cdiv(features, ELEMENTWISE_TILE)), arguments, 4, 1)

"""What the kernels of products are given, with which tile, on which grid. Outputs are the caller's."""

from __future__ import annotations

import torch
import triton

from stemma.kernels.triton.launches import Launcher, dot_type
from stemma.kernels.triton.linear import packed_linear_kernel
from stemma.kernels.triton.packing import PackedLinear
from stemma.kernels.triton.targets import Target, linear_tile


class ProductKernels:
    """For one target and one type of activations."""

    def __init__(self, target: Target, dtype: torch.dtype, launch: Launcher) -> None:
        self._target = target
        self._launch = launch
        self._dot = dot_type(dtype)

    def packed_linear(
        self,
        x: torch.Tensor,
        linear: PackedLinear,
        residual: torch.Tensor | None,
        out: torch.Tensor,
        scale: float = 1.0,
    ) -> None:
        """out = residual + scale * linear(x). `out` may be `residual`: who writes a number has read it."""
        tile = linear_tile(self._target, len(x))
        arguments = {
            "x": x,
            "codes": linear.codes,
            "scales": linear.scales,
            "minima": linear.scales if linear.minima is None else linear.minima,
            "bias": linear.scales if linear.bias is None else linear.bias,
            "residual": x if residual is None else residual,
            "out": out,
            "num_rows": len(x),
            "factor": scale,
            "IN": linear.in_features,
            "OUT": linear.out_features,
            "FOUR_BITS": linear.minima is not None,
            "BIAS": linear.bias is not None,
            "RESIDUAL": residual is not None,
            "ROWS": tile.rows,
            "OUTPUTS": tile.outputs,
            "DEPTH": tile.depth,
            "DOT": self._dot,
        }
        grid = (triton.cdiv(linear.out_features, tile.outputs), triton.cdiv(len(x), tile.rows))
        self._launch(packed_linear_kernel, grid, arguments, tile.num_warps, tile.num_stages)

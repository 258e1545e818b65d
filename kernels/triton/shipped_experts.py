"""The launches of mixtures of experts, as models make them that have some: see shipped.py."""

from __future__ import annotations

import torch

from stemma.kernels.experts import ExpertsSpec
from stemma.kernels.triton.fp8 import GROUP, eight_of
from stemma.kernels.triton.launches import Launcher
from stemma.kernels.triton.packing import GroupedLinear
from stemma.kernels.triton.product_launches import ProductKernels
from stemma.kernels.triton.targets import Target

ROUTERS = (
    (ExpertsSpec(8, renormalise=True), 128),  # Qwen3-30B-A3B
    (ExpertsSpec(4, "softmax of the chosen"), 32),  # gpt-oss-20B
    (ExpertsSpec(8, "sigmoid", True, 2.5, 8, 4, "two best"), 256),  # DeepSeek-V3
)
HIDDEN, INNER, TOP_K, HELD = 2048, 768, 8, 8
"""Of Qwen3-30B-A3B, but for how many experts there are, which no product is specialised for."""


def record_experts(launch: Launcher, target: Target, dtype: torch.dtype) -> None:
    """Routers, then a decode step, one of some rows and a prompt, in each format."""
    kernels = ProductKernels(target, dtype, launch)
    for spec, num_experts in ROUTERS:
        outputs = torch.zeros(4, num_experts, dtype=dtype)
        correction = torch.zeros(num_experts) if spec.score == "sigmoid" else None
        chosen, weights = kernels.choose(spec, outputs, correction, None)
        kernels.sort_entries(chosen, num_experts)
    for rows in (1, 32, 256):
        groups = kernels.sort_entries(torch.zeros(rows, TOP_K, dtype=torch.int32), HELD)
        x, products = torch.zeros(rows, HIDDEN, dtype=dtype), torch.zeros(rows * TOP_K, 2 * INNER, dtype=dtype)
        for linear in matrices(2 * INNER, HIDDEN, dtype):
            kernels.grouped_linear(x, linear, groups, products)
        for linear in floats(2 * INNER, HIDDEN) if eight_of(target, None) == "stored" else ():
            codes = torch.zeros(x.shape, dtype=torch.uint8).view(torch.float8_e4m3fn)
            kernels.grouped_linear(codes, linear, groups, products, torch.zeros(rows, 1))
        parts, active = torch.zeros(rows * TOP_K, HIDDEN, dtype=dtype), torch.zeros(rows * TOP_K, INNER, dtype=dtype)
        for linear in matrices(HIDDEN, INNER, dtype)[: 2 if rows == 1 else 0]:
            kernels.grouped_linear(active, linear, groups, parts)
    x, weights = torch.zeros(1, HIDDEN, dtype=dtype), torch.zeros(1, TOP_K)
    parts = torch.zeros(TOP_K, HIDDEN, dtype=dtype)
    kernels.sum_experts(parts, weights, (None, None), x, x, 1.0)
    kernels.sum_experts(parts, weights, (x, x[:, :1]), None, torch.zeros_like(x), 1.0)


def floats(out_features: int, in_features: int) -> list[GroupedLinear]:
    """With a scale for each output, and for each 128 inputs."""
    codes = torch.zeros(HELD, out_features, in_features, dtype=torch.uint8).view(torch.float8_e4m3fn)
    return [
        GroupedLinear(
            codes, torch.zeros(HELD, out_features, in_features // width), None, None, in_features, out_features,
            "floats", width,
        )
        for width in (in_features, GROUP)
    ]  # fmt: skip


def matrices(out_features: int, in_features: int, dtype: torch.dtype) -> list[GroupedLinear]:
    """Dense, in four bits and in bytes."""
    shape, sizes = (HELD, out_features, in_features), (in_features, out_features)
    groups = in_features // 64
    scales = torch.zeros(HELD, out_features // 64, 2 * groups, 64, dtype=torch.float16)
    nibbles = torch.zeros(HELD, out_features // 64, groups, 64, 16, dtype=torch.int16)
    return [
        GroupedLinear(torch.zeros(shape, dtype=dtype), None, None, None, *sizes, "dense", 0),
        GroupedLinear(nibbles, scales, None, None, *sizes, "four bits", 32),
        GroupedLinear(torch.zeros(shape, dtype=torch.int8), scales, None, None, *sizes, "bytes", 32),
    ]

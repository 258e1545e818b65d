"""What is rare on GPUs and put together of torch's own operations: norms of all heads together, matrices of heads,
rotations of latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from stemma.kernels.experts import ExpertsSpec, SharedExpert
from stemma.kernels.ops import HeadNorms, HeadShape
from stemma.kernels.triton.packing import GroupedLinear, TritonNorm, TritonRope
from stemma.kernels.triton.targets import UnsupportedDevice


@dataclass(frozen=True, slots=True, eq=False)
class TritonExperts:
    spec: ExpertsSpec
    router: Any
    correction: torch.Tensor | None
    num_experts: int
    gate_up: tuple[GroupedLinear, ...]
    down: tuple[GroupedLinear, ...]
    shared: SharedExpert | None
    scales: torch.Tensor | None = None


def norm_together(qkv: torch.Tensor, heads: HeadShape, norms: HeadNorms) -> HeadNorms:
    """Norm in place what is normed over all heads of a row, or with weights of each head; the norms of single heads
    are left. Raises UnsupportedDevice for such norms behind the rotation."""
    q_size, kv_size = heads.num_heads * heads.head_dim, heads.num_kv_heads * heads.head_dim
    left: list[TritonNorm | None] = []
    for norm, part in zip(norms[:2], (qkv[:, :q_size], qkv[:, q_size : q_size + kv_size]), strict=True):
        together = norm is not None and (norm.centred or len(norm.weight) != heads.head_dim)
        left.append(None if together else norm)
        if norm is not None and together:
            if norms.after_rope:
                raise UnsupportedDevice("norms of all heads together behind the rotation are not supported on GPUs")
            x = part.float()
            if norm.centred:
                x = F.layer_norm(x.view(len(x), -1, heads.head_dim), (heads.head_dim,), eps=norm.epsilon).flatten(1)
            else:
                x = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + norm.epsilon)
            part.copy_((x * norm.weight).to(qkv.dtype))
    return HeadNorms(left[0], left[1], norms.after_rope, norms.v)


def by_heads(x: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """(tokens, heads, in), (heads, out, in) -> (tokens, heads, out)"""
    return torch.bmm(x.transpose(0, 1), matrices.transpose(1, 2)).transpose(0, 1)


def turned(x: torch.Tensor, rope: TritonRope, positions: torch.Tensor) -> torch.Tensor:
    """Rotate (tokens, heads, numbers)."""
    index = positions[: len(x)].long()
    cos, sin = rope.cos[index][:, None], rope.sin[index][:, None]
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).to(x.dtype)

"""What the reference makes of a model's parts: products, norms, tables, KV and plans, each as plain tensors.

They say what they are and how they are applied to rows; the operations on them stand in `reference.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from stemma.kernels.ops import AttentionMetadata, KVShape


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceLinear:
    weight: torch.Tensor  # (out_features, in_features)
    bias: torch.Tensor | None
    in_features: int
    out_features: int

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight, self.bias)


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceNorm:
    weight: torch.Tensor
    epsilon: float

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon) * self.weight


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceLayerNorm:
    weight: torch.Tensor
    bias: torch.Tensor | None
    epsilon: float

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.epsilon)


AnyNorm = ReferenceNorm | ReferenceLayerNorm


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceEmbedding:
    table: torch.Tensor
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceRope:
    cos: torch.Tensor  # (positions, head_dim / 2)
    sin: torch.Tensor

    def __call__(self, x: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Rotate (tokens, heads, head_dim)."""
        cos, sin = self.cos[positions, None, :], self.sin[positions, None, :]
        first, second = x.chunk(2, dim=-1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceKV:
    shape: KVShape
    keys: torch.Tensor  # (layers, slots, kv_heads, head_dim)
    values: torch.Tensor  # in latent attention a view of the keys

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        """What is stored."""
        return (self.keys,) if self.shape.value_dim else (self.keys, self.values)

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors)

    @property
    def format(self) -> str:
        return str(self.keys.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class ReferencePlan:
    metadata: AttentionMetadata
    positions: torch.Tensor
    slots: torch.Tensor
    context_slots: tuple[torch.Tensor, ...]  # for each sequence (context_len,)

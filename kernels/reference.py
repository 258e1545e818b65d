"""The specification in plain torch: every operation as its definition says, one sequence at a time. Never fast.

With `dtype=torch.float64` results are the same in any batch for every practical purpose; with float32, torch's matrix
products depend on the number of rows in the last bits.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from stemma.kernels.ops import (
    AttentionMetadata,
    BlockCopy,
    HeadShape,
    Int32Array,
    KVShape,
    Network,
    SamplingRows,
    StepExecutor,
    check_process,
)
from stemma.kernels.steps import EagerExecutor
from stemma.kernels.weights import StoredWeight, dequantize


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
    values: torch.Tensor

    @property
    def num_bytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes

    @property
    def format(self) -> str:
        return str(self.keys.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class ReferencePlan:
    metadata: AttentionMetadata
    positions: torch.Tensor
    slots: torch.Tensor
    context_slots: tuple[torch.Tensor, ...]  # for each sequence (context_len,)


class ReferenceOps:
    """Plain torch on any device torch knows."""

    name = "reference"

    def __init__(self, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.device = device
        self.dtype = dtype
        self._process = os.getpid()

    def _load(self, weight: StoredWeight) -> torch.Tensor:
        return dequantize(weight).to(self.device, self.dtype)

    def linear(self, parts: Sequence[StoredWeight], biases: Sequence[StoredWeight] = ()) -> ReferenceLinear:
        weight = torch.cat([self._load(part) for part in parts])
        bias = torch.cat([self._load(part) for part in biases]) if biases else None
        return ReferenceLinear(weight, bias, weight.shape[1], weight.shape[0])

    def embedding(self, weight: StoredWeight) -> torch.Tensor:
        return self._load(weight)

    def norm(self, weight: StoredWeight, epsilon: float) -> ReferenceNorm:
        return ReferenceNorm(self._load(weight), epsilon)

    def rope(self, cos: npt.NDArray[np.float32], sin: npt.NDArray[np.float32]) -> ReferenceRope:
        return ReferenceRope(
            torch.from_numpy(cos).to(self.device, self.dtype), torch.from_numpy(sin).to(self.device, self.dtype)
        )

    def kv(self, shape: KVShape) -> ReferenceKV:
        check_process(self._process)  # torch has threads too
        size = (shape.num_layers, shape.num_blocks * shape.block_size, shape.num_kv_heads, shape.head_dim)
        try:
            keys, values = (torch.zeros(size, dtype=self.dtype, device=self.device) for _ in range(2))
        except RuntimeError as error:
            raise MemoryError(f"a KV pool of {shape} does not fit {self.device}") from error
        return ReferenceKV(shape, keys, values)

    def executor(self, network: Network, heads: HeadShape, kv: ReferenceKV) -> StepExecutor:
        return EagerExecutor(self, network, kv)

    def plan(self, metadata: AttentionMetadata, shape: KVShape) -> ReferencePlan:
        size = shape.block_size
        context_slots = []
        for table, length in zip(metadata.block_tables, metadata.context_lens, strict=True):
            slots = (table.astype(np.int64)[:, None] * size + np.arange(size)).reshape(-1)[:length]
            context_slots.append(torch.from_numpy(slots).to(self.device))
        return ReferencePlan(
            metadata,
            torch.from_numpy(metadata.positions.astype(np.int64)).to(self.device),
            torch.from_numpy(metadata.slots.astype(np.int64)).to(self.device),
            tuple(context_slots),
        )

    def embed(self, embedding: torch.Tensor, ids: Int32Array) -> torch.Tensor:
        return embedding[torch.from_numpy(ids.astype(np.int64)).to(self.device)]

    def norm_linear(self, x: torch.Tensor, norm: ReferenceNorm, linear: ReferenceLinear) -> torch.Tensor:
        return linear(norm(x))

    def rope_write(
        self, qkv: torch.Tensor, heads: HeadShape, rope: ReferenceRope, q_norm: ReferenceNorm | None,
        k_norm: ReferenceNorm | None, kv: ReferenceKV, layer: int, plan: ReferencePlan,
    ) -> torch.Tensor:  # fmt: skip
        qkv = qkv.view(len(qkv), -1, heads.head_dim)
        sizes = [heads.num_heads, heads.num_kv_heads, heads.num_kv_heads]
        q, k, v = torch.split(qkv, sizes, dim=1)
        q = q if q_norm is None else q_norm(q)
        k = k if k_norm is None else k_norm(k)
        kv.keys[layer, plan.slots] = rope(k, plan.positions)
        kv.values[layer, plan.slots] = v
        return rope(q, plan.positions)

    def attention(self, q: torch.Tensor, kv: ReferenceKV, layer: int, plan: ReferencePlan) -> torch.Tensor:
        starts = plan.metadata.query_starts
        out = [
            self._attend(q[start:end], kv.keys[layer, slots], kv.values[layer, slots], plan.positions[start:end])
            for start, end, slots in zip(starts[:-1], starts[1:], plan.context_slots, strict=True)
        ]
        return torch.cat(out).reshape(len(q), -1)

    def _attend(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """One sequence: q (rows, heads, head_dim), k and v (context, kv_heads, head_dim)."""
        group = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        scores = torch.einsum("qhd,khd->hqk", q, k) * q.shape[-1] ** -0.5
        future = torch.arange(len(k), device=q.device)[None, :] > positions[:, None]
        scores = scores.masked_fill(future, float("-inf"))
        return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v)

    def linear_add(self, x: torch.Tensor, linear: ReferenceLinear, residual: torch.Tensor) -> torch.Tensor:
        return residual + linear(x)

    def norm_gated(self, x: torch.Tensor, norm: ReferenceNorm, gate_up: ReferenceLinear) -> torch.Tensor:
        gate, up = gate_up(norm(x)).chunk(2, dim=-1)
        return F.silu(gate) * up

    def logits(self, x: torch.Tensor, rows: Int32Array, norm: ReferenceNorm, head: ReferenceLinear) -> torch.Tensor:
        chosen = x[torch.from_numpy(rows.astype(np.int64)).to(self.device)]
        return head(norm(chosen)).to(torch.float32)

    def copy_blocks(self, kv: ReferenceKV, copies: Sequence[BlockCopy]) -> None:
        size = kv.shape.block_size
        for source, destination, num_tokens in copies:
            for pool in (kv.keys, kv.values):
                pool[:, destination * size : destination * size + num_tokens] = pool[
                    :, source * size : source * size + num_tokens
                ].clone()

    def _blocks(self, kv: ReferenceKV, blocks: Int32Array) -> torch.Tensor:
        size = kv.shape.block_size
        slots = (blocks.astype(np.int64)[:, None] * size + np.arange(size)).reshape(-1)
        return torch.from_numpy(slots).to(self.device)

    def read_blocks(self, kv: ReferenceKV, blocks: Int32Array) -> bytes:
        slots = self._blocks(kv, blocks)
        data = torch.stack((kv.keys[:, slots], kv.values[:, slots])).cpu().contiguous()
        return data.view(torch.uint8).numpy().tobytes()

    def write_blocks(self, kv: ReferenceKV, blocks: Int32Array, data: bytes) -> None:
        slots = self._blocks(kv, blocks)
        shape = (2, kv.shape.num_layers, len(slots), kv.shape.num_kv_heads, kv.shape.head_dim)
        if len(data) != int(np.prod(shape)) * self.dtype.itemsize:
            raise ValueError(
                f"{len(data)} bytes do not fit {len(blocks)} blocks of {kv.shape}; the snapshot is another model's"
            )
        values = torch.frombuffer(bytearray(data), dtype=self.dtype).view(shape).to(self.device)
        kv.keys[:, slots], kv.values[:, slots] = values[0], values[1]

    def apply_mask(self, logits: torch.Tensor, mask: npt.NDArray[np.uint32], rows: Int32Array) -> None:
        bits = np.unpackbits(mask.view(np.uint8), axis=1, bitorder="little", count=logits.shape[1])
        refused = torch.from_numpy(bits == 0).to(logits.device)
        index = torch.from_numpy(rows.astype(np.int64)).to(logits.device)
        logits[index] = logits[index].masked_fill(refused, float("-inf"))

    def sample(self, logits: torch.Tensor, rows: SamplingRows) -> Int32Array:
        tokens = [self._sample_row(row, rows, index) for index, row in enumerate(logits)]
        return np.array(tokens, dtype=np.int32)

    def _sample_row(self, logits: torch.Tensor, rows: SamplingRows, index: int) -> int:
        if rows.temperature[index] == 0:
            return int(logits.argmax())
        probabilities = (logits.double() / float(rows.temperature[index])).softmax(-1)
        ordered, ids = probabilities.sort(descending=True, stable=True)
        keep = torch.ones_like(ordered, dtype=torch.bool)
        if rows.top_k[index] > 0:
            keep[int(rows.top_k[index]) :] = False
        kept = ordered * keep
        before = kept.cumsum(-1) - kept
        keep &= before < float(rows.top_p[index]) * kept.sum()
        keep &= ordered >= float(rows.min_p[index]) * ordered[0]
        keep[0] = True
        allowed = torch.zeros_like(probabilities).scatter(0, ids, ordered * keep)
        cumulative = allowed.cumsum(-1)
        above = cumulative > float(rows.uniform[index]) * cumulative[-1]
        return int(above.to(torch.int8).argmax())

"""The specification in plain torch: every operation as its definition says, one sequence at a time. Never fast.

With `dtype=torch.float64` results are the same in any batch for every practical purpose; with float32, torch's matrix
products depend on the number of rows in the last bits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from stemma.kernels.experts import Activation, ExpertsSpec, GatedActivation, SharedExpert
from stemma.kernels.limits import WORKSPACE_BYTES, StepLimits, Widths, step_bytes
from stemma.kernels.memory import Memory, MemoryShape
from stemma.kernels.ops import (
    AttentionMetadata,
    AttentionSpec,
    BlockCopy,
    HeadNorms,
    HeadShape,
    Int32Array,
    KVShape,
    Network,
    SamplingRows,
    StepExecutor,
    check_process,
)
from stemma.kernels.reference_experts import ReferenceExperts, apply_experts
from stemma.kernels.reference_states import ReferenceStateOps
from stemma.kernels.reference_values import (
    AnyNorm,
    ReferenceEmbedding,
    ReferenceKV,
    ReferenceLayerNorm,
    ReferenceLinear,
    ReferenceNorm,
    ReferencePlan,
    ReferenceRope,
)
from stemma.kernels.sampled import AtOnce
from stemma.kernels.steps import EagerExecutor
from stemma.kernels.tensors import TensorLogits, TensorRows, definite, free_memory
from stemma.kernels.weights import StoredWeight, dequantize

ACTIVATIONS: Mapping[str, Callable[[torch.Tensor], torch.Tensor]] = MappingProxyType(
    {"silu": F.silu, "gelu": F.gelu, "gelu_tanh": partial(F.gelu, approximate="tanh"),
     "relu2": lambda x: F.relu(x).square()}
)  # fmt: skip


def _capped(x: torch.Tensor, softcap: float | None) -> torch.Tensor:
    return x if softcap is None else softcap * torch.tanh(x / softcap)


def _gated(both: torch.Tensor, activation: GatedActivation) -> torch.Tensor:
    """Gates and ups, side by side."""
    gate, up = both.chunk(2, dim=-1)
    if activation == "clamped_silu":
        gate, up = gate.clamp(max=7.0), up.clamp(-7.0, 7.0)
        return gate * torch.sigmoid(1.702 * gate) * (up + 1)
    return ACTIVATIONS[activation](gate) * up


def _norm_heads(x: torch.Tensor, norm: AnyNorm | None) -> torch.Tensor:
    """(tokens, heads, head_dim), each head by itself or all of a token together, as the norm is."""
    if isinstance(norm, ReferenceLayerNorm):
        return F.layer_norm(x, x.shape[-1:], eps=norm.epsilon) * norm.weight.view(x.shape[1:])
    return x if norm is None else norm(x.reshape(len(x), -1, norm.weight.shape[0])).view(x.shape)


def _attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, positions: torch.Tensor, spec: AttentionSpec
) -> torch.Tensor:
    """One sequence: q (rows, heads, head_dim), k and v (context, kv_heads, head_dim)."""
    group = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
    scores = _capped(torch.einsum("qhd,khd->hqk", q, k) * spec.scale, spec.softcap)
    key_positions = torch.arange(len(k), device=q.device)[None, :]
    hidden = key_positions > positions[:, None]
    if spec.window is not None:
        hidden |= key_positions <= positions[:, None] - spec.window
    scores = scores.masked_fill(hidden, float("-inf"))
    v = v.masked_fill(hidden.all(0)[:, None, None], 0.0)  # nobody's: the blocks behind a window hold anything
    if spec.sinks:
        sinks = torch.tensor(spec.sinks, dtype=q.dtype, device=q.device)[:, None, None]
        scores = torch.cat((scores, sinks.expand(-1, len(q), 1)), dim=-1)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1)[..., : len(k)], v)


class ReferenceOps(AtOnce, TensorLogits):
    """Plain torch on any device torch knows."""

    name = "reference"

    def __init__(self, device: torch.device, dtype: torch.dtype = torch.float32) -> None:
        self.device = device = definite(device)
        self.dtype = dtype
        self._process = os.getpid()
        self.states = ReferenceStateOps(device, dtype)
        self.rows, self.free_memory = TensorRows(), partial(free_memory, device)

    def _load(self, weight: StoredWeight) -> torch.Tensor:
        return torch.from_numpy(dequantize(weight)).to(self.device, self.dtype)

    def linear(
        self, parts: Sequence[StoredWeight], biases: Sequence[StoredWeight] = (), exact: bool = False
    ) -> ReferenceLinear:
        weight = torch.cat([self._load(part) for part in parts])
        bias = torch.cat([self._load(part) for part in biases]) if biases else None
        return ReferenceLinear(weight, bias, weight.shape[1], weight.shape[0])

    def embedding(self, weight: StoredWeight, scale: float = 1.0) -> ReferenceEmbedding:
        return ReferenceEmbedding(self._load(weight), scale)

    def norm(self, weight: StoredWeight, epsilon: float) -> ReferenceNorm:
        return ReferenceNorm(self._load(weight), epsilon)

    def layer_norm(self, weight: StoredWeight, bias: StoredWeight | None, epsilon: float) -> ReferenceLayerNorm:
        return ReferenceLayerNorm(self._load(weight), None if bias is None else self._load(bias), epsilon)

    def rope(self, cos: npt.NDArray[np.float32], sin: npt.NDArray[np.float32]) -> ReferenceRope:
        return ReferenceRope(
            torch.from_numpy(cos).to(self.device, self.dtype), torch.from_numpy(sin).to(self.device, self.dtype)
        )

    def head_linear(self, weights: Sequence[StoredWeight]) -> torch.Tensor:
        return torch.stack([self._load(weight) for weight in weights])

    def experts(
        self, spec: ExpertsSpec, router: Any, correction: StoredWeight | None, gate_up: Sequence[Any],
        down: Sequence[Any], shared: SharedExpert | None = None, scales: StoredWeight | None = None,
    ) -> ReferenceExperts:  # fmt: skip
        added, factors = (None if each is None else self._load(each) for each in (correction, scales))
        return ReferenceExperts(spec, router, added, gate_up, down, shared, factors)

    def kv(self, shape: KVShape) -> ReferenceKV:
        check_process(self._process)  # torch has threads too
        size = (shape.num_layers, shape.num_blocks * shape.block_size, shape.num_kv_heads, shape.head_dim)
        try:
            keys = torch.zeros(size, dtype=self.dtype, device=self.device)
            values = keys[..., : shape.value_dim] if shape.value_dim else torch.zeros_like(keys)
        except RuntimeError as error:
            raise MemoryError(f"a KV pool of {shape} does not fit {self.device}") from error
        return ReferenceKV(shape, keys, values)

    def reserve(self, shape: MemoryShape, num_heads: int, limits: StepLimits, widths: Widths) -> int:
        if self.device.type == "cpu":
            return 0
        heads = (num_heads + 2 * shape.full.num_kv_heads) * shape.full.head_dim
        return step_bytes(limits, widths, heads, self.dtype.itemsize) + WORKSPACE_BYTES

    def executor(
        self, network: Network, num_heads: int, memory: Memory, limits: StepLimits | None = None
    ) -> StepExecutor:
        return EagerExecutor(self, network, memory)

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

    def embed(self, embedding: ReferenceEmbedding, ids: Int32Array) -> torch.Tensor:
        return embedding.table[torch.from_numpy(ids.astype(np.int64)).to(self.device)] * embedding.scale

    def norm_linear(self, x: torch.Tensor, norm: AnyNorm | None, linear: ReferenceLinear) -> torch.Tensor:
        return linear(x if norm is None else norm(x))

    def rope_write(
        self, qkv: torch.Tensor, heads: HeadShape, rope: ReferenceRope | None, norms: HeadNorms | None,
        kv: ReferenceKV, layer: int, plan: ReferencePlan,
    ) -> torch.Tensor:  # fmt: skip
        qkv = qkv.view(len(qkv), -1, heads.head_dim)
        q, k, v = torch.split(qkv, [heads.num_heads, heads.num_kv_heads, heads.num_kv_heads], dim=1)
        if norms is not None and not norms.after_rope:
            q, k = _norm_heads(q, norms.q), _norm_heads(k, norms.k)
        if rope is not None:
            q, k = rope(q, plan.positions), rope(k, plan.positions)
        if norms is not None and norms.after_rope:
            q, k = _norm_heads(q, norms.q), _norm_heads(k, norms.k)
        if not heads.num_kv_heads:
            return q
        v = v if norms is None else _norm_heads(v, norms.v)
        kept = plan.slots >= 0
        kv.keys[layer, plan.slots[kept]] = k[kept]
        kv.values[layer, plan.slots[kept]] = v[kept]
        return q

    def multiply_heads(self, x: torch.Tensor, linear: torch.Tensor) -> torch.Tensor:
        by_head = x.view(len(x), len(linear), -1)
        return torch.einsum("thi,hoi->tho", by_head, linear).reshape(len(x), -1)

    def latent_write(
        self, latent: torch.Tensor, norm: ReferenceNorm, rope: ReferenceRope, kv: ReferenceKV, layer: int,
        plan: ReferencePlan,
    ) -> None:  # fmt: skip
        width = len(norm.weight)
        rotated = rope(latent[:, None, width:], plan.positions)
        kept = plan.slots >= 0
        keys = torch.cat((norm(latent[:, :width])[:, None], rotated), dim=-1)
        kv.keys[layer, plan.slots[kept]] = keys[kept]

    def latent_queries(
        self, q: torch.Tensor, keys: torch.Tensor, rope: ReferenceRope, plan: ReferencePlan
    ) -> torch.Tensor:
        plain, turned = torch.tensor_split(q.view(len(q), len(keys), -1), [keys.shape[2]], dim=-1)
        absorbed = torch.einsum("thi,hoi->tho", plain, keys)
        return torch.cat((absorbed, rope(turned, plan.positions)), dim=-1)

    def attention(
        self, q: torch.Tensor, kv: ReferenceKV, layer: int, plan: ReferencePlan, spec: AttentionSpec
    ) -> torch.Tensor:
        starts = plan.metadata.query_starts
        out = [
            _attend(q[start:end], kv.keys[layer, slots], kv.values[layer, slots], plan.positions[start:end], spec)
            for start, end, slots in zip(starts[:-1], starts[1:], plan.context_slots, strict=True)
        ]
        return torch.cat(out).reshape(len(q), -1)

    def linear_add(
        self, x: torch.Tensor, linear: ReferenceLinear, residual: torch.Tensor, scale: float = 1.0
    ) -> torch.Tensor:
        return residual + scale * linear(x)

    def linear_norm_add(
        self, x: torch.Tensor, linear: ReferenceLinear, norm: AnyNorm, residual: torch.Tensor, scale: float = 1.0
    ) -> torch.Tensor:
        return residual + scale * norm(linear(x))

    def norm_add(
        self, x: torch.Tensor, norm: ReferenceNorm, residual: torch.Tensor | None, scale: float = 1.0,
        keep: float = 1.0,
    ) -> torch.Tensor:  # fmt: skip
        normed = scale * norm(x.reshape(-1, len(norm.weight))).view(x.shape)
        return normed if residual is None else keep * residual + normed

    def norm_gated(
        self, x: torch.Tensor, norm: AnyNorm | None, gate_up: ReferenceLinear, activation: GatedActivation
    ) -> torch.Tensor:
        return _gated(self.norm_linear(x, norm, gate_up), activation)

    def gated(self, both: torch.Tensor, activation: GatedActivation) -> torch.Tensor:
        return _gated(both, activation)

    def norm_activated(
        self, x: torch.Tensor, norm: AnyNorm | None, up: ReferenceLinear, activation: Activation
    ) -> torch.Tensor:
        return ACTIVATIONS[activation](self.norm_linear(x, norm, up))

    def norm_experts_add(
        self, x: torch.Tensor, norm: AnyNorm | None, experts: ReferenceExperts, residual: torch.Tensor | None,
        scale: float = 1.0,
    ) -> torch.Tensor:  # fmt: skip
        spec = experts.spec
        gate = partial(_gated, activation=spec.activation) if spec.gated else ACTIVATIONS[spec.activation]
        found = scale * apply_experts(x if norm is None else norm(x), experts, gate)
        return found if residual is None else residual + found

    def logits(
        self, x: torch.Tensor, rows: Int32Array, norm: AnyNorm, head: ReferenceLinear, softcap: float | None = None
    ) -> torch.Tensor:
        chosen = x[torch.from_numpy(rows.astype(np.int64)).to(self.device)]
        return _capped(head(norm(chosen)), softcap).to(torch.float32)

    def norm_rows(self, x: torch.Tensor, rows: Int32Array, norm: AnyNorm) -> torch.Tensor:
        return norm(x[torch.from_numpy(rows.astype(np.int64)).to(self.device)]).to(torch.float32)

    def copy_blocks(self, kv: ReferenceKV, copies: Sequence[BlockCopy]) -> None:
        size = kv.shape.block_size
        for source, destination, num_tokens in copies:
            for pool in kv.tensors:
                pool[:, destination * size : destination * size + num_tokens] = pool[
                    :, source * size : source * size + num_tokens
                ].clone()

    def _blocks(self, kv: ReferenceKV, blocks: Int32Array) -> torch.Tensor:
        size = kv.shape.block_size
        slots = (blocks.astype(np.int64)[:, None] * size + np.arange(size)).reshape(-1)
        return torch.from_numpy(slots).to(self.device)

    def read_blocks(self, kv: ReferenceKV, blocks: Int32Array) -> bytes:
        slots = self._blocks(kv, blocks)
        data = torch.stack([tensor[:, slots] for tensor in kv.tensors]).cpu().contiguous()
        return data.view(torch.uint8).numpy().tobytes()

    def write_blocks(self, kv: ReferenceKV, blocks: Int32Array, data: bytes) -> None:
        slots = self._blocks(kv, blocks)
        shape = (len(kv.tensors), kv.shape.num_layers, len(slots), kv.shape.num_kv_heads, kv.shape.head_dim)
        if len(data) != int(np.prod(shape)) * self.dtype.itemsize:
            raise ValueError(
                f"{len(data)} bytes do not fit {len(blocks)} blocks of {kv.shape}; the snapshot is another model's"
            )
        if not data:
            return  # no layer has KV in this pool
        values = torch.frombuffer(bytearray(data), dtype=self.dtype).view(shape).to(self.device)
        for tensor, stored in zip(kv.tensors, values, strict=True):
            tensor[:, slots] = stored

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

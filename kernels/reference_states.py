"""The specification of layers with a state in plain torch: one token after the other, as the formulas say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from stemma.kernels.states import ZEROS, DeltaRuleSpec, Mamba2Spec, StateMetadata, StateShape
from stemma.kernels.weights import StoredWeight, dequantize


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceStates:
    """conv: of each layer (slots, earlier inputs, channels). recurrent: (slots, heads, rows, columns)."""

    shape: StateShape
    conv: tuple[torch.Tensor, ...]
    recurrent: tuple[torch.Tensor, ...]

    @property
    def num_bytes(self) -> int:
        return sum(tensor.nbytes for tensor in (*self.conv, *self.recurrent))

    @property
    def format(self) -> str:
        return str(self.conv[0].dtype)


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceConv:
    weight: torch.Tensor  # (channels, taps)
    bias: torch.Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceDelta:
    spec: DeltaRuleSpec
    decay: torch.Tensor
    dt_bias: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceScan:
    spec: Mamba2Spec
    decay: torch.Tensor
    skip: torch.Tensor
    dt_bias: torch.Tensor


class Piece(NamedTuple):
    first: int
    last: int
    source: int
    target: int


class ReferenceStateOps:
    """Plain torch on any device torch knows."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device, self._dtype = device, dtype
        self._wide = torch.float64 if dtype == torch.float64 else torch.float32

    def allocate(self, shape: StateShape) -> ReferenceStates:
        try:
            conv = tuple(self._zeros(shape.num_slots, layer.conv[1], layer.conv[0]) for layer in shape.layers)
            recurrent = tuple(self._zeros(shape.num_slots, *layer.recurrent) for layer in shape.layers)
        except RuntimeError as error:
            raise MemoryError(f"slots of {shape.num_slots * shape.slot_bytes:,} bytes do not fit") from error
        return ReferenceStates(shape, conv, recurrent)

    def _zeros(self, *size: int) -> torch.Tensor:
        return torch.zeros(size, dtype=self._wide, device=self._device)

    def plan(self, metadata: StateMetadata, shape: StateShape) -> tuple[Piece, ...]:
        starts = metadata.starts.tolist()
        slots = zip(metadata.sources.tolist(), metadata.targets.tolist(), strict=True)
        return tuple(Piece(starts[index], starts[index + 1], *pair) for index, pair in enumerate(slots))

    def _load(self, weight: StoredWeight) -> torch.Tensor:
        return torch.from_numpy(dequantize(weight)).to(self._device, self._wide)

    def conv(self, weight: StoredWeight, bias: StoredWeight | None) -> ReferenceConv:
        return ReferenceConv(self._load(weight), None if bias is None else self._load(bias))

    def delta_rule(self, spec: DeltaRuleSpec, decay: StoredWeight, dt_bias: StoredWeight) -> ReferenceDelta:
        return ReferenceDelta(spec, self._load(decay), self._load(dt_bias))

    def mamba2(
        self, spec: Mamba2Spec, decay: StoredWeight, skip: StoredWeight, dt_bias: StoredWeight
    ) -> ReferenceScan:  # fmt: skip
        return ReferenceScan(spec, self._load(decay), self._load(skip), self._load(dt_bias))

    # A step ----------------------------------------------------------------
    def short_conv(
        self, x: torch.Tensor, conv: ReferenceConv, activation: Literal["silu", "none"], states: ReferenceStates,
        layer: int, plan: Sequence[Piece],
    ) -> torch.Tensor:  # fmt: skip
        out = torch.empty_like(x)
        for piece, state in _pieces(states.conv[layer], plan):
            inputs = torch.cat((state, x[piece.first : piece.last].to(self._wide)))  # (earlier + tokens, channels)
            windows = inputs.unfold(0, conv.weight.shape[1], 1)  # (tokens, channels, taps)
            y = (windows * conv.weight).sum(-1)
            y = y if conv.bias is None else y + conv.bias
            out[piece.first : piece.last] = (F.silu(y) if activation == "silu" else y).to(x.dtype)
            states.conv[layer][piece.target] = inputs[len(inputs) - len(state) :]
        return out

    def gated_delta(
        self, qkv: torch.Tensor, beta: torch.Tensor, step: torch.Tensor, rule: ReferenceDelta, states: ReferenceStates,
        layer: int, plan: Sequence[Piece],
    ) -> torch.Tensor:  # fmt: skip
        spec = rule.spec
        q, k, v = _heads_of(qkv.to(self._wide), spec)
        factor = torch.exp(-rule.decay.exp() * F.softplus(step.to(self._wide) + rule.dt_bias))
        weight = beta.to(self._wide).sigmoid()
        out = torch.empty_like(v)
        for piece, state in _pieces(states.recurrent[layer], plan):
            for t in range(piece.first, piece.last):
                state = factor[t, :, None, None] * state
                error = weight[t, :, None] * (v[t] - torch.einsum("hk,hkv->hv", k[t], state))
                state = state + k[t, :, :, None] * error[:, None, :]
                out[t] = torch.einsum("hk,hkv->hv", q[t], state)
            states.recurrent[layer][piece.target] = state
        return out.reshape(len(qkv), -1).to(qkv.dtype)

    def selective_scan(
        self, x: torch.Tensor, step: torch.Tensor, scan: ReferenceScan, states: ReferenceStates, layer: int,
        plan: Sequence[Piece],
    ) -> torch.Tensor:  # fmt: skip
        spec, per_group = scan.spec, scan.spec.heads // scan.spec.groups
        both = spec.groups * spec.state
        inputs, b, c = torch.split(x.to(self._wide), [spec.heads * spec.head_dim, both, both], dim=-1)
        inputs = inputs.reshape(len(x), spec.heads, spec.head_dim)
        b, c = (each.reshape(len(x), spec.groups, -1).repeat_interleave(per_group, dim=1) for each in (b, c))
        time = F.softplus(step.to(self._wide) + scan.dt_bias).clamp(spec.low, spec.high)
        factor = torch.exp(-scan.decay.exp() * time)
        out = torch.empty_like(inputs)
        for piece, state in _pieces(states.recurrent[layer], plan):
            for t in range(piece.first, piece.last):
                state = factor[t, :, None, None] * state + (time[t, :, None] * inputs[t])[:, :, None] * b[t, :, None]
                out[t] = torch.einsum("hds,hs->hd", state, c[t]) + scan.skip[:, None] * inputs[t]
            states.recurrent[layer][piece.target] = state
        return out.reshape(len(x), -1).to(x.dtype)

    def gated_norm(
        self, x: torch.Tensor, gate: torch.Tensor, norm: Any, groups: int, *, gate_first: bool
    ) -> torch.Tensor:
        """norm: of `ReferenceOps.norm`."""
        x = x * F.silu(gate) if gate_first else x
        parts = x.reshape(len(x), groups, -1)
        scaled = parts * torch.rsqrt(parts.pow(2).mean(-1, keepdim=True) + norm.epsilon)
        whole = len(norm.weight) == x.shape[1]
        normed: torch.Tensor = (
            scaled.reshape(x.shape) * norm.weight if whole else (scaled * norm.weight).reshape(x.shape)
        )
        return normed if gate_first else normed * F.silu(gate)

    def gate(self, x: torch.Tensor, gate: torch.Tensor, activation: Literal["none", "sigmoid", "silu"]) -> torch.Tensor:
        if activation == "none":
            return x * gate
        return x * (F.silu(gate) if activation == "silu" else gate.sigmoid())

    # Snapshots ----------------------------------------------------------------
    def read(self, states: ReferenceStates, slots: Sequence[int]) -> bytes:
        parts = [_flat(states, slot).cpu().numpy() for slot in slots]
        return np.concatenate(parts).tobytes() if parts else b""

    def write(self, states: ReferenceStates, slots: Sequence[int], data: bytes) -> None:
        size = sum(layer.size for layer in states.shape.layers)
        if len(data) != len(slots) * size * self._wide.itemsize:
            raise ValueError(f"{len(data)} bytes do not fit {len(slots)} slots; the snapshot is another model's")
        if not slots:
            return
        values = torch.frombuffer(bytearray(data), dtype=self._wide).view(len(slots), size).to(self._device)
        for slot, row in zip(slots, values, strict=True):
            _put(states, slot, row)


def _pieces(pool: torch.Tensor, plan: Sequence[Piece]) -> Iterator[tuple[Piece, torch.Tensor]]:
    """Each piece with the state that it begins with."""
    for piece in plan:
        yield piece, torch.zeros_like(pool[0]) if piece.source == ZEROS else pool[piece.source].clone()


def _heads_of(qkv: torch.Tensor, spec: DeltaRuleSpec) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values (tokens, value_heads, dim) as the rule takes them."""
    keys = spec.key_heads * spec.key_dim
    q, k, v = torch.split(qkv, [keys, keys, spec.value_heads * spec.value_dim], dim=-1)
    group = spec.value_heads // spec.key_heads

    def of_keys(x: torch.Tensor) -> torch.Tensor:
        x = x.reshape(len(x), spec.key_heads, -1)
        x = x * torch.rsqrt(x.pow(2).sum(-1, keepdim=True) + 1e-6)
        return x.repeat_interleave(group, dim=1) if spec.grouped == "repeat" else x.repeat(1, group, 1)

    return of_keys(q) * spec.key_dim**-0.5, of_keys(k), v.reshape(len(v), spec.value_heads, -1)


def _flat(states: ReferenceStates, slot: int) -> torch.Tensor:
    layers = zip(states.conv, states.recurrent, strict=True)
    return torch.cat([part[slot].reshape(-1) for layer in layers for part in layer])


def _put(states: ReferenceStates, slot: int, row: torch.Tensor) -> None:
    at = 0
    for conv, recurrent in zip(states.conv, states.recurrent, strict=True):
        for part in (conv, recurrent):
            size = part[slot].numel()
            part[slot] = row[at : at + size].view(part[slot].shape)
            at += size

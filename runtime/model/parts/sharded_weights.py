"""A rank's part of each tensor that a network asks for, under the same names.

What a network does to a matrix when it takes it (rows put in order, heads divided) it does to the part alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from stemma.kernels.weights import FORMATS, StoredWeight
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model.shards import Division, behind_each_other, scaled
from stemma.runtime.model.weights import WeightSource

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True, slots=True, eq=False)
class PartialWeight(StoredWeight):
    """Some columns of a matrix: its products are parts of a sum."""


@dataclass(frozen=True, slots=True, eq=False)
class VocabularyWeight(StoredWeight):
    """A row for each token, all of them; logits are made of some."""

    logits_of: slice


@dataclass(frozen=True, slots=True)
class Outputs:
    """Some rows, of so many."""

    chosen: list[slice]
    count: int


@dataclass(frozen=True, slots=True)
class Inputs:
    """Some columns, of so many."""

    chosen: slice
    count: int


class Once:
    """All of it, on rank 0: what is added once to a sum. The others have zeros."""


Way: TypeAlias = Outputs | Inputs | Once | None


class ShardedWeights:
    """A source of weights over another one, which has all of them."""

    def __init__(self, weights: WeightSource, division: Division) -> None:
        self._weights, self._division = weights, division
        self._head = EMBEDDING if division.whole.tied_embeddings else HEAD

    def has(self, name: str) -> bool:
        return self._weights.has(name)

    def take(self, name: str, *shape: int) -> StoredWeight:
        """This rank's part, of that shape. Raises InvalidRequest where blocks of its storage type cannot be divided
        so."""
        if name == self._head:
            found = self._weights.take(name, *shape)
            logits_of = self._division.vocabulary()
            return VocabularyWeight(found.type, found.shape, found.data, logits_of, ordered=found.ordered)
        way = self._way(name)
        if isinstance(way, Outputs):
            return _rows(self._weights.take(name, way.count, *shape[1:]), way.chosen)
        if isinstance(way, Inputs):
            return _columns(self._weights.take(name, shape[0], way.count), way.chosen, name)
        found = self._weights.take(name, *shape)
        if isinstance(way, Once) and self._division.shard.rank:
            return StoredWeight("F32", found.shape, np.zeros(found.shape, dtype=np.float32))
        return found

    def _way(self, name: str) -> Way:
        """How a tensor is divided; None is not at all."""
        start, *rest = name.split(".layers.", 1)
        if start != "model" or not rest:
            return None
        number, place = rest[0].split(".", 1)
        config = self._division.whole
        for part, way in ((config.attention.place, self._of_attention), (config.mlp.place, self._of_mlp)):
            if place.startswith(part + "."):
                return way(int(number), *place[len(part) + 1 :].split("."))
        return None

    def _of_attention(self, layer: int, name: str, kind: str = "weight") -> Way:
        attention, heads = self._division.whole.attention, self._division.whole.heads_of(layer)
        queries, kv = self._division.heads(layer), self._division.kv_heads(layer)
        if name == "sinks":
            return Outputs([queries], heads.num_heads)
        size, wide = heads.head_dim, heads.head_dim * (2 if attention.gated else 1)
        if name == attention.output:
            count = heads.num_heads * size
            return Inputs(scaled(queries, size), count) if kind == "weight" else Once()
        parts = {"q_proj": scaled(queries, wide), "k_proj": scaled(kv, size), "v_proj": scaled(kv, size)}
        counts = {"q_proj": heads.num_heads * wide, "k_proj": heads.num_kv_heads * size}
        counts["v_proj"] = counts["k_proj"]
        if name == "qkv_proj":
            sizes = list(counts.values())
            return Outputs(behind_each_other(list(parts.values()), sizes), sum(sizes))
        return Outputs([parts[name]], counts[name]) if name in parts else None

    def _of_mlp(self, layer: int, name: str, kind: str = "weight") -> Way:
        mlp, inner = self._division.whole.mlp, self._division.inner(layer)
        count = self._division.whole.layer(layer).intermediate or self._division.whole.intermediate
        if name == mlp.down:
            return Inputs(inner, count) if kind == "weight" else Once()
        if name == mlp.gate_up:
            return Outputs(behind_each_other([inner, inner], [count, count]), 2 * count)
        return Outputs([inner], count) if name in (mlp.gate, mlp.up) else None


def _rows(weight: StoredWeight, chosen: list[slice]) -> StoredWeight:
    if len(chosen) == 1:
        return weight.rows(chosen[0])
    return weight.rows(np.concatenate([np.arange(part.start, part.stop) for part in chosen]))


def _columns(weight: StoredWeight, chosen: slice, name: str) -> PartialWeight:
    """In memory of its own: a file has the rows' parts apart."""
    num_inputs, num_bytes = 1, 1
    if weight.type in FORMATS:
        num_inputs, num_bytes = FORMATS[weight.type][:2]
    if chosen.start % num_inputs or chosen.stop % num_inputs:
        raise InvalidRequest(
            f"{name} is stored in blocks of {num_inputs} numbers ({weight.type}), and a rank would begin or end inside "
            "one: take a file of another type (Q8_0, BF16), or another tensor_parallel", "tensor_parallel",
        )  # fmt: skip
    part = slice(chosen.start // num_inputs * num_bytes, chosen.stop // num_inputs * num_bytes)
    shape = (weight.shape[0], chosen.stop - chosen.start)
    found = replace(weight, shape=shape, data=np.ascontiguousarray(weight.data[:, part]))
    return PartialWeight(found.type, found.shape, found.data)

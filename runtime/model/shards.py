"""How the matrices of a model are divided among ranks (Shoeybi et al. 2019, Megatron-LM, section 3).

                      rank 0 | rank 1
    q, k, v           heads  | heads      rows: a head of KV with all queries that share it stays on one rank
    output            columns| columns    each rank's product is a part of a sum
    gate, up          rows   | rows
    down              columns| columns    again
    logits            rows   | rows       of the vocabulary, put together on rank 0

Norms, embeddings and the residual stream are whole on all. Ranks need not have equally much: three heads of KV are two
and one. Knows no process and no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from stemma.kernels.ops import HeadShape
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model.config import Layer, ModelConfig

TOKENS = 64
"""Of a vocabulary: packed tables lie in tiles of so many rows, and what begins with one needs no memory of its own."""

UNITS = (256, 32)
"""Columns of a matrix are divided where blocks of its storage type end: these are the lengths of blocks."""


class Shard(NamedTuple):
    """One of `size` ranks."""

    rank: int
    size: int

    def part(self, count: int, unit: int = 1) -> slice:
        """What this rank has of so many, in whole units. No rank has more of them than the first: what has room for its
        part has room for any."""
        whole = count // unit
        ends = [-(-whole * rank // self.size) * unit for rank in range(self.size)] + [count]
        return slice(ends[self.rank], ends[self.rank + 1])


@dataclass(frozen=True, slots=True)
class Division:
    """A model's configuration, and which part of it a rank has."""

    whole: ModelConfig
    shard: Shard

    def kv_heads(self, layer: int) -> slice:
        """Heads of keys and values of a layer."""
        return self.shard.part(self.whole.heads_of(layer).num_kv_heads)

    def heads(self, layer: int) -> slice:
        """Heads of queries of a layer."""
        return scaled(self.kv_heads(layer), _sharing(self.whole.heads_of(layer)))

    def inner(self, layer: int) -> slice:
        """What of a layer's MLP stands between its matrices."""
        size = self.whole.layer(layer).intermediate or self.whole.intermediate
        return self.shard.part(size, _unit(size, self.shard.size))

    def vocabulary(self, rank: int | None = None) -> slice:
        """Tokens whose logits a rank computes, by default this one."""
        shard = self.shard if rank is None else self.shard._replace(rank=rank)
        return shard.part(self.whole.vocab_size, TOKENS if self.whole.vocab_size >= TOKENS * shard.size else 1)

    def config(self) -> ModelConfig:
        """What this rank computes, as a model of its own, but for the vocabulary, of which it knows all."""
        whole = self.whole
        _check(whole, self.shard)
        heads = _divided(whole.heads, self.shard)
        window_heads = None if whole.window_heads is None else _divided(whole.window_heads, self.shard)
        sizes = [_len(self.inner(layer)) for layer in range(whole.num_layers)]
        layers = tuple(
            replace(each, intermediate=None if each.intermediate is None else size)
            for each, size in zip(whole.layers, sizes, strict=False)
        )
        inner = _len(self.shard.part(whole.intermediate, _unit(whole.intermediate, self.shard.size)))
        return replace(
            whole, num_heads=heads.num_heads, num_kv_heads=heads.num_kv_heads, intermediate=inner, layers=layers,
            window_heads=window_heads,
        )  # fmt: skip


def _check(config: ModelConfig, shard: Shard) -> None:
    """Raises InvalidRequest for a model of which this does not know how to be divided, and for too many ranks."""
    other = {
        "experts": config.experts, "latent attention": config.latent, "inputs of layers": config.layer_inputs,
        "states": next((layer for layer in config.layers if not _is_plain(layer)), None),
        "norms over all heads": config.attention.norms in ("width", "each") or None,
    }  # fmt: skip
    if kinds := [kind for kind, found in other.items() if found is not None]:
        raise InvalidRequest(
            f"{config.name} has {' and '.join(kinds)}, which are not divided among ranks: leave tensor_parallel at 1",
            "tensor_parallel",
        )
    least = min(heads.num_kv_heads for heads in (config.heads, config.window_heads or config.heads))
    if shard.size > least:
        raise InvalidRequest(
            f"{config.name} has {least} heads of keys and values, and each of {shard.size} ranks needs one: "
            f"tensor_parallel is at most {least}", "tensor_parallel",
        )  # fmt: skip


def _is_plain(layer: Layer) -> bool:
    return layer.mixer == "attention" and layer.mlp


def _sharing(heads: HeadShape) -> int:
    """Queries to a head of keys and values."""
    return heads.num_heads // heads.num_kv_heads


def _divided(heads: HeadShape, shard: Shard) -> HeadShape:
    num = _len(shard.part(heads.num_kv_heads))
    return HeadShape(num * _sharing(heads), num, heads.head_dim)


def _unit(size: int, ranks: int) -> int:
    """The longest block that lets each rank have some."""
    return next((unit for unit in UNITS if size % unit == 0 and size // unit >= ranks), 1)


def _len(part: slice) -> int:
    length: int = part.stop - part.start
    return length


def scaled(part: slice, factor: int) -> slice:
    """The same of what there is `factor` times of."""
    return slice(part.start * factor, part.stop * factor)


def behind_each_other(parts: Sequence[slice], sizes: Sequence[int]) -> list[slice]:
    """Parts of matrices that stand in one, whose sizes these are."""
    starts = [sum(sizes[:index]) for index in range(len(sizes))]
    return [slice(start + part.start, start + part.stop) for start, part in zip(starts, parts, strict=True)]

"""A model that several ranks compute says what it says whole; what cannot be divided is refused by name."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stemma.kernels.reference import ReferenceOps
from stemma.kernels.weights import StoredWeight, dequantize
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import GenerationDefaults, ModelConfig
from stemma.runtime.model.families.folder_config import read_config
from stemma.runtime.model.families.register import FAMILIES
from stemma.runtime.model.load import LoadedModel, Part, assemble, assemble_part
from stemma.runtime.model.parts.sharded_weights import PartialWeight, ShardedWeights
from stemma.runtime.model.shards import Division, Shard
from stemma.runtime.model.tiny import byte_tokenizer, tiny_config, tiny_tensors
from stemma.runtime.model.weights import Weights
from tests.runtime.model.family_cases import CASES, SHARED
from tests.runtime.model.running import all_logits

IDS = [(37 * at) % 250 for at in range(60)]
DIVIDED = {
    "arcee", "cohere2", "ernie4_5", "exaone4", "gemma", "gemma2", "gemma3_text", "glm", "glm4", "granite",
    "hunyuan_v1_dense", "llama", "minicpm", "ministral3", "mistral", "phi3", "qwen2", "qwen3", "seed_oss", "smollm3",
    "stablelm", "starcoder2",
}  # fmt: skip


class Threads:
    """Ranks that are threads of this process."""

    def __init__(self, size: int) -> None:
        self.rows: list[Any] = [None] * size
        self.barrier = threading.Barrier(size)

    def of(self, rank: int) -> Rank:
        return Rank(self, rank)

    def exchange(self, rank: int, rows: Any) -> list[Any]:
        self.rows[rank] = rows.clone()
        self.barrier.wait(60)
        found = list(self.rows)
        self.barrier.wait(60)
        return found


class Rank:
    def __init__(self, group: Threads, rank: int) -> None:
        self._group, self._rank = group, rank

    def sum(self, rows: Any) -> Any:
        first, *rest = self._group.exchange(self._rank, rows)
        total = first.clone()
        for part in rest:
            total += part
        return total

    def gather(self, rows: Any) -> Any:
        found = self._group.exchange(self._rank, rows)
        return rows if self._rank else torch.cat(found, dim=1)


def reference() -> ReferenceOps:
    return ReferenceOps(torch.device("cpu"), torch.float64)


def checkpoint_of(config: ModelConfig) -> Checkpoint:
    return Checkpoint(config, tiny_tensors(config, 3), byte_tokenizer(), GenerationDefaults((256,)))


def on_ranks(checkpoint: Checkpoint, size: int) -> list[Any]:
    """Each rank's logits of `IDS`."""
    group, found = Threads(size), [None] * size

    def compute(rank: int) -> None:
        part = assemble_part(checkpoint, reference(), Part(Shard(rank, size), lambda division: group.of(rank)))
        found[rank] = all_logits(part.model, IDS)

    threads = [threading.Thread(target=compute, args=(rank,)) for rank in range(size)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return found


def whole(checkpoint: Checkpoint) -> LoadedModel:
    return assemble(checkpoint, reference())


def configs(family: str) -> list[ModelConfig]:
    return [read_config({"model_type": family, **SHARED, **case}, family) for case in CASES[family]]


@pytest.mark.parametrize("family", sorted(DIVIDED & set(CASES)))
def test_two_ranks_say_what_one_says(family: str) -> None:
    divided = 0
    for config in configs(family):
        if config.num_kv_heads < 2 or config.attention.norms in ("width", "each"):
            continue
        checkpoint = checkpoint_of(config)
        torch.testing.assert_close(
            on_ranks(checkpoint, 2)[0], all_logits(whole(checkpoint).model, IDS), rtol=1e-9, atol=1e-9
        )
        divided += 1
    assert divided


@pytest.mark.parametrize("size", [2, 3])
def test_ranks_need_not_have_equally_much(size: int) -> None:
    config = replace(tiny_config("llama"), num_heads=9, num_kv_heads=3, intermediate=160, tied_embeddings=True)
    checkpoint = checkpoint_of(config)
    made = on_ranks(checkpoint, size)[0]
    torch.testing.assert_close(made, all_logits(whole(checkpoint).model, IDS), rtol=1e-9, atol=1e-9)


def test_all_families_are_divided_or_refused() -> None:
    refused = {family: refusal(Division(tiny_config(family), Shard(0, 2))) for family in FAMILIES}
    divided = {family for family, param in refused.items() if param is None}
    assert set(refused.values()) == {None, "tensor_parallel"}
    assert divided >= DIVIDED & set(FAMILIES)
    assert divided.isdisjoint({"gpt_oss", "lfm2", "mamba2", "deepseek_v3", "olmo2", "qwen3_5_text", "gemma4_text"})


def refusal(division: Division) -> str | None:
    """The option that a division is refused for."""
    try:
        division.config()
    except InvalidRequest as refused:
        return refused.param
    return None


@given(st.integers(1, 8), st.data())
def test_what_ranks_have_is_all_and_nothing_twice(size: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(size, 5000))
    unit = data.draw(st.sampled_from([unit for unit in (1, 32, 256) if count // unit >= size]))
    parts = [Shard(rank, size).part(count, unit) for rank in range(size)]
    assert [index for part in parts for index in range(part.start, part.stop)] == list(range(count))
    assert all(part.start < part.stop and part.start % unit == 0 for part in parts)
    assert max((part.stop - part.start) // unit for part in parts) == (parts[0].stop - parts[0].start) // unit


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1"])
def test_columns_are_those_of_the_blocks(kind: str) -> None:
    config = replace(tiny_config("llama"), intermediate=128)
    name, gguf = "model.layers.0.mlp.down_proj.weight", pytest.importorskip("gguf")
    values = np.random.default_rng(1).standard_normal((64, 128)).astype(np.float32)
    data = gguf.quants.quantize(values, gguf.GGMLQuantizationType[kind])
    stored = StoredWeight(kind, (64, 128), data)
    parts = [
        ShardedWeights(Weights({name: stored}), Division(config, Shard(rank, 2))).take(name, 64, 64)
        for rank in range(2)
    ]  # fmt: skip
    assert all(isinstance(part, PartialWeight) for part in parts)
    assert np.array_equal(np.hstack([dequantize(part) for part in parts]), dequantize(stored))


def test_a_block_is_not_cut() -> None:
    config = replace(tiny_config("llama"), num_heads=16, num_kv_heads=4)
    name = "model.layers.0.self_attn.o_proj.weight"
    stored = StoredWeight("Q4_K", (64, 256), np.zeros((64, 144), dtype=np.uint8))
    weights = ShardedWeights(Weights({name: stored}), Division(config, Shard(0, 2)))
    with pytest.raises(InvalidRequest, match="256 numbers") as refused:
        weights.take(name, 64, 128)
    assert refused.value.param == "tensor_parallel"


@pytest.mark.parametrize(
    ("family", "size", "why"),
    [("llama", 3, "at most 2"), ("gpt_oss", 2, "experts"), ("deepseek_v3", 2, "latent"), ("lfm2", 2, "states"),
     ("olmo2", 2, "norms over all heads")],
)  # fmt: skip
def test_what_cannot_be_divided_is_refused_by_name(family: str, size: int, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why) as refused:
        Division(tiny_config(family), Shard(0, size)).config()
    assert refused.value.param == "tensor_parallel"

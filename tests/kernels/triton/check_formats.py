"""A tiny model in each block format, and in mixtures as files have them: the reference's tokens, matrices packed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from triton_support import DEVICE, EXACT

from stemma.kernels.reference import ReferenceOps
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.packing import FOUR_BITS, DenseLinear, PackedLinear, pack, place_of, rows_of, unpack
from stemma.kernels.triton.sending import Sender
from stemma.kernels.triton.stacking import group
from stemma.kernels.weights import FORMATS, StoredWeight, dequantize
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import GenerationDefaults
from stemma.runtime.model.files.quantised.blocks import beside, plain
from stemma.runtime.model.load import assemble
from stemma.runtime.model.parts.sharded_ops import ShardedOps
from stemma.runtime.model.parts.sharded_weights import VocabularyWeight
from stemma.runtime.model.shards import TOKENS, Shard
from stemma.runtime.model.tiny import byte_tokenizer, tiny_config, tiny_tensors
from tests.kernels.stored import stored
from tests.runtime.model.running import all_logits

PROMPT = list(b"some words")
NUM_TOKENS = 3
TYPES = sorted(FORMATS.keys() - {"FP8"})
MIXTURES: dict[str, dict[str, str]] = {
    "Q4_K_M": {"": "Q4_K", "v_proj": "Q6_K", "down_proj": "Q6_K", "lm_head": "Q6_K"},
    "Q5_K_S with a legacy type": {"": "Q5_K", "v_proj": "Q8_0", "k_proj": "Q5_0"},
    "Q3_K_M": {"": "Q3_K", "v_proj": "Q5_K", "down_proj": "Q4_K", "lm_head": "Q6_K"},
    "Q2_K": {"": "Q2_K", "v_proj": "Q4_K", "o_proj": "Q3_K"},
    "IQ3_XXS": {"": "IQ3_XXS", "v_proj": "Q4_K", "up_proj": "IQ3_S", "o_proj": "IQ2_S"},
}


def tensors_of(types: dict[str, str], config: Any) -> dict[str, StoredWeight]:
    """types: of matrices by a part of their name; the last that fits."""
    tensors = tiny_tensors(config, 0)
    for seed, (name, weight) in enumerate(sorted(tensors.items())):
        if len(weight.shape) == 2:
            kind = [type_ for part, type_ in types.items() if part in name][-1]
            fits = weight.shape[1] % FORMATS[kind].num_inputs == 0
            tensors[name] = stored(kind if fits else "Q8_0", weight.shape, seed)  # as llama.cpp does
    return tensors


def continued(model: Any) -> tuple[list[int], torch.Tensor]:
    """Greedy tokens, and the last logits."""
    ids = list(PROMPT)
    for _ in range(NUM_TOKENS):
        logits = all_logits(model, ids)[-1].float().cpu()
        ids.append(int(logits.argmax()))
    return ids[len(PROMPT) :], logits


@pytest.mark.parametrize("types", [{"": type_} for type_ in TYPES] + list(MIXTURES.values()), ids=[*TYPES, *MIXTURES])
def test_a_model_says_what_the_reference_says(types: dict[str, str]) -> None:
    config = replace(tiny_config("llama"), hidden=256, intermediate=256, num_layers=1)
    tensors = tensors_of(types, config)
    checkpoint = Checkpoint(config, tensors, byte_tokenizer(), GenerationDefaults((256,)))
    (want, want_logits), (got, got_logits) = (
        continued(assemble(checkpoint, ops).model)
        for ops in (ReferenceOps(torch.device("cpu")), TritonOps(DEVICE, EXACT))
    )
    assert got == want
    assert (got_logits - want_logits).abs().max() < 2e-2 * want_logits.abs().max()


@pytest.mark.parametrize("type_", ["Q4_0", "Q4_K", "Q6_K", "Q8_0"])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_tied_table_is_stored_once(family: str, type_: str) -> None:
    """gemma2 scales embeddings. The head multiplies what the tokens' rows are read from."""
    config = replace(tiny_config(family), hidden=256, intermediate=256, tied_embeddings=True)
    checkpoint = Checkpoint(config, tensors_of({"": type_}, config), byte_tokenizer(), GenerationDefaults((256,)))
    model: Any = assemble(checkpoint, TritonOps(DEVICE, EXACT)).model
    assert isinstance(model._head, PackedLinear)
    assert model._embedding.table is model._head
    want, want_logits = continued(assemble(checkpoint, ReferenceOps(torch.device("cpu"))).model)
    got, got_logits = continued(model)
    assert got == want
    assert (got_logits - want_logits).abs().max() < 2e-2 * want_logits.abs().max()


class Alone:
    """One of two ranks, whose parts of sums are all there is."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def gather(self, rows: Any) -> Any:
        return rows


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("type_", ["F32", "Q4_K", "Q4_0", "Q6_K", "Q8_0"])
def test_a_rank_s_part_of_a_tied_table_is_no_second_one(type_: str, rank: int) -> None:
    """It lies in the same memory, and makes the logits that the reference makes of these rows."""
    size, wanted = 201, Shard(rank, 2).part(201, TOKENS)  # ends within a tile
    weight = stored(type_, (size, 256)) if type_ in FORMATS else StoredWeight(
        "F32", (size, 256), np.random.default_rng(1).standard_normal((size, 256), dtype=np.float32)
    )  # fmt: skip
    whole, ops = VocabularyWeight(weight.type, weight.shape, weight.data, wanted), TritonOps(DEVICE, EXACT)
    ranked: Any = ShardedOps(ops, Alone(rank))  # type: ignore[arg-type]
    table = ranked.embedding(whole).table
    head = ranked.linear([whole]).base
    assert head.out_features == wanted.stop - wanted.start
    for mine, all_of_it in zip(tensors_in(head), tensors_in(table), strict=True):
        assert mine.untyped_storage().data_ptr() == all_of_it.untyped_storage().data_ptr()
    x = torch.from_numpy(np.random.default_rng(2).standard_normal((3, 256), dtype=np.float32)).to(DEVICE, EXACT)
    norm = ops.norm(StoredWeight("F32", (256,), np.ones(256, dtype=np.float32)), 1e-6)
    rows = np.arange(3, dtype=np.int32)
    got = ops.logits(x, rows, norm, head).cpu()
    normed = ops.norm_rows(x, rows, norm).cpu()
    expected = normed @ torch.from_numpy(np.array(dequantize(weight.rows(wanted)))).T
    assert (got - expected).abs().max() < 2e-2 * expected.abs().max()


def tensors_in(linear: Any) -> list[torch.Tensor]:
    """Of the numbers of a matrix."""
    if not isinstance(linear, PackedLinear):
        return [linear.weight]
    return [linear.codes, linear.scales, *([] if linear.minima is None else [linear.minima])]


def test_a_part_within_a_tile_and_what_is_no_part_have_memory_of_their_own() -> None:
    weight = stored("Q4_K", (200, 256))
    table = pack([weight], [], Sender(DEVICE), EXACT)
    assert isinstance(table, PackedLinear)
    assert rows_of(table, 100, 50) is None
    assert place_of(weight.rows(slice(100, 150)), weight) == 100
    copied = replace(weight, data=weight.data.copy())
    others = [copied, stored("Q4_K", (64, 256)), stored("Q8_0", (200, 256)), weight.rows(np.arange(64, 128))]
    assert [place_of(each, weight) for each in others] == [None] * 4


@pytest.mark.parametrize("first", TYPES)
@pytest.mark.parametrize("second", ["Q4_0", "Q4_K", "Q8_0", "Q6_K", "Q2_K"])
def test_parts_of_any_two_formats_stay_packed(first: str, second: str) -> None:
    parts = [stored(first, (40, 256), 1), stored(second, (24, 256), 2)]
    linear = pack(parts, [], Sender(DEVICE), EXACT)
    assert isinstance(linear, PackedLinear)
    assert linear.format == ("four bits" if {first, second} <= FOUR_BITS else "bytes")
    assert linear.codes.nbytes + linear.scales.nbytes * (1 + (linear.minima is not None)) <= 64 * 256 * 10 / 8
    want = torch.from_numpy(np.concatenate([dequantize(part) for part in parts]))
    error = (unpack(linear, torch.float32).weight.cpu() - want).abs()
    assert error.max() <= want.abs().max() / 1024


def act_ordered(outputs: int, seed: int, order_seed: int) -> StoredWeight:
    """Four bits in groups of 64, whose inputs are scattered."""
    random = np.random.default_rng(seed)
    groups = np.random.default_rng(order_seed).permutation(np.arange(256) // 64)
    codes = random.integers(0, 16, (outputs, 256)).astype(np.uint8)
    scales = random.uniform(0.01, 0.1, (outputs, 4)).astype(np.float16).astype(np.float32)
    zeros = random.integers(1, 16, (outputs, 4)).astype(np.float32)
    floats = plain(scales[:, groups] * (codes - zeros[:, groups]), "F16")
    return beside(floats, codes, scales, zeros, groups)


@pytest.mark.parametrize("rows", [1, 5, 70])
def test_four_bits_in_an_order_of_their_own_stay_packed(rows: int) -> None:
    """Three matrices of the same rows have one order, and are one product."""
    ops = TritonOps(DEVICE, EXACT)
    parts = [act_ordered(outputs, seed, 9) for seed, outputs in enumerate((64, 40, 24))]
    linear = ops.linear(parts)
    assert isinstance(linear, PackedLinear)
    assert (linear.format, linear.order is not None) == ("four bits", True)
    whole = torch.from_numpy(np.concatenate([dequantize(part) for part in parts]))
    assert (unpack(linear, torch.float32).weight.cpu() - whole).abs().max() < 2e-3
    x = torch.from_numpy(np.random.default_rng(3).standard_normal((rows, 256), dtype=np.float32)).to(DEVICE, EXACT)
    want = x.cpu().float() @ whole.T
    for got in (ops.norm_linear(x, None, linear), ops.linear_add(x, linear, torch.zeros_like(want).to(DEVICE, EXACT))):
        assert (got.cpu().float() - want).abs().max() < 5e-3 * want.abs().max()


def test_orders_that_differ_and_matrices_of_experts_become_dense(caplog: pytest.LogCaptureFixture) -> None:
    ops = TritonOps(DEVICE, EXACT)
    assert isinstance(ops.linear([act_ordered(64, 1, 1), act_ordered(64, 2, 2)]), DenseLinear)
    weights = [act_ordered(64, seed, seed) for seed in range(2)]
    (grouped,) = group([ops.linear([weight]) for weight in weights], torch.float32)
    assert grouped.format == "dense"
    for got, weight in zip(grouped.weights.cpu(), weights, strict=True):
        assert (got - torch.from_numpy(np.array(dequantize(weight)))).abs().max() < 2e-3
    assert "2 matrices of experts are kept dense" in caplog.text


@pytest.mark.parametrize("kind", ["MXFP4", "INT8"])
def test_scales_that_float16_has_not_become_dense(kind: str) -> None:
    """Far too small, or too large: as they are written they would be 0, or infinite."""
    for size, exponent in ((1e-9, 95), (1e6, 150)):
        weight = stored(kind, (40, 256), size=size)
        if kind == "MXFP4":
            weight.data.reshape(40, 8, 17)[:, :, 0] = exponent
        linear: Any = pack([weight], [], Sender(DEVICE), torch.float32)
        assert not isinstance(linear, PackedLinear)
        assert torch.equal(linear.weight.cpu(), torch.from_numpy(np.array(dequantize(weight))))

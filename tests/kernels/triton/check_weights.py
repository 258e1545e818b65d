"""Weights lie on the device once: the table of embeddings is the head's matrix where a model says so, dense or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from triton_support import DEVICE, EXACT, FLOATS, TOLERANCE, assert_close

from stemma.kernels.reference import ReferenceOps
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.packing import PackedLinear
from stemma.kernels.weights import FORMATS, StoredWeight, dequantize
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import GenerationDefaults
from stemma.runtime.model.load import assemble
from stemma.runtime.model.tiny import byte_tokenizer, tiny_config, tiny_tensors
from tests.kernels.stored import stored
from tests.runtime.model.running import all_logits


@pytest.fixture
def ops() -> TritonOps:
    return TritonOps(DEVICE, EXACT)


def where(tensor: torch.Tensor) -> int:
    return tensor.data_ptr()


@pytest.mark.parametrize("kind", ["BF16", "F32", "F16"])
def test_a_dense_table_is_the_heads_matrix(ops: TritonOps, kind: str) -> None:
    weight = stored(kind, (48, 256))
    table, head = ops.embedding(weight).table, ops.linear([weight])
    assert head is table
    assert torch.equal(head.weight.cpu(), torch.from_numpy(np.array(dequantize(weight))).to(EXACT))
    assert where(ops.linear([weight]).weight) != where(head.weight), "asked for again, it is another matrix"


def test_what_is_another_matrix_has_its_own_memory(ops: TritonOps) -> None:
    weight, bias = stored("F32", (48, 64)), StoredWeight("F32", (48,), np.ones(48, np.float32))
    for make in (
        lambda table: ops.linear([weight, weight]),
        lambda table: ops.linear([weight], [bias]),
        lambda table: ops.linear([stored("F32", (48, 64), 1)]),
    ):
        table: Any = ops.embedding(weight).table
        assert where(make(table).weight) != where(table.weight)


@pytest.mark.parametrize("kind", ["BF16", "F32", "F16"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_a_scaled_table_is_the_heads_matrix_too(kind: str, dtype: torch.dtype) -> None:
    """Rows are scaled when they are read, in float32."""
    ops, weight = TritonOps(DEVICE, dtype), stored(kind, (48, 256))
    embedding, head = ops.embedding(weight, 15.5), ops.linear([weight])
    assert head is embedding.table
    values = torch.from_numpy(np.array(dequantize(weight))).to(dtype)
    assert torch.equal(head.weight.cpu(), values)
    ids = np.array([3, 0, 47, 3], dtype=np.int32)
    got, want = ops.embed(embedding, ids).cpu(), (values.float() * 15.5).to(dtype)[ids]
    if dtype == torch.bfloat16:  # the interpreter cuts the bits off
        assert_close(got, want, 2**-7)
    else:
        assert torch.equal(got, want)


@pytest.mark.parametrize("kind", sorted(FORMATS.keys() - {"FP8"}))
def test_a_table_in_blocks_is_the_heads_matrix_and_stays_packed(ops: TritonOps, kind: str) -> None:
    weight = stored(kind, (64, 256))
    table = ops.embedding(weight, 15.5).table
    assert isinstance(table, PackedLinear)
    assert ops.linear([weight], exact=True) is table
    assert table.codes.nbytes + table.scales.nbytes + (0 if table.minima is None else table.minima.nbytes) <= 64 * 320


@pytest.mark.parametrize(("family", "is_tied"), [("llama", True), ("llama", False), ("gemma2", True)])
def test_of_a_model(ops: TritonOps, family: str, is_tied: bool) -> None:
    config = replace(tiny_config(family), tied_embeddings=is_tied)
    checkpoint = Checkpoint(config, tiny_tensors(config, 0), byte_tokenizer(), GenerationDefaults((256,)))
    model: Any = assemble(checkpoint, ops).model
    assert (where(model._head.weight) == where(model._embedding.table.weight)) == is_tied
    if family == "gemma2":
        assert model._embedding.scale != 1.0
        expected = assemble(checkpoint, ReferenceOps(torch.device("cpu"))).model
        ids = list(b"a text of a few words")
        assert_close(all_logits(model, ids), all_logits(expected, ids), 4 * TOLERANCE[EXACT])

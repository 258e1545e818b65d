"""Dense weights lie on the device once: the table of embeddings is the head's matrix where a model says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from triton_support import DEVICE, EXACT

from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.weights import StoredWeight, dequantize
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import GenerationDefaults
from stemma.runtime.model.load import assemble
from stemma.runtime.model.tiny import byte_tokenizer, tiny_config, tiny_tensors
from tests.kernels.stored import stored


@pytest.fixture
def ops() -> TritonOps:
    return TritonOps(DEVICE, EXACT)


def where(tensor: torch.Tensor) -> int:
    return tensor.data_ptr()


@pytest.mark.parametrize("kind", ["BF16", "F32", "Q2_K"])
def test_a_dense_table_is_the_heads_matrix(ops: TritonOps, kind: str) -> None:
    weight = stored(kind, (48, 256))
    table, head = ops.embedding(weight), ops.linear([weight])
    assert where(head.weight) == where(table)
    assert torch.equal(table.cpu(), torch.from_numpy(np.array(dequantize(weight))).to(EXACT))
    assert where(ops.linear([weight]).weight) != where(table), "asked for again, it is another matrix"


def test_what_is_another_matrix_has_its_own_memory(ops: TritonOps) -> None:
    weight, bias = stored("F32", (48, 64)), StoredWeight("F32", (48,), np.ones(48, np.float32))
    for make in (
        lambda table: ops.linear([weight, weight]),
        lambda table: ops.linear([weight], [bias]),
        lambda table: ops.linear([stored("F32", (48, 64), 1)]),
    ):
        table = ops.embedding(weight)
        assert where(make(table).weight) != where(table)
    scaled = ops.embedding(weight, 8.0)
    assert where(ops.linear([weight]).weight) != where(scaled)


def test_packed_weights_stay_packed(ops: TritonOps) -> None:
    weight = stored("Q8_0", (48, 64))
    ops.embedding(weight)
    assert ops.linear([weight]).codes.dtype == torch.int8


@pytest.mark.parametrize("is_tied", [True, False])
def test_of_a_model(ops: TritonOps, is_tied: bool) -> None:
    from dataclasses import replace

    config = replace(tiny_config("llama"), tied_embeddings=is_tied)
    checkpoint = Checkpoint(config, tiny_tensors(config, 0), byte_tokenizer(), GenerationDefaults((256,)))
    model: Any = assemble(checkpoint, ops).model
    assert (where(model._head.weight) == where(model._embedding)) == is_tied

"""Weights that are NaN or infinite, in every storage type and every place: refused by the tensor's name."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stemma.kernels.reference import ReferenceOps
from stemma.kernels.select import select_ops
from stemma.kernels.weights import FORMATS, StoredWeight, is_finite
from stemma.runtime.engine import Engine
from stemma.runtime.errors import ModelFileError
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import GenerationDefaults
from stemma.runtime.model.load import assemble
from stemma.runtime.model.tiny import byte_tokenizer, tiny, tiny_config, tiny_tensors
from tests.kernels.stored import stored as stored_blocks

BAD = (float("nan"), float("inf"), float("-inf"))
FINITE = st.floats(-60000, 60000, width=16)


def load(tensors, ops=None, names=None):
    config = tiny_config("llama")
    checkpoint = Checkpoint(config, tensors, byte_tokenizer(), GenerationDefaults((256,)), names or {})
    return assemble(checkpoint, ops or ReferenceOps(torch.device("cpu")))


def stored(kind, values):
    if kind == "F32":
        return StoredWeight(kind, values.shape, values)
    if kind == "F16":
        return StoredWeight(kind, values.shape, values.astype(np.float16))
    if kind == "BF16":
        return StoredWeight(kind, values.shape, (values.view(np.uint32) >> 16).astype(np.uint16))
    return stored_blocks(kind, values.shape)


def broken(kind, block, bad):
    """A block with one number that is none, once for each place where it has one."""
    for place in FORMATS[kind].halves:
        damaged = block.copy()
        damaged[place : place + 2] = np.array([bad], np.float16).view(np.uint8)
        yield damaged
    for place in FORMATS[kind].singles:
        damaged = block.copy()
        damaged[place : place + 4] = np.array([bad], np.float32).view(np.uint8)
        yield damaged
    for place in {"MXFP4": (0,), "NVFP4": range(4), "FP8": (4, 17, 35)}.get(kind, ()):
        damaged = block.copy()
        damaged[place] = 0xFF if kind == "MXFP4" or (kind == "FP8" and place == 17) else 0x7F
        yield damaged
    if kind == "IQ1_M":
        damaged = block.copy()
        words = damaged[48:].view(np.uint16)
        words &= 0x0FFF
        words |= (np.array([bad], np.float16).view(np.uint16) << np.array([12, 8, 4, 0], np.uint16)) & 0xF000
        yield damaged


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", *FORMATS])
def test_one_number_among_many_is_seen(kind):
    values = np.random.default_rng(1).normal(size=(40, 512)).astype(np.float32)
    weight = stored(kind, values)
    assert is_finite(weight)
    for bad in BAD:
        for row, column in ((0, 0), (20, 300), (39, 511)):
            data = weight.data.copy()
            if kind in FORMATS:
                size = FORMATS[kind].num_bytes
                block = column * (data.shape[1] // size) // 512
                place = slice(block * size, (block + 1) * size)
                cases = list(broken(kind, data[row, place], bad))
                assert cases
                for damaged in cases:
                    data[row, place] = damaged
                    assert not is_finite(StoredWeight(kind, weight.shape, data))
            else:
                data[row, column] = np.array([bad], np.float32).view(np.uint32)[0] >> 16 if kind == "BF16" else bad
                assert not is_finite(StoredWeight(kind, weight.shape, data))


@given(st.lists(FINITE, min_size=1, max_size=50))
def test_no_finite_number_is_refused(numbers):
    for kind in (np.float32, np.float16):
        assert is_finite(StoredWeight({4: "F32", 2: "F16"}[kind(0).itemsize], (len(numbers),), np.array(numbers, kind)))


@pytest.mark.parametrize("name", [
    "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight", "model.layers.1.input_layernorm.weight",
    "model.layers.0.self_attn.k_proj.weight", "model.layers.1.mlp.down_proj.weight",
])  # fmt: skip
def test_a_model_is_refused_by_the_name_of_its_tensor(name):
    for bad in BAD:
        tensors = dict(tiny_tensors(tiny_config("llama"), 0))
        data = tensors[name].data.copy()
        data.reshape(-1)[-1] = bad
        tensors[name] = StoredWeight("F32", tensors[name].shape, data)
        with pytest.raises(ModelFileError, match=name.replace(".", r"\.")):
            load(tensors)
        with pytest.raises(ModelFileError, match=r"blk\.x"):
            load(tensors, names={name: "blk.x"})


@pytest.mark.parametrize("ops", [ReferenceOps(torch.device("cpu")), "auto"], ids=["reference", "auto"])
def test_a_model_whose_numbers_overflow_is_refused(ops):
    tensors = dict(tiny_tensors(tiny_config("llama"), 0))
    huge = tensors["lm_head.weight"].data * np.float32(1e38)
    tensors["lm_head.weight"] = StoredWeight("F32", huge.shape, np.clip(huge, -3e38, 3e38))
    loaded = load(tensors, select_ops() if ops == "auto" else ops)
    with pytest.raises(ModelFileError, match="NaN or infinite"):
        Engine.of(loaded, kv_tokens=64)


def test_a_sound_model_is_not_counted_as_used(tiny_loaded):
    with Engine.of(tiny_loaded, kv_tokens=64) as engine:
        assert engine.stats().metrics.num_steps == 0
        assert engine.stats().cache.free == engine.stats().cache.total
        wanted = engine.generate("x", max_tokens=8).tokens
    with Engine.of(tiny(ReferenceOps(torch.device("cpu"), torch.float64)), kv_tokens=1024) as other:
        assert other.generate("x", max_tokens=8).tokens == wanted

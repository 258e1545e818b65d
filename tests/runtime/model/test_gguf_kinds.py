"""GGUF files that say something impossible: each value is refused by its key's name, as llama.cpp refuses it, and what
it takes for granted is granted here too."""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import transformers

from stemma.runtime.errors import ModelError, ModelFileError
from stemma.runtime.model.files.gguf_format import open_gguf
from stemma.runtime.model.files.gguf_kinds import KINDS, check_kinds
from stemma.runtime.model.load import load, read_checkpoint
from tests.runtime.model.gguf_writing import ADD, write_gguf
from tests.runtime.model.running import reference_ops
from tests.runtime.model.test_gguf_file import random_model

OTHERS = ("", "x", 1.5, math.nan, 0, -1, True, [], [1], ["x"], [1.5])
MORE = ("tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eom_token_id")


@pytest.mark.parametrize("key", [*KINDS, *MORE])
@pytest.mark.parametrize("value", OTHERS, ids=repr)
def test_only_values_of_a_keys_kind(key: str, value: Any) -> None:
    kind = KINDS.get(key, KINDS["general.alignment"])
    of_kind = type(value) is (list if kind.is_list else kind.type) and (not value or not kind.is_list or (
        type(value[0]) is kind.type
    ))  # fmt: skip
    if of_kind:
        check_kinds({key: value})
    else:
        with pytest.raises(ModelFileError, match=rf"{key} of the GGUF file is .*, no {kind.name}"):
            check_kinds({key: value})


@pytest.fixture(scope="module")
def model() -> transformers.PreTrainedModel:
    return random_model(transformers.LlamaConfig)


SAID = [
    ("block_count", 3, "3 layers by its block_count, but tensors of 2"),
    ("block_count", 1, "1 layers by its block_count, but tensors of 2"),
    ("block_count", (1 << 31) - 1, "llama.block_count.*below 8192"),
    ("context_length", (1 << 32) - 1, "llama.context_length.*below 268435456"),
    ("attention.head_count", 8, "'model.layers.0.self_attn.q_proj.weight' has shape .*does not fit"),
    ("attention.head_count_kv", 3, "k_proj.weight' has shape .*does not fit"),
    ("attention.key_length", True, "llama.attention.key_length"),
    ("rope.dimension_count", 1 << 30, "llama.rope.dimension_count.*a head has"),
    ("rope.freq_base", "x", "llama.rope.freq_base"),
    ("rope.freq_base", math.nan, "llama.rope.freq_base"),
    ("rope.scaling.factor", "x", "llama.rope.scaling.factor"),
    ("rope.scaling.factor", -2.0, "llama.rope.scaling.factor"),
    ("rope.scaling.attn_factor", 0.0, "llama.rope.scaling.attn_factor"),
    ("rope.scaling.original_context_length", "x", "llama.rope.scaling.original_context_length"),
]


@pytest.mark.parametrize(("key", "value", "words"), SAID)
def test_what_no_model_has_is_named(
    key: str, value: Any, words: str, model: transformers.PreTrainedModel, tmp_path: Path
) -> None:
    write_gguf(tmp_path / "model.gguf", model)
    changed(tmp_path / "model.gguf", tmp_path / "x.gguf", {f"llama.{key}": value})
    with pytest.raises(ModelError, match=words):
        load(tmp_path / "x.gguf", reference_ops())


def test_norms_need_their_epsilon(model: transformers.PreTrainedModel, tmp_path: Path) -> None:
    write_gguf(tmp_path / "model.gguf", model)
    changed(tmp_path / "model.gguf", tmp_path / "x.gguf", {"llama.attention.layer_norm_rms_epsilon": None})
    with pytest.raises(ModelFileError, match=r"none of attention.layer_norm_epsilon, attention.layer_norm_rms_epsilon"):
        read_checkpoint(tmp_path / "x.gguf")


def changed(source: Path, target: Path, changes: dict[str, Any]) -> None:
    """A file with other metadata; None takes a key out."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name not in ("general.architecture", *changes):
            element = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=element)
    for key, value in changes.items():
        if value is not None:
            ADD[type(value)](writer, key, value) if value != -1 else writer.add_int32(key, value)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data.copy(), raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# The container -------------------------------------------------------------------------------------------------------
def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def entry(name: str, offset: int, *shape: int, type_: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, type_, offset)


def written(path: Path, values: list[bytes], tensors: list[bytes], data: int = 512, alignment: int = 32) -> Path:
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values)) + b"".join(values) + b"".join(tensors)
    path.write_bytes(head + bytes(-len(head) % alignment) + np.arange(data // 4, dtype="<f4").tobytes())
    return path


def aligned(to: int) -> bytes:
    return text("general.alignment") + struct.pack("<II", 4, to)


def test_tensors_lie_where_the_file_says(tmp_path: Path) -> None:
    path = written(tmp_path / "x.gguf", [aligned(64)], [entry("a", 0, 4), entry("b", 64, 4)], alignment=64)
    assert open_gguf(path).tensors["b"].data.tolist() == [16, 17, 18, 19]


NESTED = text("x") + struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * 100_000
DAMAGED: dict[str, tuple[list[bytes], list[bytes], str]] = {
    "a tensor in another": ([], [entry("a", 0, 32), entry("b", 64, 32)], "'b' lies in the one before it"),
    "a tensor between places": ([], [entry("a", 0, 4), entry("b", 20, 4)], "between places of 32 bytes"),
    "a tensor twice": ([], [entry("a", 0, 4), entry("a", 32, 4)], "'a' is there twice"),
    "a tensor behind the end": ([], [entry("a", 1 << 62, 4)], "a runs over the end"),
    "a tensor larger than all": ([], [entry("a", 0, 1 << 60, 1 << 60)], "a runs over the end"),
    "rows of half a block": ([], [entry("a", 0, 48, 2, type_=8)], "have 48 numbers, no blocks of 32"),
    "too many dimensions": ([], [entry("a", 0, *[1] * 5)], "'a' has 5 dimensions"),
    "no dimension": ([], [entry("a", 0)], "'a' has 0 dimensions"),
    "a key twice": ([text("x") + struct.pack("<II", 4, n) for n in (1, 2)], [], "says 'x' twice"),
    "no alignment": ([aligned(0)], [], "alignment of the GGUF file is 0, no power of two"),
    "an odd alignment": ([aligned(24)], [], "is 24, no power of two"),
    "lists in lists": ([NESTED], [], "damaged or cut short"),
    "a string without an end": ([text("x") + struct.pack("<IQ", 8, 1 << 63)], [], "a string runs over the end"),
    "a list without an end": ([text("x") + struct.pack("<IIQ", 9, 4, 1 << 63)], [], "damaged or cut short"),
    "strings without an end": ([text("x") + struct.pack("<IIQ", 9, 8, 1 << 63)], [], "damaged or cut short"),
    "an unknown kind": ([text("x") + struct.pack("<II", 77, 4)], [], "damaged or cut short"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_container_is_told(case: str, tmp_path: Path) -> None:
    values, tensors, words = DAMAGED[case]
    with pytest.raises(ModelFileError, match=words):
        open_gguf(written(tmp_path / "x.gguf", values, tensors))

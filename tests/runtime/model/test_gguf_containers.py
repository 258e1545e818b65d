"""GGUF files in parts, and with the big end first, against the same model in one file of this machine's order."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
import transformers

from stemma.kernels.weights import FORMATS
from stemma.runtime.errors import ModelFileError, ModelNotFound, UnsupportedModel
from stemma.runtime.model import load
from stemma.runtime.model.load import read_checkpoint
from tests.runtime.model.gguf_writing import write_gguf
from tests.runtime.model.running import all_logits, reference_ops
from tests.runtime.model.test_gguf_file import IDS, random_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "model.gguf"
    write_gguf(path, random_model(transformers.LlamaConfig), "Q8_0")
    return path


def copy(source: Path, target: Path, order: gguf.GGUFEndian = gguf.GGUFEndian.LITTLE, **split: Any) -> None:
    """A file written anew by gguf, in parts if asked. Blocks with the big end first: their float16 swapped, as
    `gguf-convert-endian` does it."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama", endianess=order, **split)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            element = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=element)
    for tensor in reader.tensors:
        data = tensor.data.copy()
        if order == gguf.GGUFEndian.BIG and tensor.tensor_type.name == "BF16":
            data = data.view(np.uint16).byteswap().view(np.uint8)  # which gguf takes for bytes
        elif order == gguf.GGUFEndian.BIG and data.dtype == np.uint8:
            format_ = FORMATS[tensor.tensor_type.name]
            blocks = data.reshape(len(data), -1, format_.num_bytes)
            for place in format_.halves:
                blocks[..., place : place + 2] = blocks[..., place + 1 : place - 1 if place else None : -1]
        writer.add_tensor(tensor.name, data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def assert_the_same(path: Path, whole: Path) -> None:
    found, expected = load(path, reference_ops()), load(whole, reference_ops())
    assert torch.equal(all_logits(found.model, IDS), all_logits(expected.model, IDS))
    assert found.tokenizer.special == expected.tokenizer.special


def test_any_part_of_a_split_model_is_the_model(whole: Path, tmp_path: Path) -> None:
    copy(whole, tmp_path / "model.gguf", split_max_tensors=9)
    parts = sorted(tmp_path.glob("*.gguf"))
    assert [part.name for part in parts] == [f"model-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    for part in parts:
        assert_the_same(part, whole)
    shutil.copy(parts[2], tmp_path / "other.gguf")
    with pytest.raises(ModelFileError, match="give it back the name"):
        read_checkpoint(tmp_path / "other.gguf")
    parts[1].unlink()
    for part in (parts[0], parts[2]):
        with pytest.raises(ModelNotFound, match=r"lacks parts of the model: model-00002-of-00003\.gguf"):
            read_checkpoint(part)
    shutil.copy(parts[2], parts[1])
    with pytest.raises(ModelFileError, match="is not part 2 of 3"):
        read_checkpoint(parts[0])


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0", "Q4_1", "Q2_K", "Q6_K", "MXFP4", "TQ2_0"])
def test_the_big_end_first(kind: str, tmp_path: Path) -> None:
    write_gguf(tmp_path / "little.gguf", random_model(transformers.LlamaConfig), kind)
    copy(tmp_path / "little.gguf", tmp_path / "big.gguf", gguf.GGUFEndian.BIG)
    assert_the_same(tmp_path / "big.gguf", tmp_path / "little.gguf")


@pytest.mark.parametrize(
    ("kind", "words"),
    [("adapter", "of type 'adapter': give it as an adapter"), ("mmproj", "the model's own file"), ("other", "'other'")],
)
def test_files_that_are_no_models(kind: str, words: str, tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_type(kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(UnsupportedModel, match=words):
        read_checkpoint(tmp_path / "x.gguf")


def test_a_pointer_to_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ModelFileError, match="Git LFS's pointer"):
        read_checkpoint(tmp_path / "x.gguf")


def test_experts_that_the_settings_do_not_tell_of(whole: Path, tmp_path: Path) -> None:
    content = whole.read_bytes()
    for name in (b"ffn_gate", b"ffn_down"):
        content = content.replace(b"blk.0." + name + b".weight", b"blk.0." + name[:5] + b"exp.weight")
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"no tensor '.*gate_proj.weight', but 'blk\.0\.ffn_"):
        load(tmp_path / "x.gguf", reference_ops())


def test_code_books_with_the_big_end_first_are_refused(tmp_path: Path) -> None:
    write_gguf(tmp_path / "little.gguf", random_model(transformers.LlamaConfig), "IQ3_S")
    copy(tmp_path / "little.gguf", tmp_path / "big.gguf", gguf.GGUFEndian.BIG)
    with pytest.raises(UnsupportedModel, match="IQ3_S with the big end first"):
        read_checkpoint(tmp_path / "big.gguf")

"""Folders whose headers, indices or settings are of another kind than they can be: refused, and soon."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from stemma.runtime.errors import ModelFileError
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.families.folder_config import read_config
from stemma.runtime.model.families.register import FAMILIES
from stemma.runtime.model.files.hugging_face import read_hugging_face
from stemma.runtime.model.files.safetensors_format import open_safetensors
from stemma.runtime.model.load import load
from stemma.runtime.model.settings import Settings
from tests.runtime.model.running import reference_ops
from tests.runtime.model.test_hugging_face import write_folder


@pytest.mark.parametrize("header", [b"[1]", b"[" * 200_000, b"3", b'{"a": [1]}'], ids=["list", "deep", "3", "entry"])
def test_a_header_that_is_none(header: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    with pytest.raises(ModelFileError, match=r"x\.safetensors is damaged"):
        open_safetensors(path)


def test_an_index_that_names_no_files(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": 3, "b": "x.safetensors"}}))
    with pytest.raises(ModelFileError, match="has no weight_map"):
        read_hugging_face(folder)


@pytest.mark.parametrize(("name", "value"), [("num_hidden_layers", 1 << 30), ("max_position_embeddings", 1 << 30)])
def test_sizes_that_nothing_has(name: str, value: int, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=f"'{name}' in config.json is {value}, no positive whole number below"):
        read_hugging_face(write_folder(tmp_path, **{name: value}))


def config_of(family: str, **changes: Any) -> ModelConfig:
    return read_config({"model_type": family, **FAMILIES[family].tiny, **SIZES, **changes}, "x")


SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 64,
         "intermediate_size": 96, "vocab_size": 260, "max_position_embeddings": 512}  # fmt: skip


def test_no_more_layers_without_experts_than_there_are() -> None:
    for count, dense in ((0, 0), (1, 1), (1 << 30, 2)):
        found = config_of("glm4_moe", first_k_dense_replace=count).experts
        assert found is not None
        assert len(found.dense) == dense
    with pytest.raises(ModelFileError, match=r"'first_k_dense_replace' in config.json is -1"):
        config_of("glm4_moe", first_k_dense_replace=-1)


@pytest.mark.parametrize("value", ["x", [1.0], {"a": 1}])
def test_a_configuration_of_other_kinds_is_refused_before_it_is_run(value: Any, tmp_path: Path) -> None:
    folder = write_folder(tmp_path, model_type="gemma2", final_logit_softcapping=value)
    with pytest.raises(ModelFileError, match=r"wrong kinds .*scales\.logits_softcap"):
        load(folder, reference_ops())


def test_a_size_names_its_own_bound() -> None:
    assert Settings({"hidden_size": 1 << 30}, "x").number("hidden_size") == 1 << 30
    with pytest.raises(ModelFileError, match="below 8192"):
        Settings({"num_hidden_layers": 8192}, "x").number("num_hidden_layers")

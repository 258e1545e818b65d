"""Which files of a folder are the model's, and under which names its tensors may stand."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stemma.runtime.errors import ModelFileError, ModelNotFound
from stemma.runtime.model import load
from stemma.runtime.model.files.hugging_face import read_hugging_face
from stemma.runtime.model.tiny import tiny
from tests.runtime.model.running import all_logits, reference_ops
from tests.runtime.model.test_hugging_face import write_folder

IDS = [257, *b"user\nHello", 256]


def assert_is_the_model(folder: Path) -> None:
    found = load(folder, reference_ops())
    assert torch.equal(all_logits(found.model, IDS), all_logits(tiny(reference_ops()).model, IDS))


def split(folder: Path, count: int, index: bool) -> dict[str, str]:
    """The model's file as several, as save_pretrained names them."""
    whole = folder / "model.safetensors"
    tensors = load_file(whole)
    names, files = list(tensors), {}
    for number in range(count):
        file = f"model-{number + 1:05}-of-{count:05}.safetensors"
        save_file({name: tensors[name] for name in names[number::count]}, folder / file)
        files |= dict.fromkeys(names[number::count], file)
    whole.unlink()
    if index:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": files}))
    return files


def test_what_lies_beside_the_model_is_not_its_own(tmp_path: Path) -> None:
    """The same weights as their authors have them, an adapter, the state of a training, another copy in a folder."""
    folder = write_folder(tmp_path)
    stray = {"layers.0.attention.wq.weight": torch.zeros(2, 2)}
    for name in ("consolidated.safetensors", "adapter_model.safetensors", "optimizer.safetensors"):
        save_file(stray, folder / name)
    (folder / "original").mkdir()
    save_file(stray, folder / "original" / "model.safetensors")
    assert_is_the_model(folder)
    split(folder, 3, index=False)
    assert_is_the_model(folder)


@pytest.mark.parametrize("index", [True, False])
def test_shards(index: bool, tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    files = split(folder, 3, index)
    assert_is_the_model(folder)
    (folder / files["model.norm.weight"]).unlink()
    with pytest.raises(ModelNotFound, match=files["model.norm.weight"]):
        read_hugging_face(folder)


def test_the_whole_file_goes_before_an_index(tmp_path: Path) -> None:
    """As in transformers: the index is that of an earlier save."""
    index = {"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
    (write_folder(tmp_path) / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_is_the_model(tmp_path)


@pytest.mark.parametrize("content", ["{}", '{"weight_map": []}', "["])
def test_a_damaged_index_is_told(content: str, tmp_path: Path) -> None:
    split(write_folder(tmp_path), 2, index=True)
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelFileError, match="fetch it again"):
        read_hugging_face(tmp_path)


def test_a_folder_with_other_files_only_has_no_model(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    shutil.move(folder / "model.safetensors", folder / "adapter_model.safetensors")
    with pytest.raises(ModelNotFound, match=r"has no \*\.safetensors"):
        read_hugging_face(folder)


def test_names_without_the_models_prefix(tmp_path: Path) -> None:
    """A folder that was saved by the class without a head, as embedding models are."""
    folder = write_folder(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    bare = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    save_file(bare, folder / "model.safetensors")
    assert_is_the_model(folder)
    del bare["lm_head.weight"]
    save_file(bare, folder / "model.safetensors")
    with pytest.raises(ModelFileError, match=r"no tensor 'lm_head\.weight'"):
        load(folder, reference_ops())
    assert load(write_tied(folder), reference_ops()).config.tied_embeddings


def write_tied(folder: Path) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    return folder


def test_what_is_no_model_is_told(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(ModelFileError, match="Git LFS's pointer to it; `git lfs pull`"):
        read_hugging_face(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelNotFound, match=r"has no config\.json"):
        read_hugging_face(folder)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelNotFound, match="no model but an adapter; give it as an adapter"):
        read_hugging_face(folder)


def test_another_form_of_the_family_is_told_by_its_tensors(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    tensors = load_file(folder / "model.safetensors")
    attention = "model.layers.0.self_attn."
    queries = tensors.pop(f"{attention}q_proj.weight")
    low = {f"{attention}q_{part}_proj.weight": queries[:8].clone() for part in "ab"}
    save_file({**tensors, **low}, folder / "model.safetensors")
    with pytest.raises(ModelFileError, match=r"no tensor '.*q_proj.weight', but '.*q_[ab]_proj.weight'"):
        load(folder, reference_ops())

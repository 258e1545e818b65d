"""What a folder or a GGUF file says of embeddings, against the network that transformers runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model import load
from stemma.runtime.model.files.embedding import read_embedding, read_gguf_embedding
from tests.runtime.model.test_hugging_face import write
from tests.runtime.model.test_logits import SHARED, save

MODULES = [{"type": "sentence_transformers.models.Transformer", "path": ""},
           {"type": "sentence_transformers.models.Pooling", "path": "1_Pooling"},
           {"type": "sentence_transformers.models.Normalize", "path": "2_Normalize"}]  # fmt: skip
PROMPTS = {"query": "Instruct: find\nQuery:", "document": ""}


def write_modules(folder: Path, modules: list[dict[str, str]], **pooling: Any) -> Path:
    write(folder / "modules.json", modules)
    (folder / "1_Pooling").mkdir()
    write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 64, **pooling})
    write(folder / "config_sentence_transformers.json", {"prompts": PROMPTS, "similarity_fn_name": "cosine"})
    return folder


@pytest.mark.parametrize("mode", ["lasttoken", "mean_tokens"])
def test_a_folder_of_sentence_transformers(tmp_path: Path, mode: str) -> None:
    model = save(tmp_path, transformers.Qwen3Config(**SHARED))
    write_modules(tmp_path, MODULES, **{f"pooling_mode_{mode}": True, "pooling_mode_cls_token": False})
    with Engine.of(load(str(tmp_path), ReferenceOps(torch.device("cpu"))), kv_tokens=2048) as engine:
        for name, text in (("query", "what is a tree"), ("document", "a tree is a graph")):
            ids = engine.tokenizer.encode_prompt(PROMPTS[name] + text) + list(engine.tokenizer.suffix_ids)
            with torch.no_grad():
                states = model.model(torch.tensor([ids])).last_hidden_state[0]
            expected = states[-1] if mode == "lasttoken" else states.mean(0)
            got = torch.from_numpy(engine.embed(text, prompt_name=name).vector)
            torch.testing.assert_close(got, expected / expected.norm(), rtol=0, atol=1e-5)
        (score,) = engine.score("what is a tree", ["a tree is a graph"])
        sides = [engine.embed(text, prompt_name=name).vector for name, text in
                 (("query", "what is a tree"), ("document", "a tree is a graph"))]  # fmt: skip
        assert abs(score.value - float(np.dot(*sides))) < 1e-6


def test_nothing_is_said(tmp_path: Path) -> None:
    assert read_embedding(tmp_path) is None


@pytest.mark.parametrize(
    ("modules", "pooling", "message"),
    [
        (MODULES, {"pooling_mode_cls_token": True}, "cls_token"),
        (MODULES, {"pooling_mode_lasttoken": True, "pooling_mode_mean_tokens": True}, "lasttoken"),
        (MODULES, {"pooling_mode_lasttoken": True, "include_prompt": False}, "include_prompt"),
        (MODULES, {}, r"\[\]"),
        ([*MODULES, {"type": "sentence_transformers.models.Dense", "path": "3_Dense"}],
         {"pooling_mode_lasttoken": True}, "Dense"),
    ],
)  # fmt: skip
def test_what_is_not_run_is_refused(tmp_path: Path, modules: Any, pooling: Any, message: str) -> None:
    with pytest.raises(UnsupportedModel, match=message):
        read_embedding(write_modules(tmp_path, modules, **pooling))


def test_a_damaged_folder_says_so(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("{")
    with pytest.raises(ModelFileError, match=r"modules\.json"):
        read_embedding(tmp_path)


def test_gguf_counts_kinds() -> None:
    assert read_gguf_embedding(None) is read_gguf_embedding(0) is None
    kinds = [read_gguf_embedding(number) for number in (1, 3)]
    assert [kind and kind.pooling for kind in kinds] == ["mean", "last"]
    with pytest.raises(UnsupportedModel, match="pooling_type 2"):
        read_gguf_embedding(2)

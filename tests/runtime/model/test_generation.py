"""Ends of answers, wherever a model's files say or imply them, and the sampling that they recommend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import transformers

from stemma.runtime.errors import ModelFileError
from stemma.runtime.model import GenerationDefaults
from stemma.runtime.model.checkpoint import TokenizerFiles
from stemma.runtime.model.files.generation import read_generation, read_gguf_generation
from stemma.runtime.model.files.hugging_face import read_hugging_face
from stemma.runtime.model.load import read_checkpoint
from tests.runtime.model.gguf_writing import write_gguf
from tests.runtime.model.test_gguf_file import random_model
from tests.runtime.model.test_hugging_face import write, write_folder


def tokenizer(
    added: dict[str, int], eos: str | None = None, vocabulary: dict[str, int] | None = None
) -> TokenizerFiles:
    tokens = [{"content": text, "id": index, "special": True} for text, index in added.items()]
    spec = {"added_tokens": tokens, "model": {"type": "BPE", "vocab": vocabulary or {}}}
    return TokenizerFiles(spec, {} if eos is None else {"eos_token": eos}, None, None)


PLAIN = tokenizer({"<s>": 1, "<|x|>": 5})
ENDS: dict[str, tuple[dict[str, Any], dict[str, Any], TokenizerFiles, tuple[int, ...]]] = {
    "generation settings": ({"eos_token_id": 7}, {"eos_token_id": 2}, PLAIN, (7,)),
    "several": ({"eos_token_id": [9, 7]}, {}, PLAIN, (7, 9)),
    "null says nothing": ({"eos_token_id": None}, {"eos_token_id": 2}, PLAIN, (2,)),
    "the configuration": ({}, {"eos_token_id": [2, 3]}, PLAIN, (2, 3)),
    "nobody": ({}, {"eos_token_id": None}, PLAIN, ()),
    "none by a number": ({"eos_token_id": -1}, {}, PLAIN, ()),
    "beyond the vocabulary": ({"eos_token_id": 100}, {}, PLAIN, ()),
    "the tokenizer's": ({}, {"eos_token_id": 2}, tokenizer({"<|x|>": 5}, "<|x|>"), (2, 5)),
    "the tokenizer's, in its vocabulary": ({}, {}, tokenizer({}, "<z>", {"<z>": 8}), (8,)),
    "a fine-tune over another base": ({}, {"eos_token_id": 2}, tokenizer({"</s>": 2, "<|im_end|>": 6}, "</s>"), (2, 6)),
    "ends of turns": ({"eos_token_id": 3}, {}, tokenizer({"<|eot_id|>": 4, "<end_of_turn>": 5, "<b>": 6}), (3, 4, 5)),
}


@pytest.mark.parametrize("case", ENDS)
def test_ends_of_answers(case: str) -> None:
    settings, config, files, ends = ENDS[case]
    assert read_generation(settings, config, files, 100).eos_ids == ends


def test_ends_of_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path, eos_token_id=257)
    write(tmp_path / "generation_config.json", {"eos_token_id": None})
    assert read_hugging_face(tmp_path).generation.eos_ids == (256, 257)  # <|end|> by the tokenizer


def test_ends_of_a_gguf_file_without_a_type() -> None:
    """A token that looks like an end is one though it is not typed as a control token, as for llama.cpp."""
    files = tokenizer({"<|im_end|>": 3, "<|user|>": 4})
    values = {"tokenizer.ggml.tokens": ["x"] * 9, "tokenizer.ggml.eos_token_id": 1, "tokenizer.ggml.eot_token_id": 2}
    assert read_gguf_generation(values, files).eos_ids == (1, 2, 3)


def test_the_end_of_a_message_is_none_of_an_answer_that_has_several() -> None:
    values = {"tokenizer.ggml.tokens": ["x"] * 9, "tokenizer.ggml.eos_token_id": 1}
    harmony = tokenizer({"<|end|>": 3, "<|return|>": 1, "<|call|>": 4})
    assert read_gguf_generation(values, harmony).eos_ids == (1,)
    assert read_gguf_generation(values, tokenizer({"<|end|>": 3})).eos_ids == (1, 3)


SAMPLING = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "min_p": 0.1, "repetition_penalty": 1.05, "do_sample": True}


def test_recommended_sampling_of_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path)
    assert read_hugging_face(tmp_path).generation == GenerationDefaults((256,))
    write(tmp_path / "generation_config.json", SAMPLING)
    assert read_hugging_face(tmp_path).generation == GenerationDefaults((256,), **SAMPLING)
    theirs = transformers.GenerationConfig.from_pretrained(tmp_path)
    ours = read_hugging_face(tmp_path).generation
    assert {name: getattr(theirs, name) for name in SAMPLING} == {name: getattr(ours, name) for name in SAMPLING}


def test_recommended_sampling_of_a_gguf_file(tmp_path: Path) -> None:
    names = {"temp": 0.5, "top_k": 20, "top_p": 0.75, "min_p": 0.25, "penalty_repeat": 1.5}
    values = {f"general.sampling.{name}": value for name, value in names.items()}
    found = read_gguf_generation({"tokenizer.ggml.tokens": [], **values}, PLAIN)
    assert found == GenerationDefaults((), 0.5, 20, 0.75, 0.25, 1.5)
    write_gguf(tmp_path / "model.gguf", random_model(transformers.LlamaConfig))
    assert read_checkpoint(tmp_path / "model.gguf").generation == GenerationDefaults((256,))


@pytest.mark.parametrize("settings", [{"temperature": "hot"}, {"top_k": 1.5}, {"top_p": True}, {"do_sample": 1}])
def test_a_setting_that_is_no_number_is_refused(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ModelFileError, match=name):
        read_generation(settings, {}, PLAIN, 100)

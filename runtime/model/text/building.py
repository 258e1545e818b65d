"""The library's tokenizer of what a `tokenizer.json` says."""

from __future__ import annotations

import json
from typing import Any

import tokenizers

from stemma.runtime.errors import ModelFileError
from stemma.runtime.model.text.tokenizer_spec import Spec, parts, spells_merges

BPE_SETTINGS = (
    "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback",
    "ignore_merges",
)  # fmt: skip
ADDED_SETTINGS = ("single_word", "lstrip", "rstrip", "normalized")


def added_token(index: int, content: str, *, special: bool) -> dict[str, Any]:
    """An added token as tokenizer.json has it, with none of its settings."""
    return {"id": index, "content": content, **dict.fromkeys(ADDED_SETTINGS, False), "special": special}


def build(spec: Spec) -> tokenizers.Tokenizer:
    """It neither truncates nor pads, and remembers words, not whole texts. Raises ModelFileError."""
    whole: dict[str, Any] = {**spec, "truncation": None, "padding": None}
    is_pairs = spec["model"]["type"] == "BPE" and not spells_merges(spec["model"])
    try:
        built = _built(whole) if is_pairs else tokenizers.Tokenizer.from_str(json.dumps(whole))
    except Exception as error:  # which is what the library raises
        raise ModelFileError(
            f"the model's tokenizer cannot be built ({error}): its vocabulary was cut, or is damaged; fetch another "
            "copy, or convert the model again"
        ) from error
    if spec["model"]["type"] == "BPE" and not _splits(spec):
        built.model._resize_cache(0)  # of words, by number: there, a word is a whole text of up to kilobytes
    return built


def _built(spec: Spec) -> tokenizers.Tokenizer:
    """A hundred thousand tokens and merges are given as they are: through JSON they take three times as long."""
    model = spec["model"]
    empty = {**model, "vocab": {}, "merges": []}
    built = tokenizers.Tokenizer.from_str(json.dumps({**spec, "added_tokens": [], "model": empty}))
    settings = {key: model[key] for key in BPE_SETTINGS if model.get(key) is not None}
    built.model = tokenizers.models.BPE(model["vocab"], list(map(tuple, model["merges"])), **settings)
    for token in spec["added_tokens"]:
        given = tokenizers.AddedToken(token["content"], **{key: token[key] for key in ADDED_SETTINGS})
        (built.add_special_tokens if token["special"] else built.add_tokens)([given])
    return built


def _splits(spec: Spec) -> bool:
    """Whether texts are cut into words, which come again and again."""
    steps = parts(spec, "pre_tokenizer")
    return any(step["type"] != "ByteLevel" or step.get("use_regex", True) for step in steps)

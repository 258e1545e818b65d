"""A tokenizer that is built of its parts is the one that its JSON describes."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tokenizers

from stemma.runtime.model.text.building import build

VOCABULARY = {token: index for index, token in enumerate(("<unk>", "a", "b", "ab", "\u0120", "\u0120a", "<tool>", "c"))}
SPLIT = {"type": "Split", "pattern": {"Regex": "\\d|[^\\d]+"}, "behavior": "Isolated", "invert": False}


def spec(added: list[dict[str, Any]], **model: Any) -> dict[str, Any]:
    bpe = {"type": "BPE", "vocab": VOCABULARY, "merges": [("a", "b"), ("\u0120", "a")], **model}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"version": "1.0", "added_tokens": added, "model": bpe, "decoder": byte_level, "post_processor": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [SPLIT, byte_level]},
            "normalizer": {"type": "NFC"}}  # fmt: skip


def added(content: str, index: int, **settings: bool) -> dict[str, Any]:
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return {"id": index, "content": content, **plain, **settings}


@pytest.mark.parametrize(
    "given",
    [
        spec([]),
        spec([], merges=["a b", "\u0120 a"]),
        spec([added("<tool>", 6), added("c", 7, normalized=True)], ignore_merges=True),
        spec([added("<new>", 8, rstrip=True), added("<s>", 9, special=True)], unk_token="<unk>", fuse_unk=True),
        spec([added("ab", 3, single_word=True)], unk_token="<unk>", byte_fallback=True, dropout=None),
        spec([added("b", 2, lstrip=True)], continuing_subword_prefix="", end_of_word_suffix=""),
    ],
    ids=["plain", "spelled merges", "added", "behind the vocabulary", "byte fallback", "empty affixes"],
)
def test_it_is_what_its_json_describes(given: dict[str, Any]) -> None:
    described = tokenizers.Tokenizer.from_str(json.dumps({**given, "truncation": None, "padding": None}))
    assert json.loads(build(given).to_str()) == json.loads(described.to_str())
    for text in ("ab", "a <tool> b1c", "ab <new>  <s>ab"):
        assert build(given).encode(text).ids == described.encode(text).ids

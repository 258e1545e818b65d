"""Which tokenizers are said to join pairs inside known pieces: what is not known is not claimed."""

from __future__ import annotations

from typing import Any

import pytest

from stemma.runtime.model.text.pair_merging import merges_in_known_pieces
from stemma.runtime.model.text.splits import LLAMA3

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


def split(pattern: str, behavior: str = "Isolated") -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}


def spec(*pre_tokenizers: dict[str, Any], **changes: Any) -> dict[str, Any]:
    model = {"type": "BPE", "vocab": {}, "merges": []}
    pre_tokenizer = {"type": "Sequence", "pretokenizers": [*pre_tokenizers, BYTE_LEVEL]}
    return {"model": model, "pre_tokenizer": pre_tokenizer, "normalizer": None, "added_tokens": []} | changes


@pytest.mark.parametrize(
    "known",
    [
        spec(split(LLAMA3)),
        spec({"type": "Digits", "individual_digits": True}),
        spec(split(LLAMA3), normalizer={"type": "NFC"}),
        spec(pre_tokenizer=None, normalizer={"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}),
    ],
)
def test_known(known: dict[str, Any]) -> None:
    assert merges_in_known_pieces(known)


@pytest.mark.parametrize(
    "unknown",
    [
        spec(split(r"\p{N}{1,3}(?=(\p{N}{3})*$)")),
        spec(split(LLAMA3, "MergedWithPrevious")),
        spec({"type": "Whitespace"}),
        spec(split(LLAMA3), normalizer={"type": "NFKC"}),
        spec(split(LLAMA3), model={"type": "Unigram", "vocab": []}),
        spec(split(LLAMA3), model={"type": "BPE", "vocab": {}, "merges": [], "dropout": 0.1}),
        spec(split(LLAMA3), model={"type": "BPE", "vocab": {}, "merges": [], "end_of_word_suffix": "</w>"}),
        spec(split(LLAMA3), added_tokens=[{"content": "<a>", "lstrip": True}]),
    ],
)
def test_unknown(unknown: dict[str, Any]) -> None:
    assert not merges_in_known_pieces(unknown)

"""Which tokenizers join byte pairs inside pieces split off in a known way. What is not known is not claimed."""

from __future__ import annotations

from typing import Any

from stemma.runtime.model.text.splits import DIGITS, GPT2, LLAMA3, QWEN2, TEKKEN
from stemma.runtime.model.text.tokenizer_spec import SPACE, Spec, parts

KNOWN_SPLITS = frozenset({DIGITS, GPT2, LLAMA3, QWEN2, TEKKEN})


def merges_in_known_pieces(spec: Spec) -> bool:
    """Whether pairs are joined by rank inside pieces, whose ends depend on the next character alone but at white space
    and apostrophes, and which end wherever punctuation follows a letter or digit (or text is not split at all)."""
    model = spec["model"]
    return (
        model["type"] == "BPE"
        and not any(model.get(key) for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"))
        and all(map(_is_known_normalizer, parts(spec, "normalizer")))
        and all(map(_is_known_split, parts(spec, "pre_tokenizer")))
        and not any(
            added.get(key) for added in spec.get("added_tokens", ()) for key in ("lstrip", "rstrip", "single_word")
        )
    )


def _is_known_normalizer(step: Spec) -> bool:
    if step["type"] == "Replace":
        return bool(step["pattern"] == {"String": " "} and step["content"] == SPACE)
    return step["type"] in ("NFC", "Prepend")


def _is_known_split(step: Spec) -> bool:
    if step["type"] == "Split":
        pattern: Any = step["pattern"]
        return pattern.get("Regex") in KNOWN_SPLITS and step["behavior"] == "Isolated" and not step["invert"]
    return step["type"] in ("ByteLevel", "Digits")

"""What a model's files say of generating: tokens that end an answer, and the sampling its authors recommend."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

from stemma.runtime.errors import ModelFileError
from stemma.runtime.model.checkpoint import TokenizerFiles
from stemma.runtime.model.config import GenerationDefaults

Values = Mapping[str, Any]
END_OF_TURN = frozenset(
    ("<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<EOT>", "_<EOT>",
     "[EOT]", "<\uff5cend\u2581of\u2581sentence\uff5c>", "<end_of_utterance>", "<|eom_id|>", "</s>")
)  # fmt: skip
"""Tokens that end a turn wherever they are in a vocabulary, as llama.cpp has it: many files forget to say so."""
HARMONY_ENDS = frozenset(("<|return|>", "<|call|>"))
"""What ends an answer of gpt-oss, where `<|end|>` only ends one message of several."""

GGUF_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
GGUF_SAMPLING = MappingProxyType({"temperature": "temp", "repetition_penalty": "penalty_repeat"})


def read_generation(settings: Values, config: Values, tokenizer: TokenizerFiles, vocab_size: int) -> GenerationDefaults:
    """Of a folder. settings: generation_config.json, which goes before config.json; a null in it says nothing."""
    named = settings.get("eos_token_id")
    named = config.get("eos_token_id") if named is None else named
    ids = named if isinstance(named, list) else [] if named is None else [named]
    ends = _known_ends(tokenizer) | {index for index in ids if isinstance(index, int)}
    return _defaults(ends, vocab_size, settings.get)


def read_gguf_generation(values: Values, tokenizer: TokenizerFiles) -> GenerationDefaults:
    """Of a GGUF file's metadata."""
    named = {values.get(f"tokenizer.ggml.{key}", -1) for key in GGUF_ENDS}
    get = lambda name: values.get(f"general.sampling.{GGUF_SAMPLING.get(name, name)}")  # noqa: E731
    return _defaults(named | _known_ends(tokenizer), len(values["tokenizer.ggml.tokens"]), get)


def _known_ends(tokenizer: TokenizerFiles) -> set[int]:
    """The tokenizer's own end, which a fine-tune over another base may have changed alone, and the known ends of turns
    among its added tokens."""
    own = tokenizer.special.get("eos_token")
    added = {token["content"]: token["id"] for token in tokenizer.spec.get("added_tokens", ())}
    known = END_OF_TURN - {"<|end|>"} if added.keys() >= HARMONY_ENDS else END_OF_TURN
    ends = {index for text, index in added.items() if text in known or text == own}
    vocabulary = tokenizer.spec["model"].get("vocab")
    if own is not None and own not in added and isinstance(vocabulary, Mapping) and own in vocabulary:
        ends.add(vocabulary[own])
    return ends


def _defaults(ends: Iterable[int], vocab_size: int, get: Callable[[str], Any]) -> GenerationDefaults:
    """Ends that the model can say; -1 and its like are none."""
    return GenerationDefaults(
        eos_ids=tuple(sorted(index for index in ends if 0 <= index < vocab_size)),
        temperature=_number("temperature", get),
        top_k=_whole_number("top_k", get),
        top_p=_number("top_p", get),
        min_p=_number("min_p", get),
        repetition_penalty=_number("repetition_penalty", get),
        do_sample=_switch("do_sample", get),
    )


def _number(name: str, get: Callable[[str], Any]) -> float | None:
    value = get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ModelFileError(f"{name} of the generation settings is {value!r}, no number; correct it, or take it out")
    return float(value)


def _whole_number(name: str, get: Callable[[str], Any]) -> int | None:
    value = _number(name, get)
    if value is not None and not value.is_integer():
        raise ModelFileError(f"{name} of the generation settings is {value!r}, no whole number; correct it")
    return None if value is None else int(value)


def _switch(name: str, get: Callable[[str], Any]) -> bool | None:
    value = get(name)
    if value is not None and not isinstance(value, bool):
        raise ModelFileError(f"{name} of the generation settings is {value!r}, not true or false; correct it")
    return value

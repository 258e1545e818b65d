"""The tokenizer that a GGUF file describes, as the contents of a `tokenizer.json`. The splits are those that llama.cpp
and Hugging Face use for the names in `tokenizer.ggml.pre`; a name that is not known is refused, never guessed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model.checkpoint import TokenizerFiles
from stemma.runtime.model.files.generation import END_OF_TURN
from stemma.runtime.model.settings import Settings
from stemma.runtime.model.text.building import added_token
from stemma.runtime.model.text.byte_alphabet import char_of_byte
from stemma.runtime.model.text.splits import (
    DEEPSEEK3,
    DEEPSEEK_CODER,
    DEEPSEEK_LLM,
    DIGITS,
    GPT2,
    GPT4O,
    LLAMA3,
    LLAMA_CPP_DEFAULT,
    QWEN2,
    QWEN35,
    SEED,
    TEKKEN,
)

CONTROL, USER_DEFINED = 3, 4
PREFIX = "tokenizer.ggml."
NAMES = frozenset(
    ("model", "pre", "tokens", "token_type", "scores", "merges", "add_bos_token", "add_space_prefix",
     *(f"{role}_token_id" for role in ("bos", "eos", "eot", "eom", "unknown", "padding")),
     # without effect on text: tokens of other tasks, what only encoders put behind a prompt, other kinds' normalisers
     *(f"{role}_token_id" for role in ("seperator", "separator", "mask", "cls", "prefix", "suffix", "middle", "nl")),
     *(f"fim_{role}_token_id" for role in ("pre", "suf", "mid", "pad", "rep", "sep")),
     "add_eos_token", "add_sep_token", "token_type_count", "remove_extra_whitespaces", "precompiled_charsmap")
)  # fmt: skip
"""Settings of a tokenizer that are used, or known to be without effect; others are refused."""
SPACE = "\u2581"
SPLITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "gpt-2": (GPT2,),
        "default": LLAMA_CPP_DEFAULT,
        "smollm": (DIGITS, GPT2),
        "codeshell": (DIGITS, GPT2),
        "starcoder": (DIGITS, GPT2),
        "refact": (DIGITS, GPT2),
        "command-r": (DIGITS, GPT2),
        "exaone": (DIGITS, GPT2),
        "minerva-7b": (DIGITS, GPT2),
        "llama-bpe": (LLAMA3,),
        "llama3": (LLAMA3,),
        "llama-v3": (LLAMA3,),
        "falcon3": (LLAMA3,),
        "falcon-h1": (LLAMA3,),
        "lfm2": (LLAMA3,),
        "smaug-bpe": (LLAMA3,),
        "dbrx": (LLAMA3,),
        "qwen2": (QWEN2,),
        "deepseek-r1-qwen": (QWEN2,),
        "tekken": (TEKKEN,),
        "glm4": (LLAMA3,),
        "chatglm-bpe": (LLAMA3,),
        "stablelm2": (QWEN2,),
        "hunyuan": (QWEN2,),
        "megrez": (QWEN2,),
        "qwen35": (QWEN35,),
        "olmo": (GPT2,),
        "exaone4": (GPT2,),
        "mellum": (GPT2,),
        "a.x-4.0": (GPT2,),
        "gpt-4o": (GPT4O,),
        "llama4": (GPT4O,),
        "seed-coder": (SEED,),
        "deepseek-llm": DEEPSEEK_LLM,
        "deepseek-coder": DEEPSEEK_CODER,
        "deepseek-v3": DEEPSEEK3,
        "hunyuan-dense": DEEPSEEK3,
    }
)
WHOLE_WORDS_FIRST = frozenset({"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "lfm2", "tekken"})
ADDS_BOS = WHOLE_WORDS_FIRST
COMPOSES = frozenset({"qwen2", "qwen35", "deepseek-r1-qwen"})
ROLES = MappingProxyType(
    {"bos_token": "bos_token_id", "eos_token": "eos_token_id", "unk_token": "unknown_token_id",
     "pad_token": "padding_token_id", "sep_token": "seperator_token_id", "cls_token": "cls_token_id",
     "mask_token": "mask_token_id"}
)  # fmt: skip


def read_tokenizer(values: Mapping[str, Any]) -> TokenizerFiles:
    """Raises UnsupportedModel for a kind of tokenizer that is not read."""
    Settings(values, "the GGUF file", PREFIX).check_all_used(NAMES)
    kind = values.get("tokenizer.ggml.model")
    if kind == "gpt2":
        pre = values.get("tokenizer.ggml.pre") or _unsaid_split(_need(values, "tokens"))
        spec, adds_bos = _byte_level(values, pre), pre in ADDS_BOS
    elif kind == "llama":
        spec, adds_bos = _sentencepiece(values, prepends=values.get("tokenizer.ggml.add_space_prefix", True)), True
    elif kind == "gemma4":
        spec, adds_bos = _sentencepiece(values, prepends=False, merges=_merges(values)), True
    else:
        raise UnsupportedModel(f"GGUF tokenizers of kind {kind!r} are not supported; supported: gpt2, llama, gemma4")
    tokens = _need(values, "tokens")
    ids = {role: values.get(f"tokenizer.ggml.{key}") for role, key in ROLES.items()}
    special = {role: tokens[index] for role, index in ids.items() if index is not None and 0 <= index < len(tokens)}
    adds_bos = values.get("tokenizer.ggml.add_bos_token", adds_bos)
    begins = special.get("bos_token") if adds_bos else None
    if begins is not None and begins not in {token["content"] for token in spec["added_tokens"]}:
        spec["added_tokens"].append(added_token(values["tokenizer.ggml.bos_token_id"], begins, special=True))
    chat, tools = (values.get(f"tokenizer.chat_template{name}") for name in ("", ".tool_use"))
    return TokenizerFiles(spec, special, adds_bos, chat, tools, bool(values.get("tokenizer.ggml.add_eos_token")))


def _unsaid_split(tokens: list[str]) -> str:
    """The split of a file that does not say it, as conversions of before May 2024: Llama 3's where the vocabulary is
    Llama 3's, else what llama.cpp does."""
    is_llama3 = len(tokens) >= 128256 and tokens[128000] == "<|begin_of_text|>"
    taken = "its vocabulary is Llama 3's, whose split is taken" if is_llama3 else (
        "llama.cpp's default is taken, which is no model's own: prompts are not what the model was trained on, and "
        "answers will be worse"
    )  # fmt: skip
    warnings.warn(
        f"the GGUF file does not say how its tokenizer splits text (tokenizer.ggml.pre): {taken}; fetch a newer "
        "conversion, or convert the model again",
        stacklevel=2,
    )
    return "llama-bpe" if is_llama3 else "default"


def _byte_level(values: Mapping[str, Any], pre: str) -> dict[str, Any]:
    """Byte-level BPE (Radford et al. 2019)."""
    if pre not in SPLITS:
        raise UnsupportedModel(f"the split {pre!r} of this GGUF tokenizer is not known; known: {', '.join(SPLITS)}")
    splits = [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        for pattern in SPLITS[pre]
    ]
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    tokens, types = _tokens(values)
    strange = set("".join(tokens)).difference(char_of_byte())
    vocabulary = {token: index for index, token in enumerate(tokens)} if not strange else {
        token if strange.isdisjoint(token) or kind in (CONTROL, USER_DEFINED) else _in_alphabet(token): index
        for index, (token, kind) in enumerate(zip(tokens, types, strict=True))
    }  # fmt: skip
    return _spec(
        values,
        model={
            "type": "BPE",
            "vocab": vocabulary,
            "merges": _merges(values),
            "ignore_merges": pre in WHOLE_WORDS_FIRST,
        },
        pre_tokenizer={"type": "Sequence", "pretokenizers": [*splits, byte_level]},
        decoder=byte_level,
        normalizer={"type": "NFC"} if pre in COMPOSES else None,
    )


def _merges(values: Mapping[str, Any]) -> list[Sequence[str]]:
    merges = _need(values, "merges")
    if not all(" " in merge for merge in merges):
        raise ModelFileError("a merge of the GGUF file's tokenizer is no pair of tokens; convert the model again")
    return [merge.partition(" ")[::2] for merge in merges]


def _in_alphabet(token: str) -> str:
    """A token that the file spells as plain text, in the byte alphabet."""
    table = char_of_byte()
    return "".join(table[byte] for byte in token.encode())


def _sentencepiece(
    values: Mapping[str, Any], *, prepends: bool, merges: list[Sequence[str]] | None = None
) -> dict[str, Any]:
    """SentencePiece BPE with byte fallback (Kudo and Richardson 2018), by its merges (Gemma 4), or those that scores
    imply. prepends: a space before the text."""
    tokens = _need(values, "tokens")
    merges = _scored(values, tokens) if merges is None else merges
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
    prepend = [{"type": "Prepend", "prepend": SPACE}] if prepends else []
    strip = [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prepend else []
    back = {"type": "Replace", "pattern": {"String": SPACE}, "content": " "}
    unknown = values.get("tokenizer.ggml.unknown_token_id")
    return _spec(
        values,
        model={
            "type": "BPE",
            "vocab": {token: index for index, token in enumerate(tokens)},
            "merges": merges,
            "byte_fallback": True,
            "fuse_unk": True,
            "unk_token": tokens[unknown] if unknown is not None and unknown < len(tokens) else None,
        },
        pre_tokenizer=None,
        decoder={"type": "Sequence", "decoders": [back, {"type": "ByteFallback"}, {"type": "Fuse"}, *strip]},
        normalizer={"type": "Sequence", "normalizers": [*prepend, replace]},
    )


def _scored(values: Mapping[str, Any], tokens: list[str]) -> list[Sequence[str]]:
    scores = _need(values, "scores")
    if len(scores) != len(tokens):
        raise ModelFileError("the GGUF file's lists of tokens and of their scores differ in length; fetch it again")
    if any(map(math.isnan, scores)):
        raise ModelFileError("tokenizer.ggml.scores of the GGUF file holds numbers that are NaN; fetch it again")
    return list(scored_merges(tokens, scores))


def scored_merges(tokens: list[str], scores: list[float]) -> list[list[str]]:
    """Every way to make a token of two others, the best-scored token first."""
    index = {token: position for position, token in enumerate(tokens)}
    found = []
    for token, score in zip(tokens, scores, strict=True):
        pairs = ((token[:cut], token[cut:]) for cut in range(1, len(token)))
        made = [(index[left], index[right], left, right) for left, right in pairs if left in index and right in index]
        found += [(-score, *pair) for pair in sorted(made)]
    found.sort(key=lambda merge: merge[0])
    return [[left, right] for _, _, _, left, right in found]


def _need(values: Mapping[str, Any], key: str) -> Any:
    if f"tokenizer.ggml.{key}" not in values:
        raise ModelFileError(f"the GGUF file has no tokenizer.ggml.{key}; convert the model again")
    return values[f"tokenizer.ggml.{key}"]


def _tokens(values: Mapping[str, Any]) -> tuple[list[str], list[int]]:
    """The tokens, and the type of each: as in llama.cpp, what ends turns is a control token whatever its type says."""
    tokens = _need(values, "tokens")
    types = values.get("tokenizer.ggml.token_type") or [1] * len(tokens)
    if len(types) != len(tokens):
        raise ModelFileError("the GGUF file's lists of tokens and of their types differ in length")
    return tokens, [CONTROL if text in END_OF_TURN else kind for text, kind in zip(tokens, types, strict=True)]


def _spec(values: Mapping[str, Any], **parts: Any) -> dict[str, Any]:
    tokens, types = _tokens(values)
    added = [
        added_token(index, tokens[index], special=kind == CONTROL)
        for index, kind in enumerate(types)
        if kind in (CONTROL, USER_DEFINED)
    ]
    return {"version": "1.0", "added_tokens": added, "post_processor": None, **parts}

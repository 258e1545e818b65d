"""Tokenizers that GGUF files describe: byte-level BPE by the splits that have names, SentencePiece's by its rule."""

from __future__ import annotations

import json
import math
import unicodedata
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, trainers

from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model import Tokenizer
from stemma.runtime.model.files.generation import read_gguf_generation
from stemma.runtime.model.files.gguf_tokenizer import SPLITS, read_tokenizer, scored_merges

TEXTS = (
    "", " ", "\n", "a", "Hello, world!", "  two  spaces ", "tab\tand\r\nlines\n\n\n", "12345 67890 3.14159 1,000",
    "½ ² Ⅷ ٣٤ 七",
    "don't WON'T they'LL I'm", "naïve café ﬁ Å Å", "Москва 東京 서울 مرحبا שלום हिन्दी ไทย",
    "🙂👩‍👩‍👧‍👦🏳️‍🌈 e\u0301", "def f(x):\n    return x**2  # €",
    "<|im_start|>user\n<|im_end|>", "http://a.b/c?d=e&f=%20g", "\u200b\u00a0\u3000\ufeff", "a" * 250,
)  # fmt: skip
CORPUS = [
    "The quick brown fox jumps over the lazy dog. " * 3, "It's 12345 don't they'll we've, naïve café",
    "东京 Москва <s> </s>",
    "def f(x):\n    return x + 1\n\n\n", "the theory of the thing that there is" * 2,
]  # fmt: skip


# Splits -------------------------------------------------------------------------------------------------------------
def metadata(pre: str, **more: Any) -> dict[str, Any]:
    """A byte-level vocabulary with merges, as a GGUF file has it."""
    built = tokenizers.Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    built.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    )
    vocabulary = built.get_vocab()
    tokens = [*sorted(vocabulary, key=vocabulary.__getitem__), "<|end|>", "<think>"]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * len(vocabulary) + [3, 4],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in _merges(built)],
        "tokenizer.ggml.bos_token_id": len(vocabulary),
    } | {f"tokenizer.{key}": value for key, value in more.items()}


def _merges(built: tokenizers.Tokenizer) -> list[list[str]]:
    return json.loads(built.to_str())["model"]["merges"]


def from_metadata(values: dict[str, Any]) -> Tokenizer:
    return Tokenizer(read_tokenizer(values), len(values["tokenizer.ggml.tokens"]))


SPLIT_CASES = {
    "gpt-2": ("I'M 12345  x\n\n y!!", ["I", "'", "M", " 12345", " ", " x", "\n\n", " y", "!!"]),
    "smollm": ("it's 123 x", ["it", "'s", " ", "1", "2", "3", " x"]),
    "llama-bpe": ("I'M 12345  x\n\n y!!", ["I", "'M", " ", "123", "45", " ", " x", "\n\n", " y", "!!"]),
    "qwen2": ("I'M 12345  x\n\n y!!", ["I", "'M", " ", "1", "2", "3", "4", "5", " ", " x", "\n\n", " y", "!!"]),
    "tekken": ("HelloWorld 12", ["Hello", "World", " ", "1", "2"]),
}


@pytest.mark.parametrize("pre", SPLIT_CASES)
def test_splits(pre: str) -> None:
    text, expected = SPLIT_CASES[pre]
    spec = read_tokenizer(metadata(pre)).spec
    steps = spec["pre_tokenizer"]["pretokenizers"][:-1]
    sequence = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(tokenizers.Regex(step["pattern"]["Regex"]), "isolated") for step in steps]
    )
    assert [piece for piece, _ in sequence.pre_tokenize_str(text)] == expected


@pytest.mark.parametrize("pre", SPLITS)
@pytest.mark.parametrize("text", TEXTS)
def test_every_split_keeps_the_text(pre: str, text: str) -> None:
    tokenizer = from_metadata(metadata(pre))
    composed = unicodedata.normalize("NFC", text) if pre in ("qwen2", "qwen35", "deepseek-r1-qwen") else text
    assert tokenizer.decode(tokenizer.encode(text)) == composed


def test_without_a_split_llama_cpps_default_is_taken_aloud() -> None:
    """As llama.cpp cuts: runs of marks, GPT-2's words, digits by three."""
    values = metadata("gpt-2")
    del values["tokenizer.ggml.pre"]
    with pytest.warns(
        UserWarning, match=r"tokenizer\.ggml\.pre.*llama.cpp's default is taken.*convert the model again"
    ):
        spec = read_tokenizer(values).spec
    assert spec == read_tokenizer(metadata("default")).spec != read_tokenizer(metadata("gpt-2")).spec
    steps = spec["pre_tokenizer"]["pretokenizers"][:-1]
    sequence = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(tokenizers.Regex(step["pattern"]["Regex"]), "isolated") for step in steps]
    )
    pieces = [piece for piece, _ in sequence.pre_tokenize_str("it's 12345 (a+b)  x")]
    assert pieces == ["it", "'", "s", " ", "123", "45", " ", "(", "a", "+", "b", ")", " ", " x"]
    assert Tokenizer(read_tokenizer(metadata("default")), 702).prefix_ids == ()


def test_without_a_split_llama_3s_vocabulary_is_known() -> None:
    values = metadata("llama-bpe")
    tokens, types = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"]
    filler = [f"<|{index}|>" for index in range(len(tokens), 128256)]
    filler[128000 - len(tokens)] = "<|begin_of_text|>"
    values |= {"tokenizer.ggml.tokens": [*tokens, *filler], "tokenizer.ggml.token_type": [*types, *[1] * len(filler)]}
    said = read_tokenizer(values)
    del values["tokenizer.ggml.pre"]
    with pytest.warns(UserWarning, match="its vocabulary is Llama 3's, whose split is taken"):
        unsaid = read_tokenizer(values)
    assert (unsaid.spec, unsaid.adds_bos) == (said.spec, True)


def test_a_setting_of_a_tokenizer_that_is_not_known_is_refused() -> None:
    assert from_metadata(metadata("gpt-2", **{"ggml.add_eos_token": True, "ggml.lowercases": False}))
    with pytest.raises(UnsupportedModel, match=r"tokenizer\.ggml\.lowercases"):
        from_metadata(metadata("gpt-2", **{"ggml.lowercases": True}))


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match="'klingon' of this GGUF tokenizer is not known; known: gpt-2"):
        from_metadata(metadata("klingon"))


def test_a_vocabulary_without_merges_is_refused() -> None:
    values = metadata("gpt-2")
    del values["tokenizer.ggml.merges"]
    with pytest.raises(ModelFileError, match="merges"):
        from_metadata(values)


DAMAGED: dict[str, tuple[dict[str, Any], str]] = {
    "a merge of an absent token": ({"merges": ["t h", "xq zj"]}, r"xq.* out of vocabulary.*convert the model again"),
    "a merge to an absent token": ({"merges": ["Q Z"]}, r"out of vocabulary.*convert the model again"),
    "a merge of one": ({"merges": ["th"]}, "no pair of tokens; convert"),
    "scores that are none": ({"model": "llama", "scores": [math.nan] * 410}, "scores.* NaN"),
    "scores of other tokens": ({"model": "llama", "scores": [0.0]}, "differ in length; fetch"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_vocabulary_is_told(case: str) -> None:
    changes, match = DAMAGED[case]
    with pytest.raises(ModelFileError, match=match):
        from_metadata(metadata("gpt-2") | {f"tokenizer.ggml.{key}": value for key, value in changes.items()})


def test_bos_is_the_files_choice() -> None:
    end = len(metadata("gpt-2")["tokenizer.ggml.tokens"]) - 2
    assert from_metadata(metadata("gpt-2")).prefix_ids == ()
    assert from_metadata(metadata("llama-bpe")).prefix_ids == (end,)
    assert from_metadata(metadata("llama-bpe", **{"ggml.add_bos_token": False})).prefix_ids == ()
    assert from_metadata(metadata("gpt-2", **{"ggml.add_bos_token": True})).encode_prompt("")[0] == end


def test_the_token_that_texts_begin_with_whatever_its_type() -> None:
    """As llama.cpp, which puts it before them by its id."""
    values = metadata("llama-bpe")
    end = len(values["tokenizer.ggml.tokens"]) - 2
    for types in ([1] * (end + 2), []):
        tokenizer = from_metadata(values | {"tokenizer.ggml.token_type": types})
        assert (tokenizer.prefix_ids, tokenizer.special) == ((end,), {"<|end|>": end})
        assert end not in tokenizer.encode("<|end|>")


def test_what_ends_turns_whatever_its_type() -> None:
    """As llama.cpp, which takes it for a control token by its text."""
    values = metadata("gpt-2")
    values["tokenizer.ggml.tokens"][-1] = "<|im_end|>"
    for kind in (1, 4):
        values["tokenizer.ggml.token_type"][-1] = kind
        files, index = read_tokenizer(values), len(values["tokenizer.ggml.tokens"]) - 1
        assert read_gguf_generation(values, files).eos_ids == (index - 1, index)
        assert (
            from_metadata(values).encode_template("a<|im_end|>")[-1]
            == index
            not in from_metadata(values).encode("a<|im_end|>")
        )


@pytest.mark.parametrize("index", [-1, 1 << 31])
def test_a_role_of_no_token_is_nobodys(index: int) -> None:
    assert read_tokenizer(metadata("gpt-2", **{"ggml.eos_token_id": index})).special == {"bos_token": "<|end|>"}


def test_added_tokens_that_the_template_writes_are_control_tokens() -> None:
    """`<think>` is not special, so it is text when generated; where the template writes it, messages cannot."""
    plain = from_metadata(metadata("gpt-2"))
    thinking = from_metadata(metadata("gpt-2", chat_template="{{ '<think>' }}"))
    index = plain.encode("<think>")
    assert len(index) == 1
    assert set(plain.special) == {"<|end|>"}
    assert set(thinking.special) == {"<|end|>", "<think>"}
    assert index[0] not in thinking.encode("<think>")
    assert thinking.token_bytes(index[0]) == b"<think>"


# SentencePiece ------------------------------------------------------------------------------------------------------
@cache
def sentencepiece_values() -> dict[str, Any]:
    """A vocabulary as SentencePiece makes it: specials, bytes, then pieces with falling scores."""
    built = tokenizers.Tokenizer(models.BPE())
    built.normalizer = normalizers.Replace(" ", "\u2581")
    built.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=400, show_progress=False))
    merged = [piece for piece in map("".join, _merges(built)) if "\n" not in piece]
    characters = sorted({character for text in CORPUS for character in text.replace(" ", "\u2581")} - {"\n"})
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *merged, *characters, "</", "s>"]
    tokens = list(dict.fromkeys(tokens))
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [-float(rank) for rank in range(len(tokens))],
        "tokenizer.ggml.token_type": [2, 3, 3, *[6] * 256, *[1] * (len(tokens) - 259)],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
    }


@cache
def sentencepiece() -> Tokenizer:
    return from_metadata(sentencepiece_values())


def best_first(text: str) -> list[int]:
    """SentencePiece's BPE by its definition: join the neighbours that make the best-scored piece."""
    tokens = sentencepiece_values()["tokenizer.ggml.tokens"]
    ids = {token: index for index, token in enumerate(tokens) if index > 2}
    pieces = list(("\u2581" + text.replace(" ", "\u2581")) if text else "")
    while True:
        joins = [(ids[a + b], i) for i, (a, b) in enumerate(pairwise(pieces)) if a + b in ids]
        if not joins:
            break
        _, at = min(joins)
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    found = [[ids[piece]] if piece in ids else [3 + byte for byte in piece.encode()] for piece in pieces]
    return [index for group in found for index in group]


@pytest.mark.parametrize("text", [text for text in TEXTS if len(text) < 100])
def test_sentencepiece_joins_the_best_first(text: str) -> None:
    assert sentencepiece().encode(text) == best_first(text)


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="the quickzé\n<s>/", max_size=30))
def test_sentencepiece_on_any_text(text: str) -> None:
    ids = sentencepiece().encode(text)
    assert ids == best_first(text)
    assert sentencepiece().decode(ids) == text
    assert not set(ids) & {1, 2}


@pytest.mark.parametrize("text", TEXTS)
def test_sentencepiece_by_merges(text: str) -> None:
    """As files of Gemma 4 say them: what the scores imply, and no space before the text."""
    values = {**sentencepiece_values(), "tokenizer.ggml.model": "gemma4", "tokenizer.ggml.add_space_prefix": False}
    merges = scored_merges(values["tokenizer.ggml.tokens"], values.pop("tokenizer.ggml.scores"))
    values["tokenizer.ggml.merges"] = [" ".join(merge) for merge in merges]
    tokenizer = from_metadata(values)
    assert tokenizer.prefix_ids == (1,)
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert text.startswith(" ") or tokenizer.encode(f" {text}" if text else "") == sentencepiece().encode(text)


def test_sentencepiece_spaces_and_bos() -> None:
    tokenizer = sentencepiece()
    assert tokenizer.prefix_ids == (1,)
    assert tokenizer.encode_prompt("the") == [1, *tokenizer.encode("the")]
    assert tokenizer.encode_continuation("the") != tokenizer.encode("the") == tokenizer.encode_continuation(" the")
    assert tokenizer.encode_template("the</s>the") == [*tokenizer.encode("the"), 2, *tokenizer.encode("the")]


def test_scored_merges_never_make_a_special_token() -> None:
    values = sentencepiece_values()
    merges = scored_merges(values["tokenizer.ggml.tokens"], values["tokenizer.ggml.scores"])
    assert ["</", "s>"] in merges  # so the next line could fail
    assert 2 not in sentencepiece().encode("</s>")

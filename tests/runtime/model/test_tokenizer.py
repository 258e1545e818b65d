"""Tokenizers against the tokenizers library put together by hand, and what must hold for any text."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import gguf
import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, pre_tokenizers, processors

from stemma.runtime.errors import InvalidRequest, UnsupportedModel
from stemma.runtime.model import Tokenizer
from stemma.runtime.model.checkpoint import TokenizerFiles
from stemma.runtime.model.files.gguf_file import read_gguf
from stemma.runtime.model.files.gguf_tokenizer import scored_merges
from stemma.runtime.model.pull import default_model
from stemma.runtime.model.text.tokenizer_spec import vocabulary_bytes
from stemma.runtime.model.tiny import byte_tokenizer
from tests.runtime.model.test_gguf_tokenizer import TEXTS, from_metadata, metadata, sentencepiece_values


@cache
def real() -> Tokenizer:
    checkpoint = read_gguf(default_model())
    return Tokenizer(checkpoint.tokenizer, checkpoint.config.vocab_size)


@cache
def real_by_hand() -> tokenizers.Tokenizer:
    """SmolLM2's tokenizer as its authors describe it: single digits, then GPT-2's byte-level BPE."""
    fields = gguf.GGUFReader(default_model()).fields
    tokens, merges, types = (
        fields[f"tokenizer.ggml.{key}"].contents() for key in ("tokens", "merges", "token_type")
    )  # fmt: skip
    vocabulary = {token: index for index, token in enumerate(tokens)}
    built = tokenizers.Tokenizer(models.BPE(vocabulary, [tuple(merge.split(" ")) for merge in merges]))
    digits, byte_level = pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.pre_tokenizer = pre_tokenizers.Sequence([digits, byte_level])
    built.decoder = decoders.ByteLevel()
    built.add_special_tokens([token for token, kind in zip(tokens, types, strict=True) if kind == 3])
    return built


@cache
def real_by_hand_without_special() -> tokenizers.Tokenizer:
    """The same, for text in which nothing is a special token."""
    built = tokenizers.Tokenizer.from_str(real_by_hand().to_str())
    built.encode_special_tokens = True
    return built


@pytest.mark.parametrize("text", TEXTS)
def test_the_real_tokenizer(text: str) -> None:
    expected = real_by_hand().encode(text).ids
    assert real().encode_template(text) == expected
    assert real().decode(expected) == real_by_hand().decode(expected)


@settings(max_examples=300, deadline=None)
@given(st.text())
@example("<|im_end|>")
def test_the_real_tokenizer_on_any_text(text: str) -> None:
    expected = real_by_hand_without_special().encode(text).ids
    assert real().encode(text) == real().encode_continuation(text) == expected
    assert real().encode_prompt(text) == (expected or [real().bos_id])


SPECIAL_LIKE = st.lists(
    st.sampled_from(["<|im_start|>", "<|im_end|>", "<|im_", "start|>", "<", "|", ">", "<|endoftext|>", "x", " ", "\n"])
)


@settings(max_examples=300, deadline=None)
@given(SPECIAL_LIKE.map("".join))
def test_text_never_becomes_a_special_token(text: str) -> None:
    ids = real().encode(text)
    assert not set(ids) & set(real().special.values())
    assert real().decode(ids) == text


def test_bytes_of_tokens_are_the_text() -> None:
    text = "".join(TEXTS).replace("\ufeff", "")
    ids = real().encode(text)
    assert b"".join(real().token_bytes(token) or b"?" for token in ids) == text.encode()
    assert [real().token_bytes(token) for token in real().special.values()] == [None] * len(real().special)
    assert real().vocabulary()[ids[0]] == real().token_bytes(ids[0])
    assert len(real().vocabulary()) == real().vocab_size == 49152


# tokenizer.json -----------------------------------------------------------------------------------------------------
def spec_of(built: tokenizers.Tokenizer) -> dict[str, Any]:
    return json.loads(built.to_str())


def files_of(built: tokenizers.Tokenizer, template: str | None = None) -> TokenizerFiles:
    return TokenizerFiles(spec_of(built), {"bos_token": "<s>"}, None, template)


@cache
def metaspace() -> tokenizers.Tokenizer:
    """As newer Llama 2 tokenizers are: a space before the first word of the text only, and bos."""
    values = sentencepiece_values()
    tokens = values["tokenizer.ggml.tokens"]
    merges = [
        tuple(merge) for merge in scored_merges(tokens, values["tokenizer.ggml.scores"]) if "".join(merge) != "</s>"
    ]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    built = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    built.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    built.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    built.add_special_tokens(["<s>", "</s>"])
    built.post_processor = processors.TemplateProcessing("<s> $A", "$A $B", [("<s>", 1)])
    return built


@pytest.mark.parametrize(
    "text", ["the quick</s>the fox", "</s>the", "the", "", "the</s> the</s>\nthe fox", "a</s></s>b"]
)
def test_a_space_before_the_first_word_only(text: str) -> None:
    tokenizer = Tokenizer(files_of(metaspace()), 1000)
    assert tokenizer.encode_template(text) == metaspace().encode(text, add_special_tokens=False).ids


def test_bos_of_the_post_processor() -> None:
    tokenizer = Tokenizer(files_of(metaspace()), 1000)
    assert tokenizer.prefix_ids == (1,)
    for text in ("the fox", "", "x"):
        assert tokenizer.encode_prompt(text) == metaspace().encode(text).ids


def test_special_tokens_that_swallow_space() -> None:
    built = tokenizers.Tokenizer.from_str(real_by_hand().to_str())
    built.add_special_tokens([tokenizers.AddedToken("<|both|>", lstrip=True, rstrip=True)])
    built.add_special_tokens([tokenizers.AddedToken("<|word|>", single_word=True)])
    tokenizer = Tokenizer(files_of(built), 49154)
    for text in ("a <|both|> b", "a<|both|>\n\nb", " <|both|>", "x<|word|>", "x <|word|> y", "<|word|><|both|> z"):
        assert tokenizer.encode_template(text) == built.encode(text).ids


def test_added_spaces_are_text_though_the_template_has_spaces() -> None:
    values = metadata("gpt-2", chat_template="{{ '<think>' }}    {{ 'x' }}")
    values["tokenizer.ggml.tokens"].append("  ")
    values["tokenizer.ggml.token_type"].append(4)
    tokenizer = from_metadata(values)
    spaces = len(values["tokenizer.ggml.tokens"]) - 1
    assert spaces in tokenizer.encode("a  b")
    assert tokenizer.decode(tokenizer.encode("a  b")) == "a  b"


def test_a_unigram_model_and_added_tokens_behind_it() -> None:
    pieces = [
        ("<unk>", -10.0),
        ("</s>", -1.0),
        ("\u2581", -2.0),
        ("a", -2.0),
        ("b", -2.0),
        ("ab", -2.5),
        ("\u2581ab", -3.0),
    ]
    bytes_of_all = [(f"<0x{byte:02X}>", -20.0) for byte in range(256)]
    built = tokenizers.Tokenizer(models.Unigram([*pieces, *bytes_of_all], 0, byte_fallback=True))
    built.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    built.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    built.add_special_tokens(["</s>", "<|x|>"])
    built.add_tokens(["<tag>"])
    tokenizer = Tokenizer(files_of(built), 300)
    plain, tag = tokenizer.encode("ab <|x|></s>é<tag>"), built.token_to_id("<tag>")
    assert tokenizer.special == {"</s>": 1, "<|x|>": 263}
    assert not set(plain) & {1, 263}
    assert plain[0] == 6
    assert plain[-1] == tag == 264
    assert tokenizer.decode(tokenizer.encode("ab ba é")) == "ab ba é"
    for text in ("ab</s>ab", "a b<|x|>", "<tag>ab"):
        assert tokenizer.encode_template(text) == built.encode(text).ids


def test_ids_without_a_token() -> None:
    tokenizer = Tokenizer(byte_tokenizer(), 300)
    assert len(tokenizer.vocabulary()) == 300
    assert tokenizer.token_bytes(280) is None
    assert tokenizer.decode([104, 280, 105]) == "hi"


def test_a_kind_of_tokenizer_that_has_no_bytes_is_refused() -> None:
    built = tokenizers.Tokenizer(models.WordPiece({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    built.decoder = decoders.WordPiece()
    with pytest.raises(UnsupportedModel, match="WordPiece"):
        Tokenizer(files_of(built), 2)
    with pytest.raises(UnsupportedModel, match="WordPiece"):
        vocabulary_bytes({**spec_of(built), "model": {"type": "BPE", "vocab": {}}}, 2)


# Detokenizing -------------------------------------------------------------------------------------------------------
@given(st.lists(st.integers(0, 259)))
def test_pieces_add_up_to_the_text(ids: list[int]) -> None:
    tokenizer = Tokenizer(byte_tokenizer(), 260)
    detokenizer = tokenizer.detokenizer()
    assert "".join([*map(detokenizer.push, ids), detokenizer.flush()]) == tokenizer.decode(ids)
    assert detokenizer.flush() == ""


@given(st.text())
def test_characters_come_out_whole(text: str) -> None:
    tokenizer = Tokenizer(byte_tokenizer(), 260)
    detokenizer = tokenizer.detokenizer()
    pieces = [detokenizer.push(token) for token in tokenizer.encode(text)]
    assert [piece for piece in pieces if piece] == list(text)


def test_a_broken_character_becomes_a_replacement_character() -> None:
    detokenizer = Tokenizer(byte_tokenizer(), 260).detokenizer()
    assert [detokenizer.push(byte) for byte in "é".encode()[:1]] == [""]
    assert detokenizer.flush() == "\ufffd"
    assert detokenizer.push(ord("a")) == "a"


def test_an_empty_prompt_begins_where_every_text_begins():
    expecting = from_metadata(metadata("llama-bpe"))
    (end,) = expecting.prefix_ids
    without = from_metadata(metadata("llama-bpe", **{"ggml.add_bos_token": False}))
    for encode in ("encode_prompt", "encode_trusted_prompt"):
        assert getattr(expecting, encode)("") == [end]
        assert getattr(without, encode)("") == [end]
        assert getattr(expecting, encode)("hello") == [end, *getattr(without, encode)("hello")]
        assert end not in getattr(without, encode)("hello")
    (written,) = [text for text, token in expecting.special.items() if token == end]
    assert expecting.encode_trusted_prompt(f"{written}hello") == expecting.encode_prompt("hello")
    assert expecting.encode_prompt(written)[1:] == expecting.encode(written)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="tells the memory as Linux does")
def test_whole_texts_are_not_remembered_as_words():
    """Where nothing splits a text, the library's memory of ten thousand words would hold as many prompts."""
    tokenizer = Tokenizer(byte_tokenizer(), 260)
    tokenizer.encode("x" * 250)
    before = resident_bytes()
    for number in range(10_000):
        tokenizer.encode(f"{number} " + "x" * 240)
    assert resident_bytes() - before < 10 << 20


@pytest.mark.parametrize("method", ["encode", "encode_continuation", "encode_prompt", "encode_template"])
@pytest.mark.parametrize("text", ["\ud83d", "a name \udc80 of a file"], ids=ascii)
def test_half_a_character_is_refused(method: str, text: str) -> None:
    with pytest.raises(InvalidRequest, match="whole characters") as refused:
        getattr(Tokenizer(byte_tokenizer(), 264), method)(text)
    assert refused.value.param == "prompt"

"""Tokenizers against the tokenizers library put together by hand, and what must hold for any text."""

from __future__ import annotations

import json
import os
import unicodedata
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import gguf
import pytest
import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from stemma.runtime.errors import InvalidRequest, ModelFileError, UnsupportedModel
from stemma.runtime.model import Tokenizer
from stemma.runtime.model.checkpoint import TokenizerFiles
from stemma.runtime.model.files.gguf_file import read_gguf
from stemma.runtime.model.files.gguf_tokenizer import SPLITS, read_tokenizer, scored_merges
from stemma.runtime.model.pull import default_model
from stemma.runtime.model.text.tokenizer_spec import vocabulary_bytes
from stemma.runtime.model.tiny import byte_tokenizer

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

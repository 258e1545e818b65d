"""Bytes of added tokens: what the library decodes them to, in the spelling of their kind of vocabulary."""

from __future__ import annotations

from functools import cache

import tokenizers
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers

from stemma.runtime.engine.grammars import make_vocabulary
from stemma.runtime.model import Tokenizer
from tests.runtime.model.test_gguf_tokenizer import from_metadata, metadata
from tests.runtime.model.test_tokenizer import files_of


@cache
def added_runs() -> tokenizers.Tokenizer:
    """As Gemma's: runs of spaces and lines are added tokens, spelled as pieces, and pieces that are merged to."""
    runs = ["\u2581" * length for length in range(2, 5)]
    tokens = [
        "<unk>",
        "<bos>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "\u2581",
        *runs,
        *"abxyz\n",
        "<tag\u2581a>",
    ]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    merges = [("\u2581" * left, "\u2581" * right) for left, right in ((1, 1), (2, 1), (2, 2), (3, 1), (1, 2))]
    built = tokenizers.Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    built.normalizer = normalizers.Replace(" ", "\u2581")
    built.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    built.add_special_tokens(["<bos>"])
    built.add_tokens([tokenizers.AddedToken(run, normalized=False) for run in [*runs, "\n", "<tag\u2581a>"]])
    return built


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="  abxyz\n\u00e9<", max_size=20))
@example("x  y")
@example("a    b   ")
def test_added_runs_of_spaces_come_back(text: str) -> None:
    tokenizer = Tokenizer(files_of(added_runs()), 300)
    ids = tokenizer.encode(text)
    assert ids == added_runs().encode(text).ids
    assert tokenizer.decode(ids) == text == added_runs().decode(ids)
    pieces = tokenizer.detokenizer()
    assert "".join([*map(pieces.push, ids), pieces.flush()]) == text


def test_bytes_of_every_added_token_are_what_the_library_decodes() -> None:
    table = Tokenizer(files_of(added_runs()), 300).vocabulary()
    for token in ("\u2581\u2581", "\u2581" * 4, "\n", "<tag\u2581a>"):
        index = added_runs().token_to_id(token)
        assert table[index] == added_runs().decode([index]).encode() == token.replace("\u2581", " ").encode()


def test_grammars_read_the_bytes_of_added_tokens() -> None:
    """Two spaces, one token: the end of `a  b` can be reached through it."""
    tokenizer = Tokenizer(files_of(added_runs()), 300)
    vocabulary = make_vocabulary(tokenizer, (0,))
    run = added_runs().token_to_id("\u2581\u2581")
    assert vocabulary.token_bytes[run] == b"  "


def test_added_tokens_of_a_byte_level_vocabulary_are_as_they_are_written() -> None:
    values = metadata("gpt-2")
    values["tokenizer.ggml.tokens"] += ["a\u2581b", "\u00e9"]
    values["tokenizer.ggml.token_type"] += [4, 4]
    tokenizer = from_metadata(values)
    assert tokenizer.vocabulary()[-2:] == ("a\u2581b".encode(), "\u00e9".encode())
    assert tokenizer.decode(tokenizer.encode("xa\u2581b\u00e9")) == "xa\u2581b\u00e9"

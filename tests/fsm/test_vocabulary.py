"""Vocabularies: the trie holds every token once, twins share a mask, tables come back from disk and survive damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stemma.fsm import Matcher, Vocabulary, compile
from stemma.fsm.kernels.trie import Trie, build_trie
from stemma.fsm.syntax import ast
from stemma.fsm.vocabulary import disk_cache


def strings_of(trie: Trie) -> dict[bytes, int]:
    found = {}
    todo = [(0, b"")]
    while todo:
        node, data = todo.pop()
        if trie.key[node] >= 0:
            found[data] = int(trie.key[node])
        children = range(trie.first[node], trie.first[node + 1])
        assert [trie.byte[child] for child in children] == sorted({trie.byte[child] for child in children})
        todo += [(child, data + bytes([trie.byte[child]])) for child in children]
    return found


@given(st.sets(st.binary(min_size=1, max_size=5), max_size=30))
def test_a_trie_holds_its_strings(strings: set[bytes]) -> None:
    ordered = sorted(strings)
    assert strings_of(build_trie(ordered)) == {data: position for position, data in enumerate(ordered)}


def test_tokens_with_the_same_bytes_are_allowed_together() -> None:
    vocabulary = Vocabulary([b"a", b"b", b"a", None, b"", b"a"], {}, [3])
    matcher = Matcher(compile(ast.Grammar(ast.Literal(b"ab"), {}.__getitem__), vocabulary))
    row = np.zeros(1, np.uint32)
    matcher.mask_into(row)
    assert row[0] == 0b100101
    assert matcher.advance(2)
    matcher.mask_into(row)
    assert row[0] == 0b10


def test_special_and_unusable_tokens_are_never_bytes() -> None:
    vocabulary = Vocabulary([b"<s>", b"<", b"s", b">", None], {"<s>": 0}, [4])
    matcher = Matcher(compile(ast.Grammar(ast.Literal(b"<s>"), {}.__getitem__), vocabulary))
    assert not matcher.advance(0)
    assert matcher.advance(1)
    assert not matcher.advance(4)
    with pytest.raises(ValueError, match="outside the vocabulary"):
        matcher.advance(5)


def inside(text: bytes) -> np.ndarray:
    marks = np.zeros(129, np.int64)
    marks[list(text)] = 1
    return marks


@pytest.mark.parametrize("damage", [False, True])
def test_tables_come_back_from_disk(damage: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_cache, "cache_folder", lambda: tmp_path)
    tokens = [bytes([byte]) for byte in range(256)] + [b"abc", b'ab"', b"caba", b"b,c"]
    first = Vocabulary(tokens, {}, [])
    built = first.slice_of(inside(b"abc"))
    first.flush()
    files = sorted(tmp_path.rglob("*.npz"))
    assert len(files) == 2
    if damage:
        for file in files:
            file.write_bytes(file.read_bytes()[:100])
    again = Vocabulary(tokens, {}, [])
    loaded = again.slice_of(inside(b"abc"))
    assert strings_of(again.trie) == {data: token for token, data in enumerate(tokens)}
    for left, right in zip(built, loaded, strict=True):
        assert (left == right).all()
    assert set(built.tokens.tolist()) == {97, 98, 99, 256, 258}
    assert dict(zip(built.tokens.tolist(), built.lengths.tolist(), strict=True))[258] == 4


def test_another_vocabulary_has_other_tables() -> None:
    assert Vocabulary([b"a"], {}, []).key != Vocabulary([b"b"], {}, []).key

"""Guesses: which sign of JSON is taken for likely, and that what comes of it as drafts is legal and usually long."""

from __future__ import annotations

import pytest

from stemma.fsm import Matcher, Vocabulary, compile
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.matching.guesses import guessed_byte
from stemma.fsm.regex import Regex

VALUE = b'"-0123456789[{tfn'


@pytest.mark.parametrize(
    ("last", "following", "guessed"),
    [
        (b"{", b'"}', b'"'),
        (b":", VALUE, b'"'),
        (b":", b"{n", b"{"),
        (b"[", b"[]", b"["),
        (b"[", b"{]", b"{"),
        (b":", b"-0123456789", None),
        (b":", b"tf", None),
        (b'"', b",}", b","),
        (b'"', b",]", None),
        (b"e", b",", None),
        (b'"', bytes(range(32, 127)), None),
        (b":", bytes(range(32, 127)), None),
        (b"a", b'"', None),
    ],
)
def test_guessed_byte(last: bytes, following: bytes, guessed: bytes | None) -> None:
    found = guessed_byte(last[0], list(following))
    assert (None if found is None else bytes([found])) == guessed


def words(*texts: bytes) -> Vocabulary:
    """All bytes and `texts`; the longest that fits comes first in the encoder's eyes."""
    tokens = [bytes([byte]) for byte in range(256)] + list(texts)
    longest_first = sorted(range(len(tokens)), key=lambda token: -len(tokens[token]))

    def encode(data: bytes) -> list[int]:
        found = []
        while data:
            found.append(next(token for token in longest_first if data.startswith(tokens[token])))
            data = data[len(tokens[found[-1]]) :]
        return found

    return Vocabulary([*tokens, b""], {"<end>": len(tokens)}, [len(tokens)], encode)


def jumped(form: object, vocabulary: Vocabulary, text: bytes) -> bytes:
    matcher = Matcher(compile(form, vocabulary))  # type: ignore[arg-type]
    for byte in text:
        assert matcher.advance(byte)
    forced = matcher.forced()
    assert all(matcher.advance(token) for token in forced.tokens + forced.drafts)
    return b"".join(vocabulary.token_bytes[token] for token in forced.tokens + forced.drafts)


SCHEMA = {
    "type": "object",
    "properties": {
        "is": {"enum": ["red", "green"]},
        "many": {"type": "array", "items": {"type": "object"}},
        "rest": {"type": "integer"},
    },
    "required": ["is"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("text", "draft"),
    [
        (b'{"is":"r', b'ed","'),  # another member is likelier than none
        (b'{"is":"red","m', b'any":[{"'),  # neither list nor object is empty
        (b'{"is":"red","r', b'est":'),  # a number may begin in many ways
    ],
)
def test_a_draft_goes_on_where_json_mostly_does(text: bytes, draft: bytes) -> None:
    vocabulary = words(b'":"', b'":[{"', b'":[', b'","', b"ed", b'":', b'":-')
    assert jumped(JSONSchema(SCHEMA), vocabulary, text) == draft


def test_a_last_token_that_becomes_another_for_sure_is_not_drafted() -> None:
    vocabulary = words(b'"]', b'",', b"ne")
    assert jumped(Regex(r'\["one"(,"one")*\]'), vocabulary, b'["o') == b"ne"


def test_a_draft_may_go_on_to_the_end() -> None:
    assert jumped(Regex(r'x\{("a":1)?\}'), words(b'{"', b"1}"), b"x") == b'{"a":1}'

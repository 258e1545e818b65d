"""What a byte pair encoder never writes: which tokens cannot follow a text, and where a text is always cut.

Joining is local: a stretch of the tokens of a text is what its own bytes are joined to. So a token may stand behind a
text only if it is what the encoder writes last for the two together, whatever comes later. It knows no grammar.
"""

from __future__ import annotations

import bisect
import itertools
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

MAX_KNOWN = 1 << 16
LETTERS_AND_DIGITS = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
SPACES = frozenset(b" \t\n\r\x0b\x0c")
APOSTROPHE = b"'"
MARKS = frozenset(byte for byte in range(0x21, 0x7F) if byte not in LETTERS_AND_DIGITS and byte != ord("'"))
WORD_AND_MARK = re.compile(rb"[0-9A-Za-z\x80-\xff](?=[!-&(-/:-@\[-`{-~])")
MORE = (b"q", b"Z", b"~", b"=", b"\\", b"(", b"7", b"\n")
Tokenize = Callable[[bytes], list[int]]


class PairEncoding(NamedTuple):
    """The promise that an encoder splits text into pieces, from left to right, and joins pairs inside them by rank.

    Where a piece ends depends on the character behind it and nothing later, but at white space and apostrophes; it
    always ends where punctuation other than an apostrophe follows a letter or a digit (or text is not split at all).

    begins_piece: whether the last character of a text begins a piece.
    takes_whole: whether a piece that is a token is taken as it is, even if joining pairs would not make it.
    added: texts that are found before all that and become tokens of their own.
    """

    begins_piece: Callable[[bytes], bool]
    takes_whole: bool
    added: tuple[bytes, ...]


class BytePairRules:
    """Answers about one tokenizer, remembered. What is not proved is answered with the careful side."""

    def __init__(self, encoding: PairEncoding, tokenize: Tokenize, token_bytes: Sequence[bytes]) -> None:
        self._encoding = encoding
        self._tokenize = tokenize
        self._token_bytes = token_bytes
        self._begun = {text[:length] for text in encoding.added for length in range(1, len(text))}
        self._longest_begun = max(map(len, self._begun), default=0)
        self._over_cuts = _beginnings_over_cuts(token_bytes)
        self._longest_over = max(map(len, self._over_cuts), default=0)
        self._follows: dict[tuple[bytes, bytes], bool] = {}
        self._cuts: dict[tuple[bytes, int], bool] = {}
        self._joined: dict[int, bool] = {}

    def last_cut(self, text: bytes, limit: int, is_whole: bool) -> int | None:
        """The last place up to `limit` where every encoding is cut and begins as if the text did; None if there is
        none, and the start is not one (`is_whole`)."""
        for place in range(min(limit, len(text) - 1), 0, -1):
            if text[place] in MARKS and _ends_in_letter_or_digit(text, place):
                if place < self._longest_over and not is_whole:
                    break
                if not self._is_over_cut(text, place):
                    return place
        return 0 if is_whole else None

    def cuts(self, left: bytes, byte: int) -> bool:
        """Whether every encoding of `left`, `byte` and anything behind is cut between the two."""
        if byte >= 0x80:
            return False
        key = (left, byte)
        known = self._cuts.get(key)
        if known is None:
            if len(self._cuts) > MAX_KNOWN:
                self._cuts.clear()
            known = self._cuts[key] = (
                is_settled(left)
                and APOSTROPHE[0] != byte
                and not self.num_begun(left)
                and self._encoding.begins_piece(left + bytes([byte]))
            )
        return known

    def may_follow(self, left: bytes, token: bytes) -> bool:
        """False if `token` stands behind `left` in no encoding, whatever comes after it."""
        key = (left, token)
        known = self._follows.get(key)
        if known is None:
            if len(self._follows) > MAX_KNOWN:
                self._follows.clear()
            known = self._follows[key] = self._may_follow(left, token)
        return known

    def num_begun(self, text: bytes) -> int:
        """How many of the last bytes may be the beginning of an added token, before which text is cut first of all."""
        lengths = range(min(len(text), self._longest_begun), 0, -1)
        return next((length for length in lengths if text[len(text) - length :] in self._begun), 0)

    def tokens(self, text: bytes) -> list[int] | None:
        """What every encoding that is cut behind `text` begins with, if that is certain."""
        if not is_settled(text):
            return None
        return self._tokenize(text)

    def is_joined(self, token: int) -> bool:
        """Whether joining pairs makes this token of its bytes."""
        if not self._encoding.takes_whole:
            return True
        known = self._joined.get(token)
        if known is None:
            known = self._joined[token] = self._is_joined(token)
        return known

    def _may_follow(self, left: bytes, token: bytes) -> bool:
        text = left + token
        if not is_settled(text):
            return True
        tokens = self._tokenize(text)
        if b"".join(self._token_bytes[each] for each in tokens) != text:
            return True
        last = self._token_bytes[tokens[-1]]
        if len(last) <= len(token):
            return len(last) == len(token)
        return not self.is_joined(tokens[-1])

    def _is_joined(self, token: int) -> bool:
        """A token that begins a longer piece which is no token was joined there, so it is joined anywhere."""
        data = self._token_bytes[token]
        if not _is_text(data):
            return False
        for more in MORE:
            if not self._encoding.begins_piece(data + more):
                tokens = self._tokenize(data + more)
                if len(tokens) > 1 and tokens[0] == token:
                    return True
        return False

    def _is_over_cut(self, text: bytes, place: int) -> bool:
        """Whether some token may have this place inside it, by what is left of it."""
        lengths = range(1, min(place, self._longest_over) + 1)
        return any(text[place - length : place] in self._over_cuts for length in lengths)


def is_settled(text: bytes) -> bool:
    """Whether the pieces of `text` stay as they are, the last one perhaps longer, with anything behind it."""
    return text.isascii() and bool(text) and text[-1] not in SPACES and APOSTROPHE not in text[-3:]


def _ends_in_letter_or_digit(text: bytes, place: int) -> bool:
    if text[place - 1] < 0x80:
        return text[place - 1] in LETTERS_AND_DIGITS
    for start in range(place - 2, max(-1, place - 5), -1):
        if text[start] >= 0xC0:
            return text[start:place].decode("utf-8", "replace").isalpha()
    return False


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _beginnings_over_cuts(token_bytes: Sequence[bytes]) -> frozenset[bytes]:
    """What stands before such a place inside a token, for tokens that have one: few, or none."""
    all_bytes = b" ".join(token_bytes)
    ends = list(itertools.accumulate(len(data) + 1 for data in token_bytes))
    beginnings = set()
    for found in WORD_AND_MARK.finditer(all_bytes):
        token = bisect.bisect_right(ends, found.start())
        beginnings.add(all_bytes[ends[token] - len(token_bytes[token]) - 1 : found.end()])
    return frozenset(beginnings)

"""Forced tokens (llguidance: fast-forward tokens; SGLang: jump-forward). Where the grammar leaves one way, its bytes
are known, but not yet which tokens they become: that depends on what follows. Tokens that end at or before the last
token boundary are forced, the rest are drafts, verified like any guess.

    output ...{         forced bytes "name":      what may follow: any text, so `"`
    tokens              { " name ":               `":` may become `":"`
    forced, drafts      " name                    ":"
"""

from __future__ import annotations

import itertools

import numpy as np

from stemma.fsm.kernels.tables import Int64s
from stemma.fsm.matching.grammar import CompiledGrammar, Forced
from stemma.fsm.matching.guesses import guessed_byte
from stemma.fsm.vocabulary.byte_pairs import MARKS, SPACES, BytePairRules, Tokenize, is_settled

WINDOW = 96  # bytes of output before the jump that are encoded with it
MAX_JUMPS = 1 << 14  # remembered in a grammar
MAX_GUESSES = 4
FEW = 4  # bytes that may follow, each of which is tried
APOSTROPHE = 0x27
COMPOSED_MARKS = b"<=>"
FIRST_ACCENT = 0xCC  # the first byte of U+0300


def forced_tokens(grammar: CompiledGrammar, config: int, tail: bytes, is_whole: bool) -> Forced:
    """What must follow `tail`, the end of the output (`is_whole`: all of it, back to its start or a special token)."""
    data, _ = grammar.jump_edge(config)
    tokenize, rules = grammar.vocabulary.tokenize, grammar.vocabulary.pair_rules
    if not data:
        token = grammar.only_special(config)
        return Forced([] if token is None else [token], [])
    if tokenize is None:
        return Forced([], [])
    start = None if rules is None else rules.last_cut(tail + data[:1], len(tail), is_whole)
    if start is None:
        return _computed(grammar, tokenize, config, tail, is_whole)
    key = (config, tail[start:])
    known = grammar.jumps.get(key)
    if known is None:
        if len(grammar.jumps) > MAX_JUMPS:
            grammar.jumps.clear()
        known = grammar.jumps[key] = _computed(grammar, tokenize, config, tail[start:], True)
    return Forced([*known.tokens], [*known.drafts])


def _computed(grammar: CompiledGrammar, tokenize: Tokenize, config: int, tail: bytes, is_whole: bool) -> Forced:
    """The same; `is_whole`: an encoder may start where `tail` does."""
    data, end = grammar.jump_edge(config)
    known = _whole_characters(tail + data)[len(tail) :]
    if len(known) < len(data):
        data, end = known, grammar.after(config, known)
    if not data:  # the beginning of a character, of which no encoder knows the token
        return Forced([], [])
    boundaries = TokenBoundaries(grammar, tail + data, end)
    start = 0 if is_whole else boundaries.first(len(tail))
    if start is None:
        return Forced([], _encoded(grammar, tokenize, data) or [])
    text = tail[start:] + data
    tokens = _encoded(grammar, tokenize, text)
    if tokens is None:
        return Forced([], [])
    places = list(itertools.accumulate(len(grammar.vocabulary.token_bytes[token]) for token in tokens))
    begun = len(tail) - start
    if begun and begun not in places:
        return Forced([], _encoded(grammar, tokenize, data) or [])
    first = places.index(begun) + 1 if begun else 0
    certain = len(tokens)
    if not grammar.is_end_of_text(end):
        while certain > first and not boundaries.is_certain(start, start + places[certain - 1], tokens[:certain]):
            certain -= 1
    return Forced(tokens[first:certain], _drafts(grammar, tokenize, text, end, tokens[:certain]))


def _drafts(grammar: CompiledGrammar, tokenize: Tokenize, text: bytes, end: int, certain: list[int]) -> list[int]:
    """What likely follows the tokens that are certain: the rest of `text`, and on where its end can be guessed."""
    for _ in range(MAX_GUESSES):
        following = grammar.next_bytes(end)
        byte = None if grammar.is_accepting(end) else guessed_byte(text[-1], following)
        if byte is None:
            break
        more = bytes([byte])
        data, end = grammar.jump_edge(grammar.after(end, more))
        text += more + data
    text = _whole_characters(text)
    tokens = _encoded(grammar, tokenize, text) or []
    drafts = tokens[len(certain) :] if tokens[: len(certain)] == certain else []
    following = grammar.next_bytes(end)
    if drafts and 0 < len(following) <= FEW and all(_joins(grammar, tokenize, text, byte) for byte in following):
        drafts.pop()
    return drafts


def _joins(grammar: CompiledGrammar, tokenize: Tokenize, text: bytes, byte: int) -> bool:
    """Whether the last token of `text` becomes another with `byte` behind it."""
    longer = _encoded(grammar, tokenize, text + bytes([byte])) if byte < 0x80 else None
    return longer is not None and len(grammar.vocabulary.token_bytes[longer[-1]]) > 1


class TokenBoundaries:
    """The places in `text` that no token spans in any encoding, given that `end` reads what follows."""

    def __init__(self, grammar: CompiledGrammar, text: bytes, end: int) -> None:
        self.grammar = grammar
        self.text = text
        self.end = end
        self._spanned: Int64s | None = None

    def first(self, limit: int) -> int | None:
        """The first place before `limit` where an encoder may start as if the text started there."""
        for place in range(1, limit):
            if not self.spanned[place] and not _is_inside(self.text, place):
                return place
        return None

    def is_certain(self, start: int, place: int, tokens: list[int]) -> bool:
        """Whether every encoding from `start` on begins with `tokens`, which reach to `place`."""
        if place == len(self.text) and self._may_be_composed():
            return False
        rules = self.grammar.vocabulary.pair_rules
        if rules is None:
            return self._is_never_spanned(place)
        origin = rules.last_cut(self.text[start:], place - start - 1, True)
        assert origin is not None
        origin += start
        left = self.text[origin:place]
        if not self._is_cut(rules, left, place):
            if not rules.is_joined(tokens[-1]):
                return False
            is_boundary = self._is_boundary(rules, origin, place) if is_settled(left) else None
            if is_boundary is None:
                return self._is_never_spanned(place)
            if not is_boundary:
                return False
        known = rules.tokens(left)
        return known is not None and known == tokens[len(tokens) - len(known) :]

    def _may_be_composed(self) -> bool:
        """Whether the last character may become another with an accent behind it, where a tokenizer composes them."""
        last = self.text[-1]
        if last in SPACES or (last in MARKS and last not in COMPOSED_MARKS):
            return False
        return any(byte >= FIRST_ACCENT for byte in self.grammar.next_bytes(self.end))

    def _is_cut(self, rules: BytePairRules, left: bytes, place: int) -> bool:
        """Whether a piece ends at `place` whatever follows."""
        following = [self.text[place]] if place < len(self.text) else self.grammar.next_bytes(self.end)
        return all(rules.cuts(left, byte) for byte in following)

    def _is_boundary(self, rules: BytePairRules, origin: int, place: int) -> bool | None:
        """Whether no token that could span `place` can stand there; None if these are too many to look at. Encodings
        are cut at `origin`."""
        text = self.text[origin:]
        cuts = np.zeros(256, np.int64)
        for byte in self.grammar.next_bytes(self.end):
            cuts[byte] = rules.cuts(text, byte)
        token_bytes = self.grammar.vocabulary.token_bytes
        for start, token in self.grammar.spans(text, self.end, cuts):
            if start >= place - origin:
                break
            if token < 0:
                return None
            data = token_bytes[token]
            if start + len(data) > place - origin and rules.may_follow(text[:start], data):
                return False
        return True

    @property
    def spanned(self) -> Int64s:
        if self._spanned is None:
            self._spanned = self.grammar.spanned(self.text, self.end)
        return self._spanned

    def _is_never_spanned(self, place: int) -> bool:
        """Whether no token spans `place`, and it is safe from splitters that look ahead.

        Before pairs are joined, tokenizers split text by an expression whose choices depend on the next characters in
        two known cases: white space (its last character goes with a word that follows) and apostrophes ('s, 'll, 're).
        """
        text = self.text
        if self.spanned[place] or (place < len(text) and _is_inside(text, place)):
            return False
        before = text[max(0, place - 2) : place]
        rules = self.grammar.vocabulary.pair_rules
        unknown = place + 2 - len(text) + (rules.num_begun(text) if rules else 0)
        if unknown >= 2 and (APOSTROPHE in before or before[-1] in SPACES):
            return False
        return not (unknown == 1 and before[-1] == APOSTROPHE)


def _encoded(grammar: CompiledGrammar, tokenize: Tokenize, text: bytes) -> list[int] | None:
    """The canonical tokens of `text`, or None where the tokenizer does not give back the same bytes."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return None
    tokens = tokenize(text)
    token_bytes = grammar.vocabulary.token_bytes
    return tokens if b"".join(token_bytes[token] for token in tokens) == text else None


def _whole_characters(text: bytes) -> bytes:
    """`text` without the bytes of a character that is not complete."""
    for length in range(1, min(4, len(text) + 1)):
        lead = text[-length]
        if lead >= 0xC0:
            size = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return text if size == length else text[:-length]
        if lead < 0x80:
            break
    return text


def _is_inside(text: bytes, place: int) -> bool:
    """Whether `place` is inside a character or a stretch of white space."""
    return 0x80 <= text[place] < 0xC0 or (text[place] in SPACES and text[place - 1] in SPACES)

"""Forced tokens. Where the grammar leaves one way, its bytes are known; which tokens they become depends on what
follows, so only tokens left of the last seam are hard. The rest are drafts, to be verified like any guess.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from stemma.fsm.grammar import CompiledGrammar
from stemma.fsm.vocabulary import Tokenize

WINDOW = 96  # bytes of output before the jump that are encoded with it
SPACES = b" \t\n\r\x0b\x0c"
APOSTROPHE = 0x27


class Forced(NamedTuple):
    """Tokens that must come next: `hard` ones are certain and canonical, `drafts` have to be verified like guesses."""

    hard: list[int]
    drafts: list[int]


def forced_tokens(grammar: CompiledGrammar, config: int, tail: bytes, is_whole: bool) -> Forced:
    """What must follow `tail`, the end of the output (`is_whole`: all of it, back to its start or a special token)."""
    data, end = grammar.chain(config)
    tokenize = grammar.vocabulary.tokenize
    if not data:
        token = grammar.only_special(config)
        return Forced([] if token is None else [token], [])
    if tokenize is None:
        return Forced([], [])
    data = _whole_characters(tail + data)[len(tail) :]
    spanned = grammar.spanned(tail + data, end)
    start = 0 if is_whole else _first_seam(tail, spanned)
    if start is None:
        return Forced([], _encoded(grammar, tokenize, data) or [])
    text = tail[start:] + data
    tokens = _encoded(grammar, tokenize, text)
    if tokens is None:
        return Forced([], [])
    seam = len(text) if grammar.is_end_of_text(end) else _last_seam(text, spanned[start:])
    return _divided(grammar, tokenize, tokens, len(tail) - start, seam, data)


def _divided(
    grammar: CompiledGrammar, tokenize: Tokenize, tokens: list[int], start: int, seam: int, data: bytes
) -> Forced:
    """`tokens` of the window as hard and drafts: the jump starts at byte `start`, the last seam is at `seam`."""
    hard: list[int] = []
    drafts: list[int] = []
    position = 0
    starts_here = False
    for token in tokens:
        starts_here = starts_here or position == start
        position += len(grammar.vocabulary.token_bytes[token])
        if starts_here:
            (hard if position <= seam else drafts).append(token)
    if starts_here:
        return Forced(hard, drafts)
    return Forced([], _encoded(grammar, tokenize, data) or [])


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


def _first_seam(tail: bytes, spanned: np.ndarray) -> int | None:
    """The first place in `tail` where an encoder may start as if the text started there."""
    for place in range(1, len(tail)):
        if not spanned[place] and not _is_inside(tail, place):
            return place
    return None


def _is_inside(text: bytes, place: int) -> bool:
    """Whether `place` is inside a character or a stretch of white space."""
    return 0x80 <= text[place] < 0xC0 or (text[place] in SPACES and text[place - 1] in SPACES)


def _last_seam(text: bytes, spanned: np.ndarray) -> int:
    """The last seam that is also safe from splitters that look ahead.

    Before byte pairs are joined, tokenizers split text by an expression whose choices depend on the next characters in
    two known cases: white space (its last character goes with a word that follows) and apostrophes ('s, 'll, 're).
    """
    length = len(text)
    for place in range(length, 0, -1):
        if spanned[place]:
            continue
        if place < length and _is_inside(text, place):
            continue
        before = text[max(0, place - 2) : place]
        unknown = place + 2 - length
        if unknown >= 2 and (APOSTROPHE in before or before[-1] in SPACES):
            continue
        if unknown == 1 and before[-1] == APOSTROPHE:
            continue
        return place
    return 0

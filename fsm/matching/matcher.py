"""Where one sequence stands in its grammar: masks, advance, rollback, fork. The history is a linked list, so a fork
costs nothing and shares it. It computes no mask itself; the grammar does and remembers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stemma.fsm.matching.grammar import CompiledGrammar, Forced
from stemma.fsm.matching.jump import WINDOW, forced_tokens


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the output: the configuration there, and the token that led to it."""

    config: int
    token: int
    parent: Position | None
    ended: bool


class Matcher:
    """One sequence's state in a compiled grammar."""

    __slots__ = ("_position", "grammar")

    def __init__(self, grammar: CompiledGrammar) -> None:
        self.grammar = grammar.for_new_sequence()
        self._position = Position(self.grammar.start, -1, None, False)

    @property
    def config(self) -> int:
        """The configuration of the automaton: the same number is the same future."""
        return self._position.config

    @property
    def is_complete(self) -> bool:
        """Whether the output so far is a whole value: end-of-text is allowed."""
        return self._position.ended or self.grammar.is_accepting(self._position.config)

    @property
    def is_finished(self) -> bool:
        """Whether end-of-text was consumed, or nothing else can follow."""
        return self._position.ended or self.grammar.ends_at(self._position.config)

    @property
    def tokens(self) -> list[int]:
        """The tokens consumed, first to last."""
        tokens = []
        position: Position | None = self._position
        while position is not None and position.parent is not None:
            tokens.append(position.token)
            position = position.parent
        return tokens[::-1]

    @property
    def output(self) -> bytes:
        """The bytes of the tokens consumed, special tokens left out."""
        token_bytes = self.grammar.vocabulary.token_bytes
        return b"".join(token_bytes[token] for token in self.tokens)

    def mask_into(self, row: npt.NDArray[np.uint32]) -> None:
        """Write the mask of the tokens allowed next into `row` (ceil(vocabulary / 32) words)."""
        if self._position.ended:
            row[:] = 0
        else:
            row[:] = self.grammar.mask(self._position.config)

    def advance(self, token: int) -> bool:
        """Consume `token`; False, and nothing changes, if it is not allowed here."""
        position = self._position
        if position.ended:
            return False
        if token in self.grammar.vocabulary.eos_ids and self.grammar.is_accepting(position.config):
            self._position = Position(position.config, token, position, True)
            return True
        config = self.grammar.step(position.config, token)
        if not config:
            return False
        self._position = Position(config, token, position, False)
        return True

    def rollback(self, num_tokens: int) -> None:
        """Take back the last `num_tokens` tokens."""
        position = self._position
        for _ in range(num_tokens):
            if position.parent is None:
                raise ValueError(f"cannot roll back {num_tokens} tokens: there are only {len(self.tokens)}")
            position = position.parent
        self._position = position

    def fork(self) -> Matcher:
        """Another matcher at the same place; both go on independently."""
        other = Matcher.__new__(Matcher)
        other.grammar = self.grammar
        other._position = self._position
        return other

    def shortest_completion(self, budget: int = 4096) -> list[int] | None:
        """The tokens of a shortest completion (end-of-text not among them), or None if it takes more than `budget`.

        To end in time with n tokens left: as long as the completion fits, sample; when the completion after a sampled
        token would no longer fit in what is left, take the token back and follow the completion before it.
        """
        if self._position.ended:
            return []
        return self.grammar.shortest_completion(self._position.config, budget)

    def forced(self) -> Forced:
        """The tokens that must come next. Without the vocabulary's `tokenize` there are none."""
        position = self._position
        if position.ended or not self.grammar.leaves_one_way(position.config):
            return Forced([], [])
        pieces: list[bytes] = []
        size = 0
        here: Position | None = position
        while here is not None and here.parent is not None and size < WINDOW:
            piece = self.grammar.vocabulary.token_bytes[here.token]
            if not piece:
                here = None
                break
            pieces.append(piece)
            size += len(piece)
            here = here.parent
        is_whole = here is None or here.parent is None
        return forced_tokens(self.grammar, position.config, b"".join(reversed(pieces)), is_whole)


def fill_masks(matchers: Sequence[Matcher], rows: npt.NDArray[np.uint32]) -> None:
    """Write the mask of each matcher into its row of `rows` (matchers, ceil(vocabulary / 32))."""
    for matcher, row in zip(matchers, rows, strict=True):
        matcher.mask_into(row)

"""Where one sequence stands in its grammar: masks, advance, rollback, fork. The history is a linked list, so a fork
costs nothing and shares it. It computes no mask itself; the grammar does and remembers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from operator import attrgetter, is_

import numpy as np
import numpy.typing as npt

from stemma.fsm.matching.grammar import CompiledGrammar, Forced
from stemma.fsm.matching.jump import WINDOW, forced_tokens
from stemma.fsm.matching.place import Place

Past = tuple[int, Place, "Past"] | None
"""A token that was consumed, the place before it, and the past of that."""


class Matcher:
    """One sequence's state in a compiled grammar."""

    __slots__ = ("_past", "_place", "grammar")

    def __init__(self, grammar: CompiledGrammar) -> None:
        self.grammar = grammar.for_new_sequence()
        self._place = self.grammar.place(self.grammar.start)
        self._past: Past = None

    @property
    def config(self) -> int:
        """The configuration of the automaton: the same number is the same future."""
        return self._place.config

    @property
    def is_complete(self) -> bool:
        """Whether the output so far is a whole value: end-of-text is allowed."""
        return self._place.is_end or self.grammar.is_accepting(self._place.config)

    @property
    def is_finished(self) -> bool:
        """Whether end-of-text was consumed, or nothing else can follow."""
        return self.grammar.is_last(self._place)

    @property
    def tokens(self) -> list[int]:
        """The tokens consumed, first to last."""
        tokens = []
        past = self._past
        while past is not None:
            token, _, past = past
            tokens.append(token)
        return tokens[::-1]

    @property
    def output(self) -> bytes:
        """The bytes of the tokens consumed, special tokens left out."""
        token_bytes = self.grammar.vocabulary.token_bytes
        return b"".join(token_bytes[token] for token in self.tokens)

    def mask_into(self, row: npt.NDArray[np.uint32]) -> None:
        """Write the mask of the tokens allowed next into `row` (ceil(vocabulary / 32) words)."""
        row[:] = self.grammar.mask_at(self._place)

    def advance(self, token: int) -> bool:
        """Consume `token`; False, and nothing changes, if it is not allowed here."""
        place = self._place
        key = place.steps.get(token)
        if key is None:
            key = self.grammar.step_from(place, token)
        if not key:
            return False
        self._past = (token, place, self._past)
        self._place = self.grammar.places[key]
        return True

    def rollback(self, num_tokens: int) -> None:
        """Take back the last `num_tokens` tokens."""
        place, past = self._place, self._past
        for _ in range(num_tokens):
            if past is None:
                raise ValueError(f"cannot roll back {num_tokens} tokens: there are only {len(self.tokens)}")
            _, place, past = past
        self._place, self._past = place, past

    def fork(self) -> Matcher:
        """Another matcher at the same place; both go on independently."""
        other = Matcher.__new__(Matcher)
        other.grammar, other._place, other._past = self.grammar, self._place, self._past
        return other

    def shortest_completion(self, budget: int = 4096) -> list[int] | None:
        """The tokens of a shortest completion (end-of-text not among them), or None if it takes more than `budget`.

        To end in time with n tokens left: as long as the completion fits, sample; when the completion after a sampled
        token would no longer fit in what is left, take the token back and follow the completion before it.
        """
        return [] if self._place.is_end else self.grammar.shortest_completion(self._place.config, budget)

    def forced(self) -> Forced:
        """The tokens that must come next. Without the vocabulary's `tokenize` there are none."""
        if not self.grammar.leaves_one_way(self._place):
            return Forced([], [])
        token_bytes = self.grammar.vocabulary.token_bytes
        pieces: list[bytes] = []
        size, past = 0, self._past
        while past is not None and size < WINDOW:
            token, _, past = past
            piece = token_bytes[token]
            if not piece:
                past = None
                break
            pieces.append(piece)
            size += len(piece)
        return forced_tokens(self.grammar, self._place.config, b"".join(reversed(pieces)), past is None)


MASK_OF = attrgetter("_place.mask")


def fill_masks(matchers: Sequence[Matcher], rows: npt.NDArray[np.uint32]) -> None:
    """Write the mask of each matcher into its row of `rows` (matchers, ceil(vocabulary / 32)). Those that are known are
    copied all at once."""
    if len(rows) != len(matchers):
        raise ValueError(f"rows: one for each of the {len(matchers)} matchers, not {len(rows)}")
    masks = list(map(MASK_OF, matchers))
    if any(map(is_, masks, repeat(None))):
        masks = [matcher.grammar.mask_at(matcher._place) for matcher in matchers]
    if masks:
        rows[:] = masks

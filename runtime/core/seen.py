"""The tokens of a sequence whose logits its request changes: kept from step to step, since each adds a few.

index     of a token       0   1   2   3   4 ...
token                     [a   b | c   d   e ...    in order: those with a bias, those that end; then as they come
factor                     1   p   p   p   p        the penalty of repetition, once it came (prompt or output)
count                      0   2   0   1   1        how often it was generated
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from stemma.kernels.changes import NOTHING_ADDED

Int32s = npt.NDArray[np.int32]
Float32s = npt.NDArray[np.float32]


class SeenTokens:
    """factor: what a token that came is penalised by; 1 is no penalty. vocabulary: ids are below it.

    Raises IndexError for a token that is none.
    """

    __slots__ = (
        "_at", "_bias", "_counts", "_factor", "_factors", "_num_ends", "_size", "_tokens", "_vocabulary", "num_taken",
    )  # fmt: skip

    def __init__(self, bias: Mapping[int, float], ends: Collection[int], factor: float, vocabulary: int) -> None:
        self._vocabulary = vocabulary
        self._factor = factor
        self._at: dict[int, int] = {}
        self._size = 0
        self._tokens = np.empty(64, dtype=np.int32)
        self._bias, self._factors = np.full(64, NOTHING_ADDED, dtype=np.float32), np.ones(64, dtype=np.float32)
        self._counts = np.zeros(64, dtype=np.int32)
        self.num_taken = 0  # tokens of the sequence that are counted here
        for token in (*ends, *bias):
            self._place(token)
        self._num_ends = len({*ends})
        for token, value in bias.items():
            self._bias[self._at[token]] = value

    def take(self, tokens: Sequence[int], num_prompt: int) -> None:
        """All tokens so far, of which the first `num_taken` were taken before. Those of the prompt count if they are
        penalised."""
        start, self.num_taken = self.num_taken, len(tokens)
        if self._factor == 1:
            start = max(start, num_prompt)
        for position in range(start, len(tokens)):
            at = self._place(tokens[position])
            self._factors[at] = self._factor
            self._counts[at] += position >= num_prompt

    def copy(self) -> SeenTokens:
        """One that goes on by itself."""
        made = SeenTokens.__new__(SeenTokens)
        made._vocabulary, made._factor, made._size = self._vocabulary, self._factor, self._size
        made._num_ends, made.num_taken = self._num_ends, self.num_taken
        made._at = self._at.copy()
        made._tokens, made._bias = self._tokens.copy(), self._bias.copy()
        made._factors, made._counts = self._factors.copy(), self._counts.copy()
        return made

    def places(
        self, presence: float, frequency: float, *, is_early: bool
    ) -> tuple[Int32s, Float32s, Float32s, Float32s]:
        """Tokens, bias, factors, what is added. is_early: the text may not end yet."""
        size = self._size
        added = np.full(size, NOTHING_ADDED, dtype=np.float32)
        if presence or frequency:
            counts = self._counts[:size]
            np.copyto(added, -(presence + frequency * counts), where=counts > 0, casting="same_kind")
        if is_early:
            added[: self._num_ends] = -np.inf
        return self._tokens[:size].copy(), self._bias[:size].copy(), self._factors[:size].copy(), added

    def _place(self, token: int) -> int:
        at = self._at.get(token)
        if at is not None:
            return at
        if not 0 <= token < self._vocabulary:
            raise IndexError(f"token {token} is not one of {self._vocabulary}")
        at = self._at[token] = self._size
        if at == len(self._tokens):
            self._grow()
        self._tokens[at] = token
        self._size += 1
        return at

    def _grow(self) -> None:
        """Twice the room."""
        size = len(self._tokens)
        self._tokens = np.concatenate((self._tokens, np.empty(size, dtype=np.int32)))
        self._bias = np.concatenate((self._bias, np.full(size, NOTHING_ADDED, dtype=np.float32)))
        self._factors = np.concatenate((self._factors, np.ones(size, dtype=np.float32)))
        self._counts = np.concatenate((self._counts, np.zeros(size, dtype=np.int32)))

"""Sequences, leases, rows and a grammar by hand, for tests of one module of the core at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import takewhile
from typing import NamedTuple

import numpy as np

from stemma.radix import PrefixCache
from stemma.runtime.core.batch import Row
from stemma.runtime.core.drafts.drafter import Drafter
from stemma.runtime.core.drafts.source import Guess
from stemma.runtime.core.drafts.trust import NUM_LEVELS
from stemma.runtime.core.sampling import Sampling
from stemma.runtime.core.sequence import Request, Sequence


def sequence(prompt, max_tokens=8, sampling=None, seed=0, matcher=None, stop_checker=None, **options) -> Sequence:
    """A sequence that greedily continues a prompt; options: other fields of its request."""
    asked = Request(np.array(prompt, dtype=np.int32), max_tokens, sampling or Sampling(), seed, **options)
    return Sequence(asked, matcher, stop_checker)


def running(cache: PrefixCache, item: Sequence, num_tokens: int) -> Sequence:
    """Gives a sequence a lease on its first tokens, as though these had been computed: found, or written."""
    tokens = np.array(item.tokens, dtype=np.int32)
    item.lease = cache.acquire(tokens, item.request.namespace, max_hit=num_tokens)
    rest = item.tokens[item.lease.num_tokens : num_tokens]
    item.lease.reserve(len(rest))
    item.lease.extend(rest)
    item.num_computed = num_tokens
    return item


def row(item: Sequence, start: int, tokens: list[int], num_drafts=0, num_samples=None) -> Row:
    """A step's row; sampled behind its last token and each of its drafts, if nothing else is said."""
    return Row(item, start, tokens, num_drafts, 1 + num_drafts if num_samples is None else num_samples)


def common(*lists: list[int]) -> list[int]:
    """What all of them begin with."""
    return [tokens[0] for tokens in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*lists, strict=False))]


class Guesses:
    """A source of drafts that is sure of itself. guess: from a sequence's tokens, what comes next."""

    first_trust = (1.0,) * NUM_LEVELS

    def __init__(self, guess: Callable[[list[int]], list[int]]) -> None:
        self._guess = guess

    def guess(self, sequence: Sequence, at_most: int) -> Guess:
        return Guess(self._guess(sequence.tokens)[:at_most], 0)


def drafter(guess: Callable[[list[int]], list[int]], max_batch_tokens: int = 1024) -> Drafter:
    """What computes such guesses in every step."""
    return Drafter({"test": lambda: Guesses(guess)}, max_batch_tokens)


class Forced(NamedTuple):
    """What must, and what may, come next."""

    tokens: list[int]
    drafts: list[int]


class Words:
    """A grammar matcher of finitely many outputs, none of which begins another. It guesses nothing."""

    def __init__(self, *words: Iterable[int]) -> None:
        self.words = [list(word) for word in words]
        self.said: list[int] = []

    def past(self, *tokens: int) -> Words:
        """Itself, with these tokens taken."""
        assert all(map(self.advance, tokens))
        return self

    def _rests(self) -> list[list[int]]:
        length = len(self.said)
        return [word[length:] for word in self.words if word[:length] == self.said]

    def mask_into(self, row) -> None:
        row[:] = 0
        for token in {rest[0] for rest in self._rests() if rest}:
            row[token // 32] |= np.uint32(1 << token % 32)

    def advance(self, token: int) -> bool:
        allowed = any(rest[:1] == [token] for rest in self._rests())
        if allowed:
            self.said.append(token)
        return allowed

    def forced(self) -> Forced:
        return Forced(common(*self._rests()), [])

    def rollback(self, num_tokens: int) -> None:
        del self.said[len(self.said) - num_tokens :]

    @property
    def is_finished(self) -> bool:
        return self.said in self.words

    def shortest_completion(self, budget: int) -> list[int] | None:
        return min((rest for rest in self._rests() if len(rest) <= budget), key=len, default=None)

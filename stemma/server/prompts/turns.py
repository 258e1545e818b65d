"""Answers as they were generated, recognised when a client sends them back as text.

The same text has many tokenizations. A chat that comes back with the server's own answer in it is given the tokens that
were generated, so that the cache holds all of it:

    prompt, encoded from text   | turn 1 .......... | answer as text | turn 2 ...
    found here                  | turn 1 as it ran  | as generated   |
    prompt that is run          | turn 1 as it ran  | as generated   | turn 2 ...   (the rest is kept)

Answers are found by namespace, text, and the exact token ids of everything before them: neither another tenant's answer
nor text that merely looks like a turn can be taken for one.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

BYTES_OF_A_TURN = 1024
"""What finds a turn: its key, the digest of its place, its entries in both dicts."""


class TurnKey(NamedTuple):
    """What an answer is found by. place: digest of the token ids before it; answer: its text and calls."""

    namespace: str
    answer: str
    place_len: int
    place: bytes


class TurnMemory:
    """The last turns, least recently used ones forgotten. Any thread may use it."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0
        self._num_tokens = 0
        self._turns: OrderedDict[TurnKey, array[int]] = OrderedDict()
        self._lengths: dict[tuple[str, str], Counter[int]] = {}  # of the places of an answer
        self._lock = threading.Lock()

    @property
    def num_bytes(self) -> int:
        """About how much memory they take."""
        return self._num_bytes

    @property
    def num_tokens(self) -> int:
        """Tokens of all that is kept."""
        return self._num_tokens

    def remember(self, namespace: str, before: Sequence[int], answer: str, tokens: Sequence[int]) -> None:
        """An answer was given.

        before: tokens of the prompt as it is encoded from text. tokens: prompt and answer as they were run.
        """
        key = TurnKey(namespace, answer, len(before), next(_digests(before, [len(before)])))
        turn = array("i", tokens)
        if _size(key, turn) > self._max_bytes:
            return
        with self._lock:
            self._forget(key)
            self._turns[key] = turn
            self._lengths.setdefault((namespace, answer), Counter())[len(before)] += 1
            self._num_tokens += len(turn)
            self._num_bytes += _size(key, turn)
            while self._num_bytes > self._max_bytes:
                self._forget(next(iter(self._turns)))

    def find(self, namespace: str, answer: str, tokens: Sequence[int]) -> tuple[int, list[int]] | None:
        """The turn with this answer whose place is the beginning of `tokens`: where the answer begins there, and the
        tokens as they were run. The longest place wins."""
        with self._lock:
            lengths = sorted(n for n in self._lengths.get((namespace, answer), ()) if n <= len(tokens))
            keys = [
                TurnKey(namespace, answer, *place) for place in zip(lengths, _digests(tokens, lengths), strict=True)
            ]
            for key in reversed(keys):
                if key in self._turns:
                    self._turns.move_to_end(key)
                    return key.place_len, self._turns[key].tolist()
        return None

    def _forget(self, key: TurnKey) -> None:
        tokens = self._turns.pop(key, None)
        if tokens is None:
            return
        self._num_tokens -= len(tokens)
        self._num_bytes -= _size(key, tokens)
        lengths = self._lengths[key.namespace, key.answer]
        lengths[key.place_len] -= 1
        if not lengths[key.place_len]:
            del lengths[key.place_len]
        if not lengths:
            del self._lengths[key.namespace, key.answer]


def _size(key: TurnKey, tokens: array[int]) -> int:
    """Bytes of a turn, about."""
    return BYTES_OF_A_TURN + sys.getsizeof(key.answer) + len(tokens) * tokens.itemsize


def _digests(tokens: Sequence[int], lengths: Iterable[int]) -> Iterator[bytes]:
    """Digests of the beginnings of these lengths, in ascending order."""
    data, done = array("i", tokens), 0
    state = hashlib.blake2b(digest_size=16)
    for length in lengths:
        state.update(data[done:length].tobytes())
        done = length
        yield state.copy().digest()

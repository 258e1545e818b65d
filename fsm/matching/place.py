"""What is known of the places in one grammar: where tokens lead from each, and its mask. It computes nothing: the
grammar fills it in, holding its lock; matchers read it without one.
"""

from __future__ import annotations

from stemma.fsm.matching.mask_cache import MAX_WORDS, Words

DEAD_END = 0  # the key of no place: what is not allowed leads there
MAX_STEPS = 1 << 18
BYTES_OF_A_PLACE = 600  # with its dict, and its own place in another one
BYTES_OF_A_STEP = 100


class Place:
    """A configuration, or the end of text behind one.

    key: the number of the configuration, or `end_of` it. steps: the keys that tokens lead to. mask: a bit for each
    token, read only. None: not known yet, or forgotten to make room.
    """

    __slots__ = ("is_last", "key", "leaves_one_way", "mask", "steps")

    def __init__(self, key: int) -> None:
        self.key = key
        self.steps: dict[int, int] = {}
        self.mask: Words | None = None
        self.is_last: bool | None = None  # whether nothing follows but the end
        self.leaves_one_way: bool | None = None

    @property
    def is_end(self) -> bool:
        """Whether the text has ended here."""
        return self.key < 0

    @property
    def config(self) -> int:
        """The configuration here; at an end, the one before it."""
        return end_of(self.key) if self.key < 0 else self.key


class Places(dict[int, Place]):
    """By key. Places name each other by keys alone, so that a grammar that nobody uses any more is gone at once."""

    def __init__(self, num_words: int) -> None:
        super().__init__()
        self._num_words = num_words
        self._max_masked = MAX_WORDS // max(num_words, 1) + 1
        self._masked: list[Place] = []
        self._num_steps = 0

    def at(self, key: int) -> Place:
        """The place of that key, a new one if it has not been asked for."""
        place = self.get(key)
        if place is None:
            place = self[key] = Place(key)
        return place

    @property
    def num_bytes(self) -> int:
        """About how much memory this takes."""
        words = len(self._masked) * self._num_words
        return len(self) * BYTES_OF_A_PLACE + self._num_steps * BYTES_OF_A_STEP + 4 * words

    def keep_step(self, place: Place, token: int, key: int) -> None:
        """Remember where `token` leads; that place is there first. Too many steps are forgotten as a whole."""
        if key and key not in self:
            self[key] = Place(key)
        if self._num_steps >= MAX_STEPS:
            for each in self.values():
                each.steps.clear()
            self._num_steps = 0
        place.steps[token] = key
        self._num_steps += 1

    def keep_mask(self, place: Place, mask: Words) -> None:
        """Remember the mask of a place that has none. Too many masks are forgotten as a whole."""
        if len(self._masked) >= self._max_masked:
            for each in self._masked:
                each.mask = None
            self._masked.clear()
        place.mask = mask
        self._masked.append(place)


def end_of(key: int) -> int:
    """The key of the end of text behind a configuration; the same takes it back."""
    return ~key

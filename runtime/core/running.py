"""Those that hold KV: whose prompts are computed, and who is past that; kept in order, so that no step sorts them."""

from __future__ import annotations

from array import array
from bisect import insort
from collections.abc import Container, Iterator

from stemma.runtime.core.sequence import Sequence


class Running:
    """prompts, decodes: the ones and the others, each in the order in which they are given room."""

    def __init__(self) -> None:
        self.prompts: list[Sequence] = []
        self.decodes: list[Sequence] = []
        self._by_side: list[Sequence] = []  # the decodes

    def __len__(self) -> int:
        return len(self.prompts) + len(self.decodes)

    def __iter__(self) -> Iterator[Sequence]:
        yield from self.decodes
        yield from self.prompts

    def __contains__(self, sequence: object) -> bool:
        return sequence in self.decodes or sequence in self.prompts

    def last(self, but: Container[int]) -> Sequence:
        """Who must give way first; but: ids of those who need not."""
        return max((each for each in self if id(each) not in but), key=lambda each: (not each.is_overdue, *order(each)))

    def add(self, sequence: Sequence) -> None:
        """It holds KV now."""
        if sequence.num_computed < sequence.num_prompt:
            insort(self.prompts, sequence, key=order)
        else:
            self._add_decode(sequence)

    def finished_prompt(self, sequence: Sequence) -> None:
        """All of its prompt is computed."""
        self.prompts.remove(sequence)
        self._add_decode(sequence)

    def remove(self, sequence: Sequence) -> None:
        """It holds KV no more."""
        if sequence in self.prompts:
            self.prompts.remove(sequence)
        else:
            self.decodes.remove(sequence)
            self._by_side.remove(sequence)

    def by_side(self) -> list[Sequence]:
        """Those past their prompts; those of one adapter, and with a common beginning, side by side. What they share
        does not change while they only decode."""
        return self._by_side

    def _add_decode(self, sequence: Sequence) -> None:
        insort(self.decodes, sequence, key=order)
        insort(self._by_side, sequence, key=side)


def order(sequence: Sequence) -> tuple[int, float, int]:
    """Less is given room first: by priority, deadline, arrival."""
    return (-sequence.request.priority, sequence.deadline, sequence.arrival)


def side(sequence: Sequence) -> tuple[str, array[int]]:
    """Less stands before others in a step."""
    assert sequence.lease is not None
    return sequence.request.lora or "", sequence.lease.blocks

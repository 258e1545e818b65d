"""Which goals some finite value fulfils, where goals ask for each other: a least fixed point, found depth first.

A goal that is met again while it is being asked counts as "not so far". What was answered under such an assumption is
an answer only when all goals that lean on each other are asked (their first one is done): then it is no for good, or
one of them has turned out to be possible, and the others are asked anew. (Tarjan 1972; Knuth 1977.)
"""

from __future__ import annotations

from collections.abc import Callable

from stemma.fsm.errors import LimitError
from stemma.fsm.languages.json_schema.goals import Goal

MAXIMUM_NESTING = 100  # of questions: interpreted code would run out of frames there, compiled code of its stack


class Undecided(Exception):
    """The answer leans on a goal whose alternatives are being worked out: it is not known yet."""


class Possibility:
    """What is known of goals. `doubts` grows whenever an answer leans on an assumption that is not settled yet."""

    def __init__(self) -> None:
        self.known: dict[Goal, bool] = {}
        self.doubts = 0
        self._nesting = 0
        self._open: dict[Goal, int] = {}  # being asked, or "not so far", in order
        self._lowest = 0  # the first goal of those in `_open` that the one being asked has leaned on

    def decide(self, goal: Goal, is_possible: Callable[[Goal], bool]) -> bool:
        """Whether any value fulfils a goal, as far as that is known: `doubts` grows if no may turn into yes."""
        known = self.known.get(goal)
        if known is not None:
            return known
        if goal in self._open:
            self.doubts += 1
            self._lowest = min(self._lowest, self._open[goal])
            return False
        index, doubts, lowest = len(self._open), self.doubts, self._lowest
        self._open[goal] = self._lowest = index
        is_answered, found = False, False
        self._nesting += 1
        try:
            if self._nesting > MAXIMUM_NESTING:
                raise LimitError("the schema's references or branches are nested too deeply")
            found = is_possible(goal)
            is_answered = True
        finally:
            self._nesting -= 1
            if not is_answered or found or self._lowest == index:  # settled, or given up
                self._close(index, found if is_answered else None)
                self.doubts, self._lowest = doubts, lowest
        self._lowest = min(lowest, self._lowest)
        return found

    def _close(self, index: int, found: bool | None) -> None:
        """Takes leave of a goal and of all that lean on it: if it is possible (or not known), they are asked anew."""
        while len(self._open) > index:
            goal, _ = self._open.popitem()
            if found is False:
                self.known[goal] = False
        if found:
            self.known[goal] = True

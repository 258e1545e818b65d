"""Which mark goes first: buckets of like marks, and a heap of the ends of the buckets. Frees nothing, and never walks
the tree or all marks.

A bucket holds marks of one kind, of about one rate, factor and number of tokens saved (each to a factor of 1.4): only
the oldest or the newest of them can be first. What a mark saves grows when the mark below it goes; it is measured again
before the mark itself would go, and then the mark may change its bucket.
"""

from array import array
from heapq import heappop, heappush, heapreplace
from math import frexp

from stemma.radix.mark import tokens_saved
from stemma.radix.mark_value import MarkValue
from stemma.radix.node import Mark
from stemma.radix.policy import Waiting

SAME = 1.2  # how much what a mark saves may have changed for it to stay in its bucket


class Bucket:
    """Like marks that may go, by their last use."""

    __slots__ = ("is_ranked", "marks")

    def __init__(self, marks: dict[int, Mark]) -> None:
        self.marks: Waiting[int, Mark] = Waiting(marks, array("q"))
        self.is_ranked = False  # whether the heap has its ends


class MarkQueue:
    """The marks of the tree that nobody holds."""

    __slots__ = ("_buckets", "_ends", "_marks", "_number", "_refresh_at", "_ticket", "_value")

    def __init__(self, value: MarkValue) -> None:
        self._value = value
        self._marks: dict[int, Mark] = {}  # those that wait, by ticket
        self._buckets: dict[tuple[int, int, int], Bucket] = {}
        self._ends: list[tuple[float, int, bool, Bucket]] = []  # index, a number of its own, newest or oldest
        self._ticket = self._number = 0
        self._refresh_at = -1

    def __len__(self) -> int:
        return len(self._marks)

    def push(self, mark: Mark) -> None:
        """The mark may go from now on."""
        place = mark.place
        assert place is not None
        self._ticket += 1
        mark.ticket = ticket = self._ticket
        self._marks[ticket] = mark
        mark.saved = tokens_saved(mark)
        weight = self._value.weight(place) * mark.saved
        key = (place.kind, frexp(place.rate * place.rate)[1], frexp(weight * weight)[1])
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self._marks)
        mark.bucket = bucket
        bucket.marks.push(place.used_at, ticket)
        if not bucket.is_ranked:
            self._rank(bucket)

    def forget(self, mark: Mark) -> None:
        """The mark may not go any more: it is held, or gone."""
        if mark.ticket:
            assert isinstance(mark.bucket, Bucket)
            mark.bucket.marks.num_live -= 1
            del self._marks[mark.ticket]
            mark.ticket = 0

    def first(self) -> tuple[Mark, float]:
        """The mark that goes first, left where it is, and its index; there is one."""
        if self._value.now >= self._refresh_at:
            self._refresh()
        while True:
            if not self._ends:
                self._refresh()
            ranked, number, is_newest, bucket = self._ends[0]
            mark = bucket.marks.last() if is_newest else bucket.marks.first()
            if mark is None:
                if not is_newest:
                    bucket.is_ranked = False
                heappop(self._ends)
                continue
            saved = tokens_saved(mark)
            if saved > SAME * mark.saved or mark.saved > SAME * saved:
                self.forget(mark)
                self.push(mark)
                continue
            index = self._index(mark, saved)
            if index <= ranked * 1.0001:
                return mark, index
            heapreplace(self._ends, (index, number, is_newest, bucket))

    def _rank(self, bucket: Bucket) -> None:
        """Put the ends of a bucket into the heap."""
        bucket.is_ranked = True
        oldest, newest = bucket.marks.first(), bucket.marks.last()
        assert oldest is not None
        self._number += 2
        heappush(self._ends, (self._index(oldest, oldest.saved), self._number, False, bucket))
        if newest is not None:
            heappush(self._ends, (self._index(newest, newest.saved), self._number + 1, True, bucket))

    def _refresh(self) -> None:
        """Rank all ends anew, as indexes fall while marks wait; a few for each request."""
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if bucket.marks.num_live}
        self._refresh_at = self._value.now + 1 + len(self._buckets) // 2
        self._ends = []
        for bucket in self._buckets.values():
            self._rank(bucket)

    def _index(self, mark: Mark, saved: int) -> float:
        assert mark.place is not None
        return self._value.index(mark.place, saved)

"""How many blocks were last touched at each time: numbers by rising times, of which the oldest go first.

    old      | time | time | time |      recent   time -> blocks
             | blocks | 0 | blocks |

The newest are in a dictionary, where they are cheaper to reach: a small cache has no others. The others cost 16 bytes
each, and no object; they are found by bisection.
"""

from array import array
from bisect import bisect_left
from collections import deque
from typing import Final

MOST_RECENT: Final = 4096
_MOVED_AT_ONCE: Final = 32


class Touches:
    """Numbers above 0 by time."""

    __slots__ = ("_first", "_most_recent", "_moves_at", "_num_old", "_old", "_old_times", "_recent", "_times")

    def __init__(self, most_recent: int = MOST_RECENT) -> None:
        """most_recent: how many are in the dictionary."""
        self._most_recent = most_recent
        self._moves_at = most_recent + max(1, min(most_recent, _MOVED_AT_ONCE))
        self._recent: dict[int, float] = {}
        self._times: deque[int] = deque()  # the keys of `_recent`, oldest first, and some that are gone
        self._old = array("d")
        self._old_times = array("q")
        self._first = 0  # all of `_old` before this are 0
        self._num_old = 0  # those that are not 0

    def __len__(self) -> int:
        return len(self._recent) + self._num_old

    def get(self, time: int) -> float:
        """The number of a time, 0.0 if there is none."""
        number = self._recent.get(time, 0.0)
        if number or not self._num_old:
            return number
        at = bisect_left(self._old_times, time)
        return self._old[at] if at < len(self._old) and self._old_times[at] == time else 0.0

    def append(self, time: int, number: float) -> None:
        """The number of a time after all others."""
        recent = self._recent
        recent[time] = number
        self._times.append(time)
        if len(recent) >= self._moves_at:
            self._move()
        elif len(self._times) > 2 * len(recent) + 64:
            self._times = deque([time for time in self._times if time in recent])

    def take(self, time: int, most: float) -> tuple[float, bool]:
        """Take at most so much off the number of a time; returns how much, and whether there is nothing left."""
        recent = self._recent
        number = recent.get(time, 0.0)
        if number:
            if number > most:
                recent[time] = number - most
                return most, False
            del recent[time]
            return number, True
        at = bisect_left(self._old_times, time) if self._num_old else len(self._old)
        if at == len(self._old) or self._old_times[at] != time:
            return 0.0, False
        number = self._old[at]
        if number > most:
            self._old[at] = number - most
            return most, False
        if number:
            self._old[at] = 0.0
            self._num_old -= 1
        return number, number > 0.0

    def pop_oldest(self) -> tuple[int, float]:
        """The first time that has a number, and that number; there is one."""
        if self._num_old:
            old, first = self._old, self._first
            while not old[first]:
                first += 1
            number = old[first]
            old[first] = 0.0
            self._num_old -= 1
            self._first = first
            return self._old_times[first], number
        while True:
            time = self._times.popleft()
            number = self._recent.get(time, 0.0)
            if number:
                del self._recent[time]
                return time, number

    def put_back(self, time: int, number: float) -> None:
        """What is left of the oldest, which was popped just now."""
        if self._old and self._old_times[self._first] == time:
            self._old[self._first] = number
            self._num_old += 1
        else:
            self._times.appendleft(time)
            self._recent[time] = number

    def _move(self) -> None:
        """The oldest of `recent` become old."""
        recent, times = self._recent, self._times
        while len(recent) > self._most_recent:
            time = times.popleft()
            if time in recent:
                self._old_times.append(time)
                self._old.append(recent.pop(time))
                self._num_old += 1
        if len(self._old) > 1.5 * self._num_old + 64:
            pairs = [pair for pair in zip(self._old_times, self._old, strict=True) if pair[1]]
            self._old_times = array("q", [time for time, _ in pairs])
            self._old = array("d", [number for _, number in pairs])
            self._first = 0

"""Which mark goes first when slots or window blocks are short. Never frees anything, never walks the tree."""

from stemma.radix.mark import MarkRoom
from stemma.radix.node import Mark


class MarkQueue:
    """The marks of the tree that nobody holds, as an EvictionQueue has its leaves: the least recently used goes first.

    A policy may ask for `tokens_saved(mark)` (the distance to the mark below) and len(mark.window_blocks).
    """

    __slots__ = ("_marks", "_ticket")

    def __init__(self, room: MarkRoom) -> None:
        self._marks: dict[int, Mark] = {}  # by ticket
        self._ticket = 0

    def push(self, mark: Mark, logical_time: int) -> None:
        """The mark may go from now on."""
        self._ticket += 1
        mark.ticket = self._ticket
        self._marks[mark.ticket] = mark

    def forget(self, mark: Mark) -> None:
        """The mark may not go any more: it is held, or gone."""
        if mark.ticket:
            del self._marks[mark.ticket]
            mark.ticket = 0

    def used(self, mark: Mark, logical_time: int) -> None:
        """A request goes on from it; called before its hits and time change."""

    def first(self, logical_time: int) -> Mark:
        """The mark that goes first, left where it is; there is one."""
        return next(iter(self._marks.values()))

    def admits(self, saved: int, num_window_blocks: int, logical_time: int) -> bool:
        """Whether the first should go for a new mark that saves so many tokens; there is one."""
        return True

    def __len__(self) -> int:
        return len(self._marks)

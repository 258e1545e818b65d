"""The memory of windows and states that a runtime would have, for the random worlds and the state machine.

A slot holds the state after some tokens, a cell of a window block what the window layers wrote at a position: the
cells of radix_truth. A step is computed through what `Lease.advance` says, and whatever it reads is compared.
"""

import random

from radix_truth import cells_of, text_of

from stemma.radix import Advance, Lease, MarkRoom, Namespace, PrefixCache

NOTHING = 0  # the state before the first token


def draw_room(pick: random.Random, block_size: int) -> MarkRoom | None:
    """No marks, or room for windows, states or both, mostly too little."""
    kind = pick.choice(("none", "windows", "states", "both"))
    if kind == "none":
        return None
    window = None if kind == "states" else pick.choice((1, 2, 3, 5, 2 * block_size + 1, 30))
    num_blocks = 0 if window is None else pick.randint(1, 3) * (window // block_size + 3) + pick.randint(0, 60)
    return MarkRoom(window, num_blocks, 0 if kind == "windows" else pick.choice((6, 12, 24, 60)))


class Step:
    """What a lease is about to compute: tokens behind those it has, the last of which are drafts."""

    def __init__(self, lease: Lease, before: list[int], tokens: list[int], num_drafts: int, where: Namespace) -> None:
        self.lease = lease
        self.start = len(before)
        self.tokens = tokens
        self.cells = cells_of(before + tokens, where)
        self.num_drafts = num_drafts
        self.plan: Advance = lease.advance(len(tokens), num_drafts)


class MarkMemory:
    """Slots and window blocks; written and read only as leases say."""

    def __init__(self, room: MarkRoom, block_size: int) -> None:
        self.room = room
        self.size = block_size
        self.states: list[int | None] = [None] * room.num_slots
        self.windows: list[list[int | None]] = [[None] * block_size for _ in range(room.num_window_blocks)]

    def compute(self, steps: list[Step], random_order: random.Random) -> None:
        """One batch: all copies first, then the rows in any order, and perhaps all of it once more."""
        for _ in range(random_order.choice((1, 1, 2))):
            for step in steps:
                for source, destination, num_tokens in step.plan.copies:
                    self.windows[destination][:num_tokens] = self.windows[source][:num_tokens]
            for step in random_order.sample(steps, len(steps)):
                self._run(step)

    def _run(self, step: Step) -> None:
        segments, end = step.plan.segments, len(step.cells)
        if self.room.num_slots and end > step.start:
            assert [segments[0].start, *(segment.end for segment in segments)] == [
                *(segment.start for segment in segments),
                end,
            ]
            ends = [segment.end for segment in segments]
            assert all(at in ends for at in range(max(end - step.num_drafts, step.start + 1), end + 1))
        else:
            assert not segments
        for start, stop, source, target in segments:
            before = NOTHING if source == -1 else self.states[source]
            assert before == (step.cells[start - 1] if start else NOTHING), "a state is not that of its tokens"
            self.states[target] = step.cells[stop - 1]
        if self.room.window is not None:
            table = list(step.lease.window_blocks)
            for position in range(step.start, end):
                self._reads_window(table, step.cells, position)
                self.windows[table[position // self.size]][position % self.size] = step.cells[position]

    def check_lease(self, lease: Lease, cells: list[int]) -> None:
        """The state and the window of exactly the tokens that the lease has, whether its copies were run or not."""
        own = lease._state.marks
        assert own is not None
        if self.room.num_slots:
            slot = own.source_slot
            state = NOTHING if slot == -1 else self.states[slot]
            assert state == (cells[-1] if cells else NOTHING), "the state of a lease is not that of its tokens"
        if self.room.window is not None:
            copied = {} if own.copy is None else {own.copy.destination: own.copy.source}
            table = [copied.get(block, block) for block in lease.window_blocks]
            self._reads_window(table, cells, len(cells))

    def check_tree(self, cache: PrefixCache) -> None:
        """Every mark that can be hit has the state and the window of its text."""
        for node in cache.walk():
            if node.marks is None:
                continue
            tokens, namespace = text_of(node)
            cells = cells_of(tokens, namespace)
            for mark in node.marks.values():
                if self.room.num_slots:
                    assert self.states[mark.slot] == cells[mark.position - 1], "a mark has the state of another text"
                if self.room.window is not None:
                    table = [-1] * mark.first + list(mark.window_blocks)
                    self._reads_window(table, cells, mark.position)

    def _reads_window(self, table: list[int], cells: list[int], end: int) -> None:
        """The cells that window layers read at position `end`."""
        assert self.room.window is not None
        for position in range(max(0, end - self.room.window + 1), end):
            block = table[position // self.size]
            assert self.windows[block][position % self.size] == cells[position], "a window is not that of its tokens"

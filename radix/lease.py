"""A lease: one request's hold on a path of the tree and its private room behind it. Never evicts by itself."""

from array import array
from bisect import insort
from operator import index
from types import TracebackType
from typing import SupportsIndex

from stemma.radix.advance import Advance
from stemma.radix.continuation import continuation
from stemma.radix.errors import LeaseError
from stemma.radix.lease_state import BlockCopy, LeaseState, NextUse
from stemma.radix.lease_table import LeaseTable
from stemma.radix.retained import Retained
from stemma.radix.tokens import TOKEN_BYTES, Tokens, pack


class Lease:
    """Holds the longest cached prefix of a request; grows by reserve, extend and commit. Made by PrefixCache.acquire.

    `blocks` is the block table as an array of int32 (`numpy.frombuffer(lease.blocks, dtype=numpy.int32)` is free of
    copies): read it after each `reserve` and each `commit`, either may change it. `reserve` must precede each
    writing; what is reserved already is not reserved again.

    In a cache with marks it goes on at `hit_len`, the last mark at or before `match_len`; what lies between is computed
    once more, but its KV in full layers is there: positions below `written_from` are not written in `blocks`. For each
    step: reserve, `advance`, the copies of both, the step, `extend`.
    """

    __slots__ = ("_leases", "_state", "blocks", "hit_len")

    def __init__(self, leases: LeaseTable, state: LeaseState, hit_len: int) -> None:
        self._leases = leases
        self._state = state
        self.hit_len = hit_len
        self.blocks = state.blocks  # one array for as long as there is something to hold

    @property
    def num_tokens(self) -> int:
        """Tokens whose KV lies in the blocks, hit and written; with marks: those that all layers have seen."""
        state = self._state
        return state.num_tokens - state.replay

    @property
    def match_len(self) -> int:
        """Tokens that were cached in full layers when the lease was made: hit_len, and those to be replayed."""
        marks = self._state.marks
        return self.hit_len if marks is None else marks.match_len

    @property
    def written_from(self) -> int:
        """Positions below this are the tree's: full layers do not write them again."""
        return self.match_len

    @property
    def wanted(self) -> list[int]:
        """Positions ahead at which this lease is to leave marks, ascending: its steps' segments end there."""
        marks = self._state.marks
        return [] if marks is None else list(marks.wanted)

    @property
    def window_blocks(self) -> "array[int]":
        """The block table of window layers, by block index: 0 where nothing is held, as nothing is read there. Read it
        after each `advance`."""
        marks = self._state.marks
        return array("i") if marks is None else marks.window_blocks

    def window_need(self, end: int, num_tokens: int) -> int:
        """The most window blocks that it lacks for steps of at most `num_tokens` tokens until it is at `end`."""
        marks, own, size = self._leases.store.marks, self._state.marks, self._leases.store.tree.block_size
        if marks is None or own is None or marks.windows is None:
            return 0
        in_window, in_step = min(marks.most_window_blocks, -(-end // size)), -(-num_tokens // size) + 1
        return max(0, in_window + in_step - (len(own.window_blocks) - own.window_first))

    @property
    def priority(self) -> int:
        return self._state.priority

    @property
    def released(self) -> bool:
        return self._state.released

    @property
    def num_published(self) -> int:
        """Tokens whose KV is in the tree."""
        return self._state.at

    @property
    def room(self) -> int:
        """How many tokens can be written before the next reserve."""
        state = self._state
        return state.replay + (state.room_end - state.num_tokens if state.room_end else 0)

    @property
    def public_len(self) -> int | None:
        """Tokens that lie in the public part of a namespace in two parts; None where there is one part."""
        boundary = self._state.salt_boundary
        return None if boundary is None else boundary.position

    @property
    def _is_at_boundary(self) -> bool:
        """Whether private text begins here. Then its first block is a copy for everybody: who writes on in the public
        one would spare himself a block, and so know that nobody was there before."""
        return self._state.at == self.public_len

    def reserve(self, num_tokens: SupportsIndex) -> list[BlockCopy]:
        """Make room for `num_tokens` more tokens; those that are replayed need none. Run the copies returned before any
        KV is written in this step.

        Raises OutOfBlocks, with nothing changed, when the pool cannot give the blocks.
        """
        state = self._state
        if state.released:
            raise _released()
        count = index(num_tokens)
        if count < 0:
            raise LeaseError(f"cannot reserve {count} tokens")
        count -= state.replay
        if count <= 0:
            return []
        allocate, size = self._leases.allocate, self._leases.store.tree.block_size
        at, blocks, node = state.at, state.blocks, state.node
        missing = (state.num_tokens + count + size - 1) // size - len(blocks)
        copies: list[BlockCopy] = []
        if state.room_end or at % size == 0:
            if missing > 0:
                blocks.extend(allocate(missing))
        elif node.end == at and not node.has_children and not node.writer and not self._is_at_boundary:
            if missing > 0:
                blocks.extend(allocate(missing))
            node.writer = state.writes = True
        else:
            fresh, tail = allocate(max(missing, 0) + 1), at // size
            copies.append(BlockCopy(blocks[tail], fresh[0], at % size))
            blocks[tail] = fresh[0]
            blocks.extend(fresh[1:])
            state.private = tail
        state.room_end = len(blocks) * size
        return copies

    def advance(self, num_tokens: int, num_drafts: int = 0) -> Advance:
        """Window blocks and slots for a step of so many tokens, the last `num_drafts` of which may be refused; called
        after `reserve`. Called again before `extend`, it replaces what it gave. Without marks there is nothing to do.

        Raises OutOfBlocks, with nothing changed, when not even evicting all marks makes room.
        """
        if self._state.released:
            raise _released()
        if not 0 <= num_drafts <= num_tokens:
            raise LeaseError(f"cannot advance by {num_tokens} tokens, {num_drafts} of them drafts")
        if num_tokens == 0 or self._state.marks is None:
            return Advance([], [])
        return self._leases.advance(self._state, num_tokens, num_drafts)

    def extend(self, tokens: Tokens) -> None:
        """These tokens' KV has been written into the reserved room, in order. With marks: those of the tokens of the
        last `advance` that are kept, all but some of the drafts."""
        if self._state.released:
            raise _released()
        state, data = self._state, pack(tokens)
        if state.marks is not None:
            data = self._leases.settle(state, data, self.room)
        num_tokens = state.num_tokens + len(data) // TOKEN_BYTES
        if num_tokens > state.room_end and data:
            raise LeaseError(f"{len(data) // TOKEN_BYTES} tokens written, room for {self.room}: reserve first")
        written = state.tokens
        if not written:
            state.tokens = bytes(data)
        elif isinstance(written, bytes):  # more than one extend before a commit: what grows is not copied each time
            state.tokens = bytearray(written) + data
        else:
            written += data
        state.num_tokens = num_tokens

    def mark(self) -> None:
        """Leave a mark here, at num_tokens, where a request ends or is likely to be gone on with. It costs nothing: the
        states stay where they are. The next commit publishes it. Without marks there is nothing to do."""
        if self._state.released:
            raise _released()
        self._leases.mark(self._state)

    def want(self, position: int) -> bool:
        """Leave a mark at a position ahead, or here. Returns whether it can: not at one that is passed, nor in a cache
        without marks."""
        own = self._state.marks
        if own is None or position < self._state.position:
            return False
        if position == self._state.position:
            self.mark()
            self.commit()
        elif position not in own.wanted:
            insort(own.wanted, position)
        return True

    def want_none(self) -> None:
        """Leave no marks ahead, but where `mark` and `want` ask for them."""
        if self._state.marks is not None:
            self._state.marks.wanted.clear()

    def continuation(self, tokens: Tokens, num_wanted: int) -> list[int]:
        """At most `num_wanted` tokens with which cached text goes on behind `tokens`, which begin at `num_published`;
        of several texts the one used last. Changes nothing; what is not held may be evicted the next moment."""
        state = self._state
        if state.released:
            raise _released()
        tree = self._leases.store.tree
        return continuation(tree, state.node, state.at, pack(tokens), num_wanted, state.salt_boundary)

    def commit(self) -> None:
        """Publish what was written, and the marks passed. Where the tree has the same tokens already, its blocks
        replace ours."""
        if self._state.released:
            raise _released()
        self._leases.publish(self._state)

    def fork(self) -> "Lease":
        """A second lease on the same tokens. Publishes first, with a mark here; room reserved stays with this one."""
        self.commit()
        return Lease(self._leases, self._leases.fork(self._state), self.hit_len)

    def retain(self, retained: Retained) -> None:
        """Publish, with a mark here, and have `retained` keep it from now on. Raises PinError, with nothing retained,
        over the budget."""
        self.commit()
        self._leases.retain(retained, self._state)

    def release(self, next_use: NextUse = NextUse.UNKNOWN) -> None:
        """Give back the private blocks and the hold on the path; what is published stays cached. Twice is once.

        `next_use` tells the eviction what the program knows: SOON, that all of it will be asked for again, as by a
        session that goes on; NEVER, that nothing will which was computed for this lease, as by a branch that has ended.
        """
        state = self._state
        if not state.released:
            self._leases.release(state, next_use, self.hit_len if state.marks is None else state.marks.match_len)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _released() -> LeaseError:
    return LeaseError("the lease is released: acquire a new one")

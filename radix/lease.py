"""A lease: one request's hold on a path of the tree and its private room behind it. Never evicts by itself."""

from types import TracebackType
from typing import NamedTuple

from stemma.radix.errors import LeaseError
from stemma.radix.held import Held, NextUse
from stemma.radix.keeper import Keeper
from stemma.radix.tokens import TOKEN_BYTES, Tokens, pack


class BlockCopy(NamedTuple):
    """Copy the KV of the first `num_tokens` positions of block `source` to block `destination`, in every layer."""

    source: int
    destination: int
    num_tokens: int


class Lease:
    """Holds the longest cached prefix of a request; grows by reserve, extend and commit. Made by PrefixCache.acquire.

    `blocks` is the block table as an array of int32 (`numpy.frombuffer(lease.blocks, dtype=numpy.int32)` is free of
    copies): read it after each `reserve` and each `commit`, either may change it. `reserve` must precede each
    writing; what is reserved already is not reserved again.
    """

    __slots__ = ("_held", "_keeper", "blocks", "hit_len")

    def __init__(self, keeper: Keeper, held: Held, hit_len: int) -> None:
        self._keeper = keeper
        self._held = held
        self.hit_len = hit_len
        self.blocks = held.blocks  # one array for as long as there is something to hold

    @property
    def num_tokens(self) -> int:
        """Tokens whose KV lies in the blocks: hit and written."""
        return self._held.num_tokens

    @property
    def priority(self) -> int:
        return self._held.priority

    @property
    def released(self) -> bool:
        return self._held.released

    @property
    def num_published(self) -> int:
        """Tokens whose KV is in the tree."""
        return self._held.at

    @property
    def room(self) -> int:
        """How many tokens can be written before the next reserve."""
        held = self._held
        return held.room_end - held.num_tokens if held.room_end else 0

    def reserve(self, num_tokens: int) -> list[BlockCopy]:
        """Make room for `num_tokens` more tokens. Run the copies returned before any KV is written in this step.

        Raises OutOfBlocks, with nothing changed, when the pool cannot give the blocks.
        """
        if self._held.released:
            raise _released()
        if num_tokens < 0:
            raise LeaseError(f"cannot reserve {num_tokens} tokens")
        if num_tokens == 0:
            return []
        held, allocate, size = self._held, self._keeper.allocate, self._keeper.store.tree.block_size
        at, blocks, node = held.at, held.blocks, held.node
        missing = (held.num_tokens + num_tokens + size - 1) // size - len(blocks)
        copies: list[BlockCopy] = []
        if held.room_end or at % size == 0:
            if missing > 0:
                blocks.extend(allocate(missing))
        elif node.end == at and not node.children and not node.writer:
            if missing > 0:
                blocks.extend(allocate(missing))
            node.writer = held.writes = True
        else:
            fresh, tail = allocate(max(missing, 0) + 1), at // size
            copies.append(BlockCopy(blocks[tail], fresh[0], at % size))
            blocks[tail] = fresh[0]
            blocks.extend(fresh[1:])
            held.private = tail
        held.room_end = len(blocks) * size
        return copies

    def extend(self, tokens: Tokens) -> None:
        """These tokens' KV has been written into the reserved room, in order."""
        if self._held.released:
            raise _released()
        held, data = self._held, pack(tokens)
        num_tokens = held.num_tokens + len(data) // TOKEN_BYTES
        if num_tokens > held.room_end and data:
            raise LeaseError(f"{len(data) // TOKEN_BYTES} tokens written, room for {self.room}: reserve first")
        held.tokens += data
        held.num_tokens = num_tokens

    def truncate(self, num_tokens: int) -> None:
        """Forget what was written or reserved past `num_tokens`; only what is not published can be forgotten."""
        if self._held.released:
            raise _released()
        held, size = self._held, self._keeper.store.tree.block_size
        if not held.at <= num_tokens <= held.num_tokens:
            raise LeaseError(f"cannot cut at {num_tokens}: {held.at} are published, {held.num_tokens} written")
        del held.tokens[TOKEN_BYTES * (num_tokens - held.at) :]
        held.num_tokens = num_tokens
        keep = max(-(-num_tokens // size), held.private)
        self._keeper.give_back(held.blocks[keep:])
        del held.blocks[keep:]
        if held.room_end:
            held.room_end = len(held.blocks) * size

    def commit(self) -> None:
        """Publish what was written. Where the tree has the same tokens already, its blocks replace ours."""
        if self._held.released:
            raise _released()
        self._keeper.publish(self._held)

    def fork(self) -> "Lease":
        """A second lease on the same tokens. Publishes first; room reserved stays with this one."""
        self.commit()
        return Lease(self._keeper, self._keeper.fork(self._held), self.hit_len)

    def release(self, next_use: NextUse = NextUse.UNKNOWN) -> None:
        """Give back the private blocks and the hold on the path; what is published stays cached. Twice is once.

        `next_use` tells the eviction what the program knows: NEVER for a branch that has ended, SOON for a session
        that goes on.
        """
        if not self._held.released:
            self._keeper.release(self._held, next_use)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _released() -> LeaseError:
    return LeaseError("the lease is released: acquire a new one")

"""A lease: one request's hold on a path of the tree and its private room behind it. Never evicts by itself.

position   0                     at            num_tokens            room
           |== in the tree ======|-- written ---|.. reserved ........|
blocks     |  shared with others | private from block `_private` on  |
"""

from array import array
from enum import Enum
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from stemma.radix.errors import LeaseError
from stemma.radix.history import Return
from stemma.radix.node import Node
from stemma.radix.tokens import TOKEN_BYTES, Tokens, pack
from stemma.radix.tree import Fence

if TYPE_CHECKING:
    from stemma.radix.cache import PrefixCache


class NextUse(Enum):
    """What the program knows about the next use of what a lease has published past the shared part."""

    NEVER = 0.0
    UNKNOWN = 1.0
    SOON = 4.0


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

    __slots__ = (
        "_at",
        "_back",
        "_cache",
        "_fence",
        "_node",
        "_private",
        "_released",
        "_room_end",
        "_tokens",
        "_writes",
        "blocks",
        "hit_len",
        "num_tokens",
        "priority",
    )

    def __init__(
        self,
        cache: "PrefixCache",
        node: Node,
        at: int,
        blocks: "array[int]",
        fence: Fence | None = None,
        back: Return | None = None,
        priority: int = 0,
    ) -> None:
        self._cache = cache
        self._fence = fence
        self._back = back  # what is remembered of text behind `at` that was evicted
        self.priority = priority
        self._node = node
        self._at = at
        self._tokens = bytearray()  # written, not yet in the tree
        self._private = len(blocks)  # index of the first block that is this lease's alone
        self._writes = False  # holds the right to write on in the tree's last block
        self._released = False
        self.blocks = blocks
        self.hit_len = at
        self.num_tokens = at  # tokens whose KV lies in the blocks: hit and written
        self._room_end = 0  # up to where positions may be written; 0 while the last block is another's

    @property
    def released(self) -> bool:
        return self._released

    @property
    def num_published(self) -> int:
        """Tokens whose KV is in the tree."""
        return self._at

    @property
    def room(self) -> int:
        """How many tokens can be written before the next reserve."""
        return self._room_end - self.num_tokens if self._room_end else 0

    def reserve(self, num_tokens: int) -> list[BlockCopy]:
        """Make room for `num_tokens` more tokens. Run the copies returned before any KV is written in this step.

        Raises OutOfBlocks, with nothing changed, when the pool cannot give the blocks.
        """
        if self._released:
            raise _released()
        if num_tokens < 0:
            raise LeaseError(f"cannot reserve {num_tokens} tokens")
        if num_tokens == 0:
            return []
        size, at, blocks = self._cache.block_size, self._at, self.blocks
        missing = (self.num_tokens + num_tokens + size - 1) // size - len(blocks)
        copies: list[BlockCopy] = []
        if self._room_end or at % size == 0:
            if missing > 0:
                blocks.extend(self._cache._allocate(missing))
        elif self._node.end == at and not self._node.children and not self._node.writer:
            if missing > 0:
                blocks.extend(self._cache._allocate(missing))
            self._node.writer = self._writes = True
        else:
            fresh, tail = self._cache._allocate(max(missing, 0) + 1), at // size
            copies.append(BlockCopy(blocks[tail], fresh[0], at % size))
            blocks[tail] = fresh[0]
            blocks.extend(fresh[1:])
            self._private = tail
        self._room_end = len(blocks) * size
        return copies

    def extend(self, tokens: Tokens) -> None:
        """These tokens' KV has been written into the reserved room, in order."""
        if self._released:
            raise _released()
        data = pack(tokens)
        num_tokens = self.num_tokens + len(data) // TOKEN_BYTES
        if num_tokens > self._room_end and data:
            raise LeaseError(f"{len(data) // TOKEN_BYTES} tokens written, room for {self.room}: reserve first")
        self._tokens += data
        self.num_tokens = num_tokens

    def truncate(self, num_tokens: int) -> None:
        """Forget what was written or reserved past `num_tokens`; only what is not published can be forgotten."""
        if self._released:
            raise _released()
        if not self._at <= num_tokens <= self.num_tokens:
            raise LeaseError(f"cannot cut at {num_tokens}: {self._at} are published, {self.num_tokens} written")
        del self._tokens[TOKEN_BYTES * (num_tokens - self._at) :]
        self.num_tokens = num_tokens
        keep = max(-(-num_tokens // self._cache.block_size), self._private)
        self._cache._free_private(self.blocks[keep:])
        del self.blocks[keep:]
        if self._room_end:
            self._room_end = len(self.blocks) * self._cache.block_size

    def commit(self) -> None:
        """Publish what was written. Where the tree has the same tokens already, its blocks replace ours."""
        if self._released:
            raise _released()
        if self._tokens:
            self._cache._publish(self)

    def fork(self) -> "Lease":
        """A second lease on the same tokens. Publishes first; room reserved stays with this one."""
        self.commit()
        return self._cache._fork(self)

    def release(self, next_use: NextUse = NextUse.UNKNOWN) -> None:
        """Give back the private blocks and the hold on the path; what is published stays cached. Twice is once.

        `next_use` tells the eviction what the program knows: NEVER for a branch that has ended, SOON for a session
        that goes on.
        """
        if not self._released:
            self._cache._release(self, next_use)

    def __enter__(self) -> "Lease":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _released() -> LeaseError:
    return LeaseError("the lease is released: acquire a new one")

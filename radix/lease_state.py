"""What one request holds: its place in the tree, the blocks up to there, and its private room behind it.

position   0                     at            num_tokens            room_end
           |== in the tree ======|-- written ---|.. reserved ........|
blocks     |  shared with others | private from block `private` on   |
"""

from array import array
from enum import Enum

from stemma.radix.ghost_list import Return
from stemma.radix.node import Node
from stemma.radix.tree import SaltBoundary


class NextUse(Enum):
    """What the program knows about the next use of what was computed for it: a hint to the eviction."""

    NEVER = 0.0
    UNKNOWN = 1.0
    SOON = 4.0


class LeaseState:
    """The state of a lease, which whoever grows, publishes and checks leases reads and writes."""

    __slots__ = (
        "at",
        "back",
        "blocks",
        "node",
        "num_tokens",
        "priority",
        "private",
        "released",
        "room_end",
        "salt_boundary",
        "tokens",
        "writes",
    )

    def __init__(
        self,
        node: Node,
        at: int,
        blocks: "array[int]",
        salt_boundary: SaltBoundary | None,
        back: Return | None,
        priority: int,
    ) -> None:
        self.node = node  # where `at` lies; held once for this
        self.at = at  # tokens whose KV is in the tree
        self.blocks = blocks
        self.salt_boundary = salt_boundary
        self.back = back  # what is remembered of text behind `at` that was evicted
        self.priority = priority
        self.tokens = bytearray()  # written, not yet in the tree
        self.num_tokens = at  # tokens whose KV lies in the blocks: hit and written
        self.private = len(blocks)  # index of the first block that is this lease's alone
        self.released = False
        self.writes = False  # has the right to write on in the tree's last block
        self.room_end = 0  # up to where positions may be written; 0 while the last block is another's

"""What one request holds: its place in the tree, the blocks up to there, and its private room behind it.

position   0                     at            num_tokens            room_end
           |== in the tree ======|-- written ---|.. reserved ........|
blocks     |  shared with others | private from block `private` on   |

With marks, tokens that are in the tree already are computed once more where the last mark lies before the end of the
match: the lease is at `position`, `replay` tokens before num_tokens.
"""

from array import array
from enum import Enum
from typing import NamedTuple

from stemma.radix.ghost_list import Return
from stemma.radix.node import NO_SLOT, Mark, Node
from stemma.radix.placement import Plan
from stemma.radix.tree import SaltBoundary


class BlockCopy(NamedTuple):
    """Copy the KV of the first `num_tokens` positions of block `source` to block `destination`, in every layer of the
    pool."""

    source: int
    destination: int
    num_tokens: int


class Segment(NamedTuple):
    """Tokens [start, end) of a step: states are read from slot `source` (-1: zeros), those after `end` written to
    slot `target`."""

    start: int
    end: int
    source: int
    target: int


class NextUse(Enum):
    """What the program knows about the next use of what was computed for it: a hint to the eviction."""

    NEVER = 0.0
    UNKNOWN = 1.0
    SOON = 4.0


class LeaseMarks:
    """What one lease has of windows and states.

    position       window_first ...... position ......... reach
    windows        |== referred to ====|.. taken for a step .|
    states                             slot, or the source's --segments--> targets
    own marks            *         *   not yet in the tree
    """

    __slots__ = (
        "copy",
        "last_mark",
        "match_len",
        "own",
        "plan",
        "reach",
        "refused_at",
        "segments",
        "slot",
        "source",
        "targets",
        "wanted",
        "window_blocks",
        "window_first",
        "writes_from",
    )

    def __init__(self, plan: Plan, hit_len: int, source: Mark | None, first: int, blocks: "array[int]") -> None:
        self.match_len = plan.match_len
        self.plan = plan
        self.wanted = list(plan.wanted)  # positions still to come, ascending
        self.source = source  # the mark at `position`, if there is one; held
        self.slot = NO_SLOT  # the states at `position`, where no mark has them
        self.own: list[Mark] = []
        self.refused_at = 0  # where it ended without a mark, as none is worth it, while that is not in the tree; or 0
        self.last_mark = hit_len  # position of the last mark made, or gone on from
        self.window_blocks = array("i", bytes(4 * first)) + blocks  # by block index
        self.window_first = first  # index of the first block that this lease refers to
        self.writes_from = len(self.window_blocks)  # index of the first block that it may write in, whoever reads it
        # Between `advance` and `extend`:
        self.reach = 0  # up to where windows and slots are there; 0: nowhere
        self.segments: list[Segment] = []
        self.targets = array("i")  # all slots of the segments but the first source
        self.copy: BlockCopy | None = None  # to be run before the step; refers to its source until then

    @property
    def source_slot(self) -> int:
        """Where the states at `position` are; NO_SLOT at the beginning."""
        return self.slot if self.source is None else self.source.slot


class LeaseState:
    """The state of a lease, which whoever grows, publishes and checks leases reads and writes."""

    __slots__ = (
        "at",
        "back",
        "blocks",
        "marks",
        "node",
        "num_tokens",
        "priority",
        "private",
        "released",
        "replay",
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
        self.tokens: bytes | bytearray = b""  # written, not yet in the tree
        self.num_tokens = at  # tokens whose KV lies in the blocks: hit and written
        self.private = len(blocks)  # index of the first block that is this lease's alone
        self.released = False
        self.writes = False  # has the right to write on in the tree's last block
        self.room_end = 0  # up to where positions may be written; 0 while the last block is another's
        self.replay = 0  # tokens before num_tokens that windows and states have not seen yet
        self.marks: LeaseMarks | None = None  # None in a cache without marks

    @property
    def position(self) -> int:
        """Where all layers go on."""
        return self.num_tokens - self.replay

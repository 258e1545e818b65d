"""A place of the tree where a mark is, was or might have been, and what is known of those who came back to it.

A place outlives its mark: that somebody would have gone on there is learned whether or not the mark was kept, as a
ghost list learns from what was evicted (ARC, Megiddo and Modha 2003). Holds numbers, never a slot, a block or a token.
"""

from enum import IntEnum


class Origin(IntEnum):
    """Why there is a mark."""

    END = 0  # where a request ended: the next turn of a chat
    JUNCTION = 1  # where a request left the text of another
    TAIL = 2  # a learned distance before the end of a prompt: where a document ends and its question begins
    PROGRAM = 3  # where the program says


class Place:
    """What is known of one position of a path. Times count requests."""

    __slots__ = (
        "born_at",
        "ends_born",
        "ends_used",
        "factor",
        "has_mark",
        "hits",
        "home",
        "kind",
        "origin",
        "position",
        "prior",
        "rate",
        "turn",
        "used_at",
    )

    def __init__(self, position: int, origin: Origin, now: int, turn: int = 0, prior: "Place | None" = None) -> None:
        self.position = position
        self.origin = origin
        self.turn = turn  # of an end: how many requests had gone on, each from the end of the one before
        self.prior = prior  # of an end: where its request had gone on from; None once somebody came back
        self.home: dict[int, Place] | None = None  # the table of its node; None outside of the tree
        self.has_mark = False
        self.hits = 0
        self.born_at = self.used_at = now
        self.ends_born = self.ends_used = 0  # of the requests that went on here: ends, and how many were gone on from
        # What MarkValue has counted it as since its last use:
        self.kind = 0
        self.rate = 1.0  # ages count in these
        self.factor = 0

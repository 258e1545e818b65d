"""The room for marks, and questions about the marks of a path. Changes nothing but where a node is cut in two."""

from itertools import islice
from typing import NamedTuple

from stemma.radix.node import Mark, Node

NO_SLOT = -1


MOST_BELOW = 8  # edges


class MarkRoom(NamedTuple):
    """The room for what layers that are not full remember.

    window: tokens that a row of a window layer sees, itself included; None without such layers. num_slots: how many
    sequences and marks can have states; 0 without such layers.
    """

    window: int | None
    num_window_blocks: int = 0
    num_slots: int = 0


def check_room(room: MarkRoom) -> None:
    """ValueError if nothing can be kept in it."""
    if (room.window is None) != (room.num_window_blocks == 0) or room.num_window_blocks < 0:
        raise ValueError(
            f"a window needs num_window_blocks, and they a window; got {room.window} and {room.num_window_blocks}"
        )
    if room.window is not None and room.window < 1:
        raise ValueError(f"window counts the row itself, so it is at least 1; got {room.window}")
    if room.num_slots < 0 or (room.window is None and room.num_slots == 0):
        raise ValueError("a MarkRoom needs a window or num_slots: for full layers only, give marks=None")


def node_at(node: Node, position: int) -> Node:
    """The node of a path that has a position above 0; `node` is where the path ends, at it or behind it."""
    while node.start >= position:
        assert node.parent is not None
        node = node.parent
    return node


def last_mark(node: Node | None, position: int) -> Mark | None:
    """The last mark at or below a position on the path that ends in `node`."""
    while node is not None:
        if node.marks and node.start < position:
            found = max((at for at in node.marks if at <= position), default=0)
            if found:
                return node.marks[found]
        node = node.parent
    return None


def covering_mark(node: Node, position: int, first: int) -> Mark | None:
    """A mark behind a position, of which the path that ends in `node` has the text up to there, whose window begins at
    block index `first` or before: a window layer can go on at the position too. Looks along the edge that has the
    position, and where that ends there along the newest below it that are nobody's own."""
    node = node_at(node, position) if position else node
    edges = [node]
    if node.end == position:
        below = [node.children[key] for key in islice(reversed(node.children), MOST_BELOW) if isinstance(key, bytes)]
        edges = [child for child in below if isinstance(child, Node)]  # none of a tree with marks sleeps
    for edge in edges:
        for mark in (edge.marks or {}).values():
            if mark.position > position and mark.first <= first:
                return mark
    return None


def mark_at(node: Node, position: int) -> Mark | None:
    """The mark at exactly this position of the path that ends in `node`."""
    marks = node_at(node, position).marks
    return marks.get(position) if marks else None


def tokens_saved(mark: Mark) -> int:
    """How many more tokens would be replayed without a mark of the tree: the distance to the one below it."""
    below = last_mark(mark.node, mark.position - 1)
    return mark.position - (0 if below is None else below.position)


def split_marks(node: Node, upper: Node) -> None:
    """`node` was cut at the end of `upper`: marks and places up to there are the upper part's."""
    marks, end = node.marks or {}, upper.end
    above = {position: mark for position, mark in marks.items() if position <= end}
    below = {position: mark for position, mark in marks.items() if position > end}
    for mark in above.values():
        mark.node = upper
    upper.marks, node.marks = above or None, below or None
    upper.places = {position: place for position, place in (node.places or {}).items() if position <= end} or None
    for position, place in (upper.places or {}).items():
        place.home = upper.places
        assert node.places is not None
        del node.places[position]

"""What the numbers of a table mean: its columns by name (`t.states[state, STATE.kind]`), and what is packed in an item.

Kernels know arrays and no objects, so a record is a row and a field is a column. A name is a constant once compiled.
Columns of `Tables.states` mean what the state's kind makes of them.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stemma.fsm.kernels.jit import helper

STACK_BITS = 32
LOW_BITS = 0x7FFFFFFF
FILLED = 0  # the column of `Tables.rows` that is -1 as long as the row is not known


class KeyColumns(NamedTuple):
    """Of tables whose rows are found again by what they begin with (`interning`)."""

    first: int = 0
    second: int = 1
    third: int = 2


class StateColumns(NamedTuple):
    """Of `Tables.states`, a row a state; which ones there are depends on the kind."""

    kind: int = 0
    low: int = 1  # RANGE: reads bytes (or a special symbol) from here
    high: int = 2  # up to and with here
    target: int = 3
    first_edge: int = 1  # BYTES and SPLIT
    end_edge: int = 2
    rule: int = 1  # CALL
    body: int = 1  # REPEAT
    operation: int = 1  # PRODUCT
    next: int = 2  # CALL, REPEAT and PRODUCT: where it goes on behind them
    minimum: int = 3  # REPEAT
    maximum: int = 4  # -1: none
    left: int = 3  # PRODUCT: configurations, -1 while they are unknown
    right: int = 4


class EdgeColumns(NamedTuple):
    """Of `Tables.edges`. Those of a SPLIT read nothing: only their targets count."""

    low: int = 0
    high: int = 1
    target: int = 2


class FrameColumns(NamedTuple):
    """Of `Tables.stacks`: a stack is its top frame and the stack parent, or the union of a stack and others. The first
    three columns are the row's key."""

    back: int = 0  # the state to return to
    iteration: int = 1  # how often the repeat `back` has been gone through, -1 if it is none
    parent: int = 2  # the stack below
    first: int = 1  # of a union (`stacks`): one of its stacks
    rest: int = 2  # the union of the others, or the last
    collected: int = 3  # the generation that looked at it last


class ConfigColumns(NamedTuple):
    """Of `Tables.configs`."""

    first: int = 0  # of its items
    size: int = 1  # how many there are
    accepting: int = 2
    hash: int = 3
    mark: int = 4  # the search that was here last
    distance: int = 5  # bytes to the nearest end (`bounded`)
    walked: int = 6  # the mask whose walk was here last (`iterations`)


class PairColumns(NamedTuple):
    """Of `Tables.products`: two configurations side by side. The first three columns are the row's key."""

    operation: int = 0
    left: int = 1
    right: int = 2
    liveness: int = 3  # UNKNOWN, LIVE (it can accept yet) or DEAD
    search: int = 4  # the generation of the search that was here last


class CallerColumns(NamedTuple):
    """Of `Tables.calls`: who called in one closure, if it shares calls (`call_nodes`)."""

    entry: int = 0
    back: int = 1
    iteration: int = 2
    parent: int = 3
    resolved: int = 4  # the stack that the node has become, or -1


class SeenColumns(NamedTuple):
    """Of `Tables.seen`, a hash set of items that is empty again with each generation."""

    item: int = 0
    generation: int = 1


class TaskColumns(NamedTuple):
    """Of `Tables.tasks`."""

    kind: int = 0  # ROW_TASK or LIVE_TASK
    subject: int = 1  # a configuration or a product


class QueueColumns(NamedTuple):
    """Of `Tables.queue`, a breadth-first search over products."""

    product: int = 0
    origin: int = 1  # the position in the queue that led here


class ClosureColumns(NamedTuple):
    """Of `Tables.closures`: what a byte led to, and the configuration which that alone makes."""

    start: int = 0
    config: int = 1


class PathColumns(NamedTuple):
    """Of a path, the scratch of walks: what is still to visit. The third column is each walk's own."""

    node: int = 0  # of the trie
    config: int = 1
    base: int = 2  # the configuration beside (`delta_mask`)
    byte: int = 2  # on the way down to a node (`follow`)
    characters: int = 1  # from the root (`find_slice`)
    place: int = 2  # inside a character (`find_slice`)
    stack: int = 0  # above the frame that is replaced (`moved_back`)


class SpanColumns(NamedTuple):
    """Of what `find_spans` writes."""

    start: int = 0
    token: int = 1


class LengthColumns(NamedTuple):
    """Of what `find_slice` writes: a token or a node of the trie, and its number of characters."""

    key: int = 0
    characters: int = 1


class TwinColumns(NamedTuple):
    """Of a vocabulary's tokens with the same bytes: the one that the trie has, and another."""

    known: int = 0
    other: int = 1


class Counters(NamedTuple):
    """Of `Tables.counts`: how full the tables are, what the closure at work has met, and what a kernel stopped for."""

    num_stacks: int = 0
    num_configs: int = 1
    num_items: int = 2
    num_products: int = 3
    num_pending: int = 4
    generation: int = 5  # of a search or closure: what is marked with another was not seen in it
    accepting: int = 6
    incomplete: int = 7  # something must be known before this can go on
    num_tasks: int = 8
    num_needed: int = 9
    full: int = 10  # the table that has no room, or 0
    visits: int = 11  # of states, in this closure
    asked: int = 12  # how often anything was needed
    walk: int = 13  # the mask in the making, 0 if nobody counts what is walked for it
    work: int = 14  # visits of all closures before
    calls: int = 15
    sharing: int = 16  # whether this closure shares its calls


KEY, STATE, EDGE, FRAME, CONFIG = KeyColumns(), StateColumns(), EdgeColumns(), FrameColumns(), ConfigColumns()
PAIR, CALLER, SEEN, TASK, QUEUED = PairColumns(), CallerColumns(), SeenColumns(), TaskColumns(), QueueColumns()
CLOSURE, PATH, SPAN, LENGTH, COUNT = ClosureColumns(), PathColumns(), SpanColumns(), LengthColumns(), Counters()
TWIN = TwinColumns()


@functools.cache
def width(columns: tuple[int, ...]) -> int:
    """How many columns a table has."""
    return max(columns) + 1


@helper
def item_of(state: int, stack: int) -> int:
    """A state and a stack as one number, so that a set of them is an array."""
    return (state << STACK_BITS) | stack


@helper
def state_of(item: int) -> int:
    return item >> STACK_BITS


@helper
def stack_of(item: int) -> int:
    return item & LOW_BITS


@helper
def is_filled(rows: npt.NDArray[np.int32], config: int) -> bool:
    """Whether the row of `config` is known. Byte 0 says so: it is written last."""
    return bool(rows[config, FILLED] >= 0)


@helper
def product_of(state: int) -> int:
    """The product that a negative state stands for; the same takes a product to its state."""
    return -1 - state


@helper
def start_of(state: int) -> int:
    """What is needed of a product state that has not begun, beside rules, which are not negative; and back."""
    return -1 - state

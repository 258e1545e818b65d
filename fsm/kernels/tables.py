"""The arrays of one automaton, all in one tuple so that compiled kernels take them as one argument.

Pairs are packed in 64 bits: an *item* is `state << 32 | stack`. A negative state `-1 - p` is product `p`. Stack 0 is
empty, configuration 0 is dead. Arrays grow when a kernel says that one is full; nothing here steps the automaton.
"""

from __future__ import annotations

import math
import mmap
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stemma.fsm.errors import LimitError

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]

# Kinds of states. RANGE: low, high, next. BYTES and SPLIT: first and end of their edges. CALL: rule, next.
# REPEAT: body, next, minimum, maximum (-1: none). PRODUCT: next, operation, left and right configuration (-1: unknown).
RANGE, BYTES, SPLIT, CALL, RETURN, REPEAT, PRODUCT = range(7)
DIFFERENCE, INTERSECTION, BOUNDED = range(3)  # BOUNDED: an intersection with a largest length
UNKNOWN, LIVE, DEAD = range(3)

# Indices of Tables.counts.
NUM_STACKS, NUM_CONFIGS, NUM_ITEMS, NUM_PRODUCTS, NUM_PENDING, GENERATION, ACCEPTING, INCOMPLETE, NUM_TASKS, \
    NUM_NEEDED, FULL, VISITS, ASKED, WALK, WORK, CALLS, SHARING, NUM_COUNTERS = range(18)  # fmt: skip

# What Tables.counts[FULL] names, and what a mask kernel returns when it stops early.
FULL_STACKS, FULL_CONFIGS, FULL_ITEMS, FULL_PRODUCTS, FULL_WORK, FULL_TASKS, FULL_NEEDED, FULL_QUEUE = \
    range(1, 9)  # fmt: skip

ROW_TASK, LIVE_TASK = range(2)

MARK, DISTANCE, WALKED = 4, 5, 6
"""Columns of Tables.configs: the search that was here last, bytes to the nearest end, the mask that was (`turns`)."""

GROWTH = 4
CLOSURES = 2048  # slots
MIN_MAPPED = 1 << 17  # bytes of an array that gets pages of its own
FIRST_CONFIGS = 64  # enough for most first masks: pages that malloc hands out again cost no faults
MAPPED_CONFIGS = 1 << 16  # 64 MB of rows, of which only what is touched takes memory; few grammars need more
FIRST_SLOTS = 2048  # of half as many configurations
FIRST_STACKS, FIRST_ITEMS, FIRST_PRODUCTS = 1024, 4096, 512


class Tables(NamedTuple):
    """Everything the kernels read and write."""

    counts: Int64s  # (NUM_COUNTERS,)
    states: Int64s  # (states, 5)
    edges: Int64s  # (edges, 3): low, high, next
    rules: Int64s  # (rules,): the entry state, -1 before the rule is built
    stacks: Int64s  # (stacks, 4): state to return to, count of a repeat, parent stack; or a union (`stacks`); COLLECTED
    stack_index: Int64s  # open addressing over stacks
    configs: Int64s  # (configurations, 7): first item, number of items, accepting, hash, MARK, DISTANCE, WALKED
    items: Int64s  # the items of all configurations
    config_index: Int64s
    rows: Int32s  # (configurations, 256): next configuration by byte; -1 at byte 0 while the row is not filled
    products: Int64s  # (products, 5): operation, left and right configuration, live, generation of the last search
    product_index: Int64s
    pending: Int64s  # the items of the configuration in the making
    work: Int64s  # states still to expand
    seen: Int64s  # (slots, 2): item, generation
    calls: Int64s  # (calls, 5): of one closure, if it shares them (`call_nodes`)
    tasks: Int64s  # (tasks, 2): what has to be known first
    queue: Int64s  # (products, 2): breadth-first search: product, position of its parent
    needed: Int64s  # rules to build (r), product states whose start is unknown (-1 - state)
    closures: Int64s  # (slots, 2): what a byte led to, the configuration which that alone makes; the last of each slot
    cuts: Int64s  # (257,): where a row may change


class Limits(NamedTuple):
    """How much one grammar may take before it is refused with a `LimitError`."""

    states: int = 2_000_000
    configurations: int = 131_072
    items: int = 4_000_000
    stacks: int = 1_000_000
    products: int = 200_000
    closure: int = 65_536
    work: int = 20_000_000  # of one operation (to compile, to compute a mask, to take a step), see `work.py`


def new_tables(limits: Limits) -> Tables:
    """Tables without an entry but the first ones: configuration 0 is dead, stack 0 is empty."""
    num_configs = min(FIRST_CONFIGS, limits.configurations)
    counts = np.zeros(NUM_COUNTERS, np.int64)
    counts[NUM_STACKS] = counts[NUM_CONFIGS] = 1
    tables = Tables(
        counts=counts,
        states=np.empty((1024, 5), np.int64),
        edges=np.empty((1024, 3), np.int64),
        rules=np.full(256, -1, np.int64),
        stacks=room((FIRST_STACKS, 4), np.int64),
        stack_index=np.full(slots_for(FIRST_STACKS), -1, np.int64),
        configs=room((num_configs, 7), np.int64),
        items=room((FIRST_ITEMS,), np.int64),
        config_index=np.full(FIRST_SLOTS, -1, np.int64),
        rows=room((num_configs, 256), np.int32),
        products=room((FIRST_PRODUCTS, 5), np.int64),
        product_index=np.full(slots_for(FIRST_PRODUCTS), -1, np.int64),
        pending=np.empty(256, np.int64),
        work=np.empty(512, np.int64),
        seen=np.zeros((512, 2), np.int64),
        calls=np.empty((256, 5), np.int64),
        tasks=np.empty((256, 2), np.int64),
        queue=np.empty((256, 2), np.int64),
        needed=np.empty(64, np.int64),
        closures=np.full((CLOSURES, 2), -1 << 62, np.int64),
        cuts=np.empty(257, np.int64),
    )
    tables.configs[0] = tables.stacks[0] = tables.rows[0] = 0
    return tables


def room(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array that takes memory only where it is touched, and none once it is gone; its entries are not initialised.

    What malloc hands out may have been touched by others, and stays in memory after them. Pages are of the usual size:
    NumPy asks for huge ones, whose first touch may take milliseconds.
    """
    num_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    if num_bytes < MIN_MAPPED:
        return np.empty(shape, dtype)
    pages = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, dtype).reshape(shape)


def unused_bytes(array: npt.NDArray[Any], used: int) -> int:
    """What `room` for more than `used` entries does not take."""
    return array[used:].nbytes if array.nbytes >= MIN_MAPPED else 0


def grown(array: npt.NDArray[Any], limit: int, size: int = 0) -> npt.NDArray[Any]:
    """A copy with more room (for `size`), up to `limit`; new rows are not initialised, and take no memory before."""
    larger = room((min(size or GROWTH * len(array), limit), *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


def slots_for(size: int) -> int:
    """A power of two: at least twice as many slots as there are entries."""
    return 1 << (2 * size - 1).bit_length()


def grown_tables(t: Tables, full: int, limits: Limits) -> Tables:
    """`t` with more room for what is full, within the limits. A reindexed table keeps its ids."""
    if full == FULL_STACKS:
        _check(len(t.stacks), limits.stacks, "stack frames")
        stacks = grown(t.stacks, limits.stacks)
        return t._replace(stacks=stacks, stack_index=_reindexed_stacks(stacks, int(t.counts[NUM_STACKS])))
    if full == FULL_CONFIGS:
        used = int(t.counts[NUM_CONFIGS])
        if used < len(t.configs):
            return t._replace(config_index=_index_of(t.configs[:, 3], 1, used, GROWTH * len(t.config_index)))
        _check(used, limits.configurations, "configurations")
        size = max(GROWTH * used, MAPPED_CONFIGS)
        configs, rows = (grown(array, limits.configurations, size) for array in (t.configs, t.rows))
        return t._replace(configs=configs, rows=rows)
    if full == FULL_PRODUCTS:
        _check(len(t.products), limits.products, "product states")
        products = grown(t.products, limits.products)
        return t._replace(products=products, product_index=_reindexed_products(products, int(t.counts[NUM_PRODUCTS])))
    if full == FULL_ITEMS:
        _check(len(t.items), limits.items, "items")
        return t._replace(items=grown(t.items, limits.items))
    if full == FULL_WORK:
        _check(len(t.work), 4 * limits.closure, "alternatives at one place")
        size = min(GROWTH * len(t.work), 4 * limits.closure)
        seen = np.zeros((slots_for(size // 2), 2), np.int64)
        calls = grown(t.calls, size // 2)
        return t._replace(pending=grown(t.pending, size // 2), work=grown(t.work, size), seen=seen, calls=calls)
    if full == FULL_QUEUE:
        _check(len(t.queue), limits.products, "product states")
        return t._replace(queue=grown(t.queue, limits.products))
    if full == FULL_TASKS:
        _check(len(t.tasks), limits.products, "dependent products")
        return t._replace(tasks=grown(t.tasks, limits.products))
    assert full == FULL_NEEDED
    return t._replace(needed=grown(t.needed, GROWTH * len(t.needed)))


def _check(size: int, limit: int, what: str) -> None:
    if size >= limit:
        raise LimitError(f"the grammar needs more than {limit} {what}; simplify it (nested repeats, left recursion?)")


def _index_of(hashes: Int64s, start: int, end: int, slots: int) -> Int64s:
    """Open addressing with linear steps: all entries look for a slot at once, the first of each slot gets it."""
    index = np.full(slots, -1, np.int64)
    entries = np.arange(start, end)
    wanted = hashes[start:end] & (slots - 1)
    while len(entries):
        free = index[wanted] < 0
        index[wanted[free][::-1]] = entries[free][::-1]
        left = index[wanted] != entries
        entries, wanted = entries[left], (wanted[left] + 1) & (slots - 1)
    return index


def _mixed(columns: Int64s) -> Int64s:
    """The hash of `stemma.fsm.kernels.stacks.hash_three`, for whole columns."""
    value = columns[:, 0] * 0x9E3779B1 & 0x7FFFFFFF
    value = (value ^ columns[:, 1]) * 0x85EBCA6B & 0x7FFFFFFF
    value = (value ^ columns[:, 2]) * 0xC2B2AE35 & 0x7FFFFFFF
    return value ^ (value >> 15)


def _reindexed_stacks(stacks: Int64s, end: int) -> Int64s:
    return _index_of(_mixed(stacks[:, :3]), 1, end, slots_for(len(stacks)))


def _reindexed_products(products: Int64s, end: int) -> Int64s:
    return _index_of(_mixed(products[:, :3]), 0, end, slots_for(len(products)))

"""The arrays of one automaton, all in one tuple so that compiled kernels take them as one argument.

`columns` names what stands in their rows. Stack 0 is empty, configuration 0 is dead. Arrays grow when a kernel
says that one is full; nothing here steps the automaton.
"""

from __future__ import annotations

import math
import mmap
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stemma.fsm.errors import LimitError
from stemma.fsm.kernels.columns import (
    CALLER,
    CLOSURE,
    CONFIG,
    COUNT,
    EDGE,
    FRAME,
    KEY,
    LOW_BITS,
    PAIR,
    QUEUED,
    SEEN,
    STATE,
    TASK,
    width,
)

Int64s = npt.NDArray[np.int64]
Int32s = npt.NDArray[np.int32]

# Kinds of states (`StateColumns` says what each has), operations of products, what is known of a product.
RANGE, BYTES, SPLIT, CALL, RETURN, REPEAT, PRODUCT = range(7)
DIFFERENCE, INTERSECTION, BOUNDED = range(3)  # BOUNDED: an intersection with a largest length
UNKNOWN, LIVE, DEAD = range(3)

# What `Tables.counts[COUNT.full]` names.
FULL_STACKS, FULL_CONFIGS, FULL_ITEMS, FULL_PRODUCTS, FULL_WORK, FULL_TASKS, FULL_NEEDED, FULL_QUEUE = \
    range(1, 9)  # fmt: skip

ROW_TASK, LIVE_TASK = range(2)

GROWTH = 4
CLOSURES = 2048  # slots
MIN_MAPPED = 1 << 17  # bytes of an array that gets pages of its own
FIRST_CONFIGS = 64  # enough for most first masks: pages that malloc hands out again cost no faults
MAPPED_CONFIGS = 1 << 16  # 64 MB of rows, of which only what is touched takes memory; few grammars need more
FIRST_SLOTS = 2048  # of half as many configurations
FIRST_STACKS, FIRST_ITEMS, FIRST_PRODUCTS = 1024, 4096, 512


class Tables(NamedTuple):
    """Everything the kernels read and write."""

    counts: Int64s  # (counters,)
    states: Int64s  # (states, columns), as all tables of `columns` are
    edges: Int64s
    rules: Int64s  # (rules,): the entry state, -1 before the rule is built
    stacks: Int64s
    stack_index: Int64s  # open addressing over stacks
    configs: Int64s
    items: Int64s  # the items of all configurations
    config_index: Int64s
    rows: Int32s  # (configurations, 256): next configuration by byte, once it `is_filled`
    products: Int64s
    product_index: Int64s
    pending: Int64s  # the items of the configuration in the making
    work: Int64s  # states still to expand
    seen: Int64s
    calls: Int64s
    tasks: Int64s  # what has to be known first
    queue: Int64s
    needed: Int64s  # rules to build, product states whose start is unknown (`start_of`)
    closures: Int64s  # the last of each slot
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
    tables = Tables(
        counts=np.empty(len(COUNT), np.int64),
        states=np.empty((1024, width(STATE)), np.int64),
        edges=np.empty((1024, width(EDGE)), np.int64),
        rules=np.empty(256, np.int64),
        stacks=room((FIRST_STACKS, width(FRAME)), np.int64),
        stack_index=np.empty(slots_for(FIRST_STACKS), np.int64),
        configs=room((num_configs, width(CONFIG)), np.int64),
        items=room((FIRST_ITEMS,), np.int64),
        config_index=np.empty(FIRST_SLOTS, np.int64),
        rows=room((num_configs, 256), np.int32),
        products=room((FIRST_PRODUCTS, width(PAIR)), np.int64),
        product_index=np.empty(slots_for(FIRST_PRODUCTS), np.int64),
        pending=np.empty(256, np.int64),
        work=np.empty(512, np.int64),
        seen=np.empty((512, width(SEEN)), np.int64),
        calls=np.empty((256, width(CALLER)), np.int64),
        tasks=np.empty((256, width(TASK)), np.int64),
        queue=np.empty((256, width(QUEUED)), np.int64),
        needed=np.empty(64, np.int64),
        closures=np.empty((CLOSURES, width(CLOSURE)), np.int64),
        cuts=np.empty(257, np.int64),
    )
    clear(tables)
    return tables


def clear(tables: Tables) -> None:
    """Take out all but the first entries. What is behind the last one of a table need not be anything."""
    for zeros in (tables.counts, tables.seen, tables.configs[0], tables.stacks[0], tables.rows[0]):
        zeros.fill(0)
    for index in (tables.rules, tables.stack_index, tables.config_index, tables.product_index):
        index.fill(-1)
    tables.closures.fill(-1 << 62)
    tables.counts[COUNT.num_stacks] = tables.counts[COUNT.num_configs] = 1


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


def touched_bytes(t: Tables) -> int:
    """Memory of the tables: of those that are made large at once, what has been touched."""
    touched = (
        (t.rows, COUNT.num_configs),
        (t.configs, COUNT.num_configs),
        (t.items, COUNT.num_items),
        (t.stacks, COUNT.num_stacks),
        (t.products, COUNT.num_products),
    )
    unused = sum(unused_bytes(array, int(t.counts[number])) for array, number in touched)
    return sum(array.nbytes for array in t) - unused


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
        index = _index_of(_hashes(stacks), 1, int(t.counts[COUNT.num_stacks]), slots_for(len(stacks)))
        return t._replace(stacks=stacks, stack_index=index)
    if full == FULL_CONFIGS:
        used = int(t.counts[COUNT.num_configs])
        if used < len(t.configs):
            return t._replace(config_index=_index_of(t.configs[:, CONFIG.hash], 1, used, GROWTH * len(t.config_index)))
        _check(used, limits.configurations, "configurations")
        size = max(GROWTH * used, MAPPED_CONFIGS)
        configs, rows = (grown(array, limits.configurations, size) for array in (t.configs, t.rows))
        return t._replace(configs=configs, rows=rows)
    if full == FULL_PRODUCTS:
        _check(len(t.products), limits.products, "product states")
        products = grown(t.products, limits.products)
        index = _index_of(_hashes(products), 0, int(t.counts[COUNT.num_products]), slots_for(len(products)))
        return t._replace(products=products, product_index=index)
    if full == FULL_ITEMS:
        _check(len(t.items), limits.items, "items")
        return t._replace(items=grown(t.items, limits.items))
    if full == FULL_WORK:
        _check(len(t.work), 4 * limits.closure, "alternatives at one place")
        size = min(GROWTH * len(t.work), 4 * limits.closure)
        seen = np.zeros((slots_for(size // 2), width(SEEN)), np.int64)
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


def _hashes(rows: Int64s) -> Int64s:
    """The hashes of `stemma.fsm.kernels.interning.hash_three`, for whole columns."""
    value = rows[:, KEY.first] * 0x9E3779B1 & LOW_BITS
    value = (value ^ rows[:, KEY.second]) * 0x85EBCA6B & LOW_BITS
    value = (value ^ rows[:, KEY.third]) * 0xC2B2AE35 & LOW_BITS
    return value ^ (value >> 15)

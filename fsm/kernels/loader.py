"""The kernels' entry points: which there are, what they are given, and the process's compiled ones."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stemma.cache_folder import cache_folder
from stemma.fsm.kernels import beside, boundaries, bounded, iterations, kinds, look, masks, regions, rows, slices, step
from stemma.fsm.kernels.bounded import BoundedText, Farthest
from stemma.fsm.kernels.columns import LENGTH, SPAN, TWIN, width
from stemma.fsm.kernels.iterations import Repetition
from stemma.fsm.kernels.jit import MARKED
from stemma.fsm.kernels.kinds import NO_COUNTER, Counter, Found
from stemma.fsm.kernels.slices import SliceSizes, TokenSlice
from stemma.fsm.kernels.tables import Int32s, Int64s, Limits, Tables, new_tables
from stemma.fsm.kernels.trie import Trie, build_trie
from stemma.fsm.machine.build import Signatures, load
from stemma.fsm.machine.values import ANY_COLUMNS, BYTES, INTEGER, Array, type_of

Words = npt.NDArray[np.uint32]


class Kernels(NamedTuple):
    """The entry points, by what they answer."""

    ensure_row: Callable[[Tables, int], bool]
    start_at: Callable[[Tables, int, int], int]
    step_special: Callable[[Tables, int, int], int]
    step_bytes: Callable[[Tables, int, bytes], int]
    find_boundaries: Callable[[Tables, Trie, Int64s, bytes, int, Int64s], bool]
    find_spans: Callable[[Tables, Trie, Int64s, bytes, int, Int64s, Int64s], int]
    classify: Callable[[Tables, int, Int64s, int], Found]
    look: Callable[[Tables, Trie, Int64s, int, Int64s, Int64s, Words, Int64s], int]
    plain_mask: Callable[[Tables, Trie, Int64s, int, Words], bool]
    loop_mask: Callable[[Tables, Trie, Int64s, int, Words, TokenSlice], bool]
    counter_mask: Callable[[Tables, Trie, Int64s, int, Words, TokenSlice, Counter, Int64s], bool]
    delta_mask: Callable[[Tables, Trie, Int64s, int, int, Words, Words], bool]
    find_region: Callable[[Tables, int, Int64s, Int64s, Int64s], int]
    region_mask: Callable[[Tables, Trie, Int64s, int, Words, TokenSlice, Int64s], bool]
    copy_twins: Callable[[Words, Int64s], None]
    take_off: Callable[[Tables, Trie, Int64s, int, Words, Int64s, Int64s], bool]
    find_bounded: Callable[[Tables, int, Int64s, Int64s], int]
    farthest: Callable[[Tables, int, Int64s], Farthest]
    bounded_mask: Callable[[Tables, Trie, Int64s, int, Words, Words, TokenSlice, BoundedText, Int64s], bool]
    earlier_iteration: Callable[[Tables, int, Int64s, Repetition], int]
    last_iteration: Callable[[Tables, Repetition], int]
    find_slice: Callable[[Trie, Int64s, Int64s, Int64s, Int64s], SliceSizes]
    sort_slice: Callable[[Int64s, int, Int64s, Int32s, Int32s, Words], None]


PLAIN = Kernels(
    ensure_row=rows.ensure_row,
    start_at=step.start_at,
    step_special=step.step_special,
    step_bytes=step.step_bytes,
    find_boundaries=boundaries.find_boundaries,
    find_spans=boundaries.find_spans,
    classify=kinds.classify,
    look=look.look,
    plain_mask=masks.plain_mask,
    loop_mask=masks.loop_mask,
    counter_mask=masks.counter_mask,
    delta_mask=masks.delta_mask,
    find_region=regions.find_region,
    region_mask=regions.region_mask,
    copy_twins=masks.copy_twins,
    take_off=regions.take_off,
    find_bounded=bounded.find_bounded,
    farthest=bounded.farthest,
    bounded_mask=bounded.bounded_mask,
    earlier_iteration=iterations.earlier_iteration,
    last_iteration=iterations.last_iteration,
    find_slice=slices.find_slice,
    sort_slice=slices.sort_slice,
)
"""The same as Python, which is what they are translated from and compared with."""

_lock = threading.Lock()
_compiled: list[Kernels] = []


def kernels() -> Kernels:
    """The compiled kernels. The first call loads them, or compiles them where nobody has before: two seconds."""
    if not _compiled:
        with _lock:
            if not _compiled:
                beside.wait()
                found = load(signatures(), frozenset(MARKED), cache_folder() / "fsm")
                _compiled.append(Kernels(**{name: found[name] for name in Kernels._fields}))
    return _compiled[0]


def _renew_lock() -> None:
    """In a forked process, the thread that was compiling does not go on."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)


def signatures() -> Signatures:
    """The types of each kernel's arguments. Tables of an automaton have the columns that `columns` names."""
    t, trie = type_of(new_tables(Limits())), type_of(build_trie([b"a"]))
    sliced = type_of(_empty_slice(), frozenset(["cumulative"]))
    words, numbers, shorts = (Array(element) for element in ("uint32", "int64", "int32"))
    path, twins = Array("int64", 3), Array("int64", width(TWIN))
    lengths, spans = Array("int64", width(LENGTH)), Array("int64", width(SPAN))
    repetition, counter, text = (
        type_of(example) for example in (Repetition(0, 0, 0, 0), NO_COUNTER, BoundedText(0, 0, 0, 0))
    )
    number = INTEGER
    return {
        rows.ensure_row: (t, number),
        step.start_at: (t, number, number),
        step.step_special: (t, number, number),
        step.step_bytes: (t, number, BYTES),
        boundaries.find_boundaries: (t, trie, path, BYTES, number, numbers),
        boundaries.find_spans: (t, trie, path, BYTES, number, numbers, spans),
        kinds.classify: (t, number, numbers, number),
        look.look: (t, trie, path, number, numbers, numbers, words, twins),
        masks.plain_mask: (t, trie, path, number, words),
        masks.loop_mask: (t, trie, path, number, words, sliced),
        masks.counter_mask: (t, trie, path, number, words, sliced, counter, numbers),
        masks.delta_mask: (t, trie, path, number, number, words, words),
        regions.find_region: (t, number, path, numbers, numbers),
        regions.region_mask: (t, trie, path, number, words, sliced, numbers),
        masks.copy_twins: (words, twins),
        regions.take_off: (t, trie, path, number, words, numbers, numbers),
        bounded.find_bounded: (t, number, numbers, numbers),
        bounded.farthest: (t, number, path),
        bounded.bounded_mask: (t, trie, path, number, words, words, sliced, text, numbers),
        iterations.earlier_iteration: (t, number, path, repetition),
        iterations.last_iteration: (t, repetition),
        slices.find_slice: (trie, numbers, path, lengths, lengths),
        slices.sort_slice: (lengths, number, numbers, shorts, shorts, Array("uint32", ANY_COLUMNS)),
    }


def _empty_slice() -> TokenSlice:
    none, few = np.zeros(0, np.int64), np.zeros(0, np.int32)
    words = np.zeros(0, np.uint32)
    return TokenSlice(words, np.zeros((1, 0), np.uint32), few, few, none, none, none, none, none)


if __name__ == "__main__":
    kernels()

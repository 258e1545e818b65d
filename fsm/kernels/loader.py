"""The few functions that numba compiles, and when: in the background, cached on disk, plain Python until then.

The plain and the compiled ones share tables and may be changed over between two calls. Nothing waits for a compiler.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import inspect
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from stemma.cache_folder import cache_folder
from stemma.fsm.errors import KernelsFailed
from stemma.fsm.kernels import (
    boundaries,
    bounded,
    call_nodes,
    closure,
    columns,
    configurations,
    interning,
    iterations,
    kinds,
    masks,
    regions,
    rows,
    slices,
    stacks,
    step,
    tables,
)
from stemma.fsm.kernels.bounded import BoundedText, Farthest
from stemma.fsm.kernels.iterations import Repetition
from stemma.fsm.kernels.kinds import NO_COUNTER, Counter, Found, classification_of
from stemma.fsm.kernels.slices import SliceSizes, TokenSlice
from stemma.fsm.kernels.tables import Int32s, Int64s, Limits, Tables, new_tables
from stemma.fsm.kernels.trie import Trie, build_trie

log = logging.getLogger(__name__)
SUMS = "sums.json"
Words = npt.NDArray[np.uint32]
Octets = npt.NDArray[np.uint8]


class Kernels(NamedTuple):
    """The entry points, by what they answer."""

    ensure_row: Callable[[Tables, int], bool]
    start_at: Callable[[Tables, int, int], int]
    step_special: Callable[[Tables, int, int], int]
    step_bytes: Callable[[Tables, int, Octets], int]
    find_boundaries: Callable[[Tables, Trie, Int64s, Octets, int, Int64s], bool]
    find_spans: Callable[[Tables, Trie, Int64s, Octets, int, Int64s, Int64s], int]


class MaskKernels(NamedTuple):
    """What only exists compiled: in plain Python these would be slower than `walk.allowed_keys`."""

    classify: Callable[[Tables, int, Int64s, int], Found]
    plain_mask: Callable[[Tables, Trie, Int64s, int, Words], bool]
    loop_mask: Callable[[Tables, Trie, Int64s, int, Words, TokenSlice], bool]
    counter_mask: Callable[[Tables, Trie, Int64s, int, Words, TokenSlice, Counter, Int64s], bool]
    delta_mask: Callable[[Tables, Trie, Int64s, int, int, Words, Words], bool]
    find_region: Callable[[Tables, int, Int64s, Int64s, Int64s], int]
    region_mask: Callable[[Tables, Trie, Int64s, int, Words, TokenSlice, Int64s], bool]
    take_off: Callable[[Tables, Trie, Int64s, int, Words, Int64s, Int64s], bool]
    farthest: Callable[[Tables, int, Int64s], Farthest]
    bounded_mask: Callable[[Tables, Trie, Int64s, int, Words, Words, TokenSlice, BoundedText, Int64s], bool]
    earlier_iteration: Callable[[Tables, int, Int64s, Repetition], int]
    last_iteration: Callable[[Tables, Repetition], int]
    find_slice: Callable[[Trie, Int64s, Int64s, Int64s, Int64s], SliceSizes]
    sort_slice: Callable[[Int64s, int, Int64s, Int32s, Int32s, npt.NDArray[np.uint32]], None]


class Compiled(NamedTuple):
    automaton: Kernels
    masks: MaskKernels


PLAIN_KERNELS = Kernels(
    rows.ensure_row,
    step.start_at,
    step.step_special,
    step.step_bytes,
    boundaries.find_boundaries,
    boundaries.find_spans,
)


class KernelLoader:
    """Compiles in a thread of its own, or loads what an earlier process compiled."""

    def __init__(self) -> None:
        self._compiled: Compiled | None = None
        self._start()

    def _start(self) -> None:
        self._failure: Exception | None = None
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._load, name="stemma-fsm-kernels", daemon=True)
        self._thread.start()

    @property
    def compiled(self) -> Compiled | None:
        """The compiled kernels, or None as long as they are not ready."""
        if self._compiled is None and os.getpid() != self._process:  # a fork does not have the thread
            self._start()
        return self._compiled

    def wait(self) -> Compiled:
        """Block until the kernels are ready: for benchmarks and tests. Raises KernelsFailed with the cause."""
        if self.compiled is None:
            self._thread.join()
        if self._compiled is None:
            message = (
                f"the automaton's kernels cannot be compiled: {self._failure!r}; is numba installed for this Python?"
            )
            raise KernelsFailed(message) from self._failure
        return self._compiled

    def _load(self) -> None:
        """For the thread: its end is told by `_compiled`, or by `_failure` to who waits."""
        try:
            self._compiled = self._loaded()
        except Exception as error:
            log.exception("the automaton's kernels cannot be compiled, and grammars take plain Python")
            self._failure = error

    def _loaded(self) -> Compiled:
        settings: Any = numba.config
        own = Path(settings.CACHE_DIR) if settings.CACHE_DIR else cache_folder() / "fsm"
        folder = own / f"kernels-{_source_digest(kinds.classify):012x}-{_installation()}"
        try:
            with kept(folder):
                return compile_kernels()
        except Exception as error:  # whatever numba makes of files that are damaged or cannot be written
            log.warning("the automaton's kernels in %s cannot be used, and are compiled anew: %r", folder, error)
            shutil.rmtree(folder, ignore_errors=True)
            return compile_kernels(keeps=False)


@functools.cache
def loader() -> KernelLoader:
    """The process's only loader, started by the first vocabulary."""
    return KernelLoader()


def _installation() -> str:
    """Numba tells functions apart by the paths of their files: each installation compiles, and waits, for itself."""
    return hashlib.sha256(__file__.encode()).hexdigest()[:8]


def _source_digest(function: Callable[..., Any]) -> int:
    """Numba notices a change in the file of an entry point only; the key of its cache must cover every helper's."""
    steps = (call_nodes, closure, columns, configurations, interning, rows, stacks, step, tables)
    of_masks = (bounded, kinds, masks, regions, slices, boundaries, iterations)
    modules = steps if function.__module__ in (rows.__name__, step.__name__) else (*of_masks, *steps)
    sources = "".join(inspect.getsource(module) for module in modules)
    return int(hashlib.sha256(sources.encode()).hexdigest()[:12], 16)


def compile_kernels(keeps: bool = True) -> Compiled:
    """Every entry point with its one signature. keeps: in numba's folder, from where it also takes what is there."""
    typeof: Callable[[object], Any] = numba.typeof
    t, trie, sliced = typeof(new_tables(Limits())), typeof(build_trie([b"a"])), typeof(_empty_slice())
    integer, truth = numba.int64, numba.boolean
    words, octets, numbers = numba.uint32[::1], numba.uint8[::1], numba.int64[::1]
    path = numba.int64[:, ::1]
    repetition, counter = typeof(Repetition(0, 0, 0, 0)), typeof(NO_COUNTER)
    place = typeof(classification_of(0, 0, 0, NO_COUNTER, Repetition(0, 0, 0, 0)))
    text, far, sizes = typeof(BoundedText(0, 0, 0, 0)), typeof(Farthest(0, 0)), typeof(SliceSizes(0, 0, 0))
    signatures: dict[Callable[..., Any], Any] = {
        rows.ensure_row: truth(t, integer),
        step.start_at: integer(t, integer, integer),
        step.step_special: integer(t, integer, integer),
        step.step_bytes: integer(t, integer, octets),
        boundaries.find_boundaries: truth(t, trie, path, octets, integer, numbers),
        boundaries.find_spans: integer(t, trie, path, octets, integer, numbers, path),
        kinds.classify: place(t, integer, numbers, integer),
        masks.plain_mask: truth(t, trie, path, integer, words),
        masks.loop_mask: truth(t, trie, path, integer, words, sliced),
        masks.counter_mask: truth(t, trie, path, integer, words, sliced, counter, numbers),
        masks.delta_mask: truth(t, trie, path, integer, integer, words, words),
        regions.find_region: integer(t, integer, path, numbers, numbers),
        regions.region_mask: truth(t, trie, path, integer, words, sliced, numbers),
        regions.take_off: truth(t, trie, path, integer, words, numbers, numbers),
        bounded.farthest: far(t, integer, path),
        bounded.bounded_mask: truth(t, trie, path, integer, words, words, sliced, text, numbers),
        iterations.earlier_iteration: integer(t, integer, path, repetition),
        iterations.last_iteration: integer(t, repetition),
        slices.find_slice: sizes(trie, numbers, path, path, path),
        slices.sort_slice: numba.void(path, integer, numbers, numba.int32[::1], numba.int32[::1], numba.uint32[:, ::1]),
    }
    ready = {function.__name__: _compiled(function, signature, keeps) for function, signature in signatures.items()}
    return Compiled(
        Kernels(*(ready[name] for name in Kernels._fields)), MaskKernels(*(ready[name] for name in MaskKernels._fields))
    )


def _compiled(function: Callable[..., Any], signature: Any, keeps: bool) -> Any:
    """The code for the one signature, without numba's dispatcher: that looks at the types of all arrays of an automaton
    at each call, which takes longer than most kernels do."""
    compiler = numba.jit(signature, nopython=True, nogil=True, cache=keeps)
    return compiler(sealed(function, _source_digest(function), len(signature.args))).get_overload(signature)


@contextlib.contextmanager
def kept(folder: Path) -> Iterator[None]:
    """Numba's files go to this folder. Files that are not as they were left go first.

    Beside the source they would outlive an installation there, and what is left of a package's folder hides the package
    that is installed after it.
    """
    settings: Any = numba.config
    before = settings.CACHE_DIR
    with _alone(folder):
        if _is_damaged(folder):
            shutil.rmtree(folder, ignore_errors=True)
        settings.CACHE_DIR = str(folder)
        try:
            yield
            _seal(folder)
        finally:
            settings.CACHE_DIR = before


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: others wait, and load what it has compiled. In a folder that is read only, all at once."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder.with_name(f"{folder.name}.lock"), os.O_RDWR | os.O_CREAT)
    except OSError:
        yield
        return
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.lockf(lock, fcntl.LOCK_EX)  # of the process: a fork does not share it
        yield
    finally:
        os.close(lock)


def _is_damaged(folder: Path) -> bool:
    """Whether files are not as they were sealed. More of them may have come, from a process that was killed before it
    sealed them: numba puts each in place whole."""
    try:
        sealed_files = json.loads((folder / SUMS).read_bytes())
    except OSError:
        return False
    except ValueError:
        return True
    found = _sums(folder)
    return any(found.get(name) != digest for name, digest in sealed_files.items())


def _seal(folder: Path) -> None:
    with contextlib.suppress(OSError):
        beside = folder / f"{SUMS}.{os.getpid()}"
        beside.write_bytes(json.dumps(_sums(folder)).encode())
        beside.replace(folder / SUMS)


def _sums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*.nb[ic]")
    }


def _empty_slice() -> TokenSlice:
    none, few = np.zeros(0, np.int64), np.zeros(0, np.int32)
    words = np.zeros(0, np.uint32)
    return TokenSlice(words, np.zeros((1, 0), np.uint32), few, few, none, none, none, none, none)


def sealed(function: Callable[..., Any], digest: int, arity: int) -> Callable[..., Any]:
    """`function` as a closure over `digest`, which numba makes part of the key of its cache."""
    by_arity: dict[int, Callable[..., Any]] = {
        2: lambda a, b: (digest, function(a, b))[1],
        3: lambda a, b, c: (digest, function(a, b, c))[1],
        4: lambda a, b, c, d: (digest, function(a, b, c, d))[1],
        5: lambda a, b, c, d, e: (digest, function(a, b, c, d, e))[1],
        6: lambda a, b, c, d, e, f: (digest, function(a, b, c, d, e, f))[1],
        7: lambda a, b, c, d, e, f, g: (digest, function(a, b, c, d, e, f, g))[1],
        8: lambda a, b, c, d, e, f, g, h: (digest, function(a, b, c, d, e, f, g, h))[1],
        9: lambda a, b, c, d, e, f, g, h, i: (digest, function(a, b, c, d, e, f, g, h, i))[1],
    }
    return by_arity[arity]

"""The back end's own threads: they take pieces of a job one by one, spin between the jobs of a step, sleep
between steps.

The caller works too and can finish a job alone, so a worker that sleeps or was descheduled costs time, never an answer.

    control block (64-bit words)
        0         generation << 32 | pieces not yet taken         changed by compare-and-swap only
        8         pieces finished
       16 .. 20   kernel, pieces, scratch of thread 0, bytes of scratch a thread, address of sched_yield
       24         1 asks the workers to leave
       25         the operation that comes after the one that runs, if a recorded step knows it (`steps.py`)
       26, 27     what the caller has fetched of what is read soon: of which memory, how many bytes
       32 .. 95   arguments of the job, written by the operation before it starts
       96 .. 102  SOON: what is read soon

A piece is taken only by a swap on word 0, and a job ends only when all its pieces are finished: whoever holds a piece
may read words 16 to 95, nobody else does.

Who waits asks for the memory that the next job reads, so that it streams on while a row is prepared or another thread's
last piece ends. Nothing depends on it: words of SOON may be read while they change, and any address may be asked for.
"""

from __future__ import annotations

import ctypes
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from stemma.kernels.cpu.machine.compile import Library
from stemma.kernels.cpu.machine.dialect import I32, I64, Code, Value, Variable
from stemma.kernels.cpu.machine.words import read_words
from stemma.kernels.ops import check_process

TICKET, FINISHED, KERNEL, PIECES, SCRATCH, SCRATCH_BYTES, YIELD, STOP = 0, 8, 16, 17, 18, 19, 20, 24
FOLLOWING, CALLER_SEEN, CALLER_FETCHED, ARGUMENTS, SOON_AT, NUM_WORDS = 25, 26, 27, 32, 96, 104
SOON = ("first", "share", "facts", "fact_share", "jump", "fact_jump", "step")
"""Two stretches of memory of which thread t reads `share` bytes from first + t * share, and as many times as that
`fact_share` bytes beside it. A turn asks for 128 bytes and those `jump` bytes behind them, then goes on by `step`."""
MOST_FETCHED = 256 << 10
"""Bytes that a thread asks for before their job begins: its second-level cache should hold them until they are read."""
PAUSES, SPINS = 2_000, 8_000
"""A thread that waits pauses 2,000 times (about 0.1 ms), then offers its core to others; a worker that has waited 8,000
times (a few ms, longer than the host's part of a step) sleeps."""


def _word(code: Code, address: Value) -> Any:
    """A pointer that atomic operations take."""
    return code.builder.inttoptr(address.ir, I64.as_pointer())


def _load_atomic(code: Code, address: Value) -> Value:
    return Value(code, code.builder.load_atomic(_word(code, address), "acquire", 8, typ=I64))


def _fetch(code: Code, control: Value, thread: Value, seen: Variable, fetched: Variable) -> Value:
    """Ask for some of what this thread reads soon. Whether there was anything left to ask for."""
    soon = read_words(code, control + 8 * SOON_AT, SOON)
    with code.when(soon["first"].differs(seen.value)):
        seen.value, fetched.value = soon["first"], code.constant(I64, 0)
    is_left = fetched.value < code.minimum(soon["share"], MOST_FETCHED)
    with code.when(is_left):
        place = soon["first"] + thread * soon["share"] + fetched.value
        beside = soon["facts"] + thread * soon["fact_share"] + fetched.value * soon["fact_share"] // soon["share"]
        for address in (place, place + soon["jump"]):
            code.prefetch(address, nearness=2)
            code.prefetch(address + 64, nearness=2)
        code.prefetch(beside, nearness=2)
        code.prefetch(beside + soon["fact_jump"], nearness=2)
        fetched.value = fetched.value + soon["step"]
    return is_left


def _wait(code: Code, control: Value, waited: Variable, has_fetched: Value) -> None:
    """A moment's rest that leaves the core to whoever needs it; none after a moment that was of use."""
    with code.either((waited.value < PAUSES) | has_fetched) as (pause, offer):
        with pause, code.when(has_fetched.equals(0)):
            if code.is_x86:
                code.builder.call(_declare(code, "llvm.x86.sse2.pause", []), [])
            else:
                # about what x86 pauses for, while `yield` is over at once on most cores
                code.builder.call(_declare(code, "llvm.aarch64.isb", [I32]), [ir.Constant(I32, 15)])
        with offer:
            code.call_address(code.load_int(control, YIELD))
    waited.value = waited.value + 1


def _declare(code: Code, name: str, arguments: list[object]) -> ir.Function:
    found = code.module.globals.get(name)
    return found or ir.Function(code.module, ir.FunctionType(ir.VoidType(), arguments), name)


def _add_take(module: ir.Module) -> ir.Function:
    """take(control, thread) -> 1 if a piece was there and has been done, else 0."""
    code = Code(module, "take", 2, I64)
    control, thread = code.arguments
    done = code.variable(0)
    ticket = _load_atomic(code, control)
    with code.when((ticket & 0xFFFFFFFF).differs(0)):
        pointer = _word(code, control)
        swapped = code.builder.cmpxchg(pointer, ticket.ir, (ticket - 1).ir, "acq_rel", "monotonic")
        with code.when(Value(code, code.builder.extract_value(swapped, 1))):
            piece = code.load_int(control, PIECES) - (ticket & 0xFFFFFFFF)
            scratch = code.load_int(control, SCRATCH) + thread * code.load_int(control, SCRATCH_BYTES)
            code.call_address(code.load_int(control, KERNEL), control + 8 * ARGUMENTS, piece, scratch)
            code.builder.atomic_rmw("add", _word(code, control + 8 * FINISHED), ir.Constant(I64, 1), "acq_rel")
        done.value = code.constant(I64, 1)
    return code.finish(done.value)


def add_parallel(module: ir.Module) -> ir.Function:
    """parallel(control, kernel, pieces): run kernel(arguments, piece, scratch) for every piece, on all threads."""
    take = module.globals.get("take") or _add_take(module)
    code = Code(module, "parallel", 3)
    control, kernel, pieces = code.arguments
    with code.either(pieces.equals(1)) as (single, several):
        with single:
            code.call_address(kernel, control + 8 * ARGUMENTS, pieces * 0, code.load_int(control, SCRATCH))
        with several:
            zero = code.constant(I64, 0)
            code.store(zero, control + 8 * FINISHED, 8)
            code.store(kernel, control + 8 * KERNEL, 8)
            code.store(pieces, control + 8 * PIECES, 8)
            generation = code.load_int(control).unsigned_shift_right(32) + 1
            code.builder.store_atomic(((generation << 32) | pieces).ir, _word(code, control), "release", 8)
            with code.repeat(lambda: code.call(take, control, zero).differs(0)):
                pass
            waited = code.variable(0)
            seen, fetched = (code.variable(code.load_int(control, word)) for word in (CALLER_SEEN, CALLER_FETCHED))
            with code.repeat(lambda: _load_atomic(code, control + 8 * FINISHED).differs(pieces)):
                _wait(code, control, waited, _fetch(code, control, zero, seen, fetched))
            code.store(seen.value, control + 8 * CALLER_SEEN, 8)
            code.store(fetched.value, control + 8 * CALLER_FETCHED, 8)
    return code.finish()


def add_worker(module: ir.Module) -> None:
    """worker(control, thread, spins): serve jobs until none was under way in `spins` rests.

    Who sleeps while another thread's last piece takes long would miss all further jobs of the step.
    """
    take = module.globals.get("take") or _add_take(module)
    code = Code(module, "worker", 3)
    control, thread, spins = code.arguments
    idle, seen, fetched = (code.variable(0) for _ in range(3))
    with code.repeat(lambda: idle.value < spins):
        with code.either(code.call(take, control, thread).differs(0)) as (worked, nothing):
            with worked:
                idle.value = code.constant(I64, 0)
            with nothing:
                _wait(code, control, idle, _fetch(code, control, thread, seen, fetched))
                under_way = _load_atomic(code, control + 8 * FINISHED) < code.load_int(control, PIECES)
                with code.when(under_way):
                    idle.value = code.minimum(idle.value, PAUSES)
        with code.when(_load_atomic(code, control + 8 * STOP).differs(0)):
            idle.value = spins
    code.finish()


class ThreadPool:
    """Threads beside the caller's. One caller at a time.

    control: address of the control block, the first argument of every operation.
    parked: workers asleep. `wake` is called when a step begins, and by an operation that finds workers asleep.
    """

    def __init__(self, library: Library, num_threads: int, scratch_bytes: int) -> None:
        self.num_threads = num_threads
        self._process = os.getpid()
        worker = library.function("worker", 3)
        self._words = aligned_zeros(8 * NUM_WORDS).view(np.int64)
        self._scratch = aligned_zeros(num_threads * scratch_bytes)
        self._words[SCRATCH] = self._scratch.ctypes.data
        self._words[SCRATCH_BYTES] = scratch_bytes
        self._words[YIELD] = ctypes.cast(ctypes.CDLL(None).sched_yield, ctypes.c_void_p).value or 0
        self.control = self._words.ctypes.data
        self._sleep = _Sleep()
        threads = [
            threading.Thread(target=_serve, args=(worker, self.control, index, self._sleep), daemon=True)
            for index in range(1, num_threads)
        ]
        for thread in threads:
            thread.start()
        self.close = weakref.finalize(
            self, _stop, self._process, self._words, self._scratch, self._sleep, threads, library
        )

    @property
    def parked(self) -> int:
        return self._sleep.parked

    def check(self) -> None:
        """Raises ForkedOps in a fork."""
        check_process(self._process)

    def wake(self) -> None:
        """Called when each step begins. Raises ForkedOps."""
        self.check()
        self._sleep.wake()


class _Sleep:
    """Where workers wait between steps.

    A worker that has waited long enough comes here through Python's lock, which the next step may take before it: so it
    sleeps only if no step has begun since it last looked.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.parked = 0
        self.over = False
        self._condition = threading.Condition()

    def wait(self, steps: int) -> None:
        """Sleep until a step begins, unless one has begun since there were `steps`."""
        with self._condition:
            if not self.over and self.steps == steps:
                self.parked += 1
                self._condition.wait()

    def wake(self) -> None:
        with self._condition:
            self.steps += 1
            self.parked = 0
            self._condition.notify_all()


def _serve(worker: Callable[..., object], control: int, index: int, sleep: _Sleep) -> None:
    while not sleep.over:
        steps = sleep.steps
        worker(control, index, SPINS)
        sleep.wait(steps)


def _stop(
    process: int, words: np.ndarray[tuple[int], np.dtype[np.int64]], scratch: object, sleep: _Sleep,
    threads: list[threading.Thread], library: Library,
) -> None:  # fmt: skip
    """`scratch` and `library` are arguments so that memory and code outlive the threads that use them.

    A fork has none to stop, and locks that nobody there lets go of.
    """
    if os.getpid() != process:
        return
    sleep.over = True
    words[STOP] = 1
    sleep.wake()
    for thread in threads:
        thread.join()


def aligned_zeros(num_bytes: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Zeros that begin at a cache line."""
    data = np.zeros(num_bytes + 64, dtype=np.uint8)
    start = -data.ctypes.data % 64
    return data[start : start + num_bytes]

"""Pages of the pools are there before they are written, so many and no more, and nobody's bytes change."""

from __future__ import annotations

import ctypes
import mmap
import sys
import threading

import numpy as np
import pytest

from stemma.kernels.cpu.machine import ahead
from stemma.kernels.cpu.machine.ahead import PagesAhead, furthest_byte
from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.cpu.states.slots import CpuStates
from stemma.kernels.memory import allocate
from stemma.kernels.ops import AttentionMetadata
from stemma.kernels.states import ZEROS, StateMetadata
from stemma.runtime.model.tiny import tiny

PAGE = mmap.PAGESIZE


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.setattr(ahead, "AHEAD", 32 * PAGE)
    monkeypatch.setattr(ahead, "PIECE", 5 * PAGE)
    return np.frombuffer(mmap.mmap(-1, 256 * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), dtype=np.uint8)


def resident(memory: np.ndarray) -> list[int]:
    """Numbers of the pages that have memory, once all that was asked for has come."""
    for thread in threading.enumerate():
        if thread.name == "stemma-pages":
            thread.join()
    pages = (ctypes.c_ubyte * (memory.nbytes // PAGE))()
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(memory.ctypes.data), ctypes.c_size_t(memory.nbytes), pages) == 0
    return [number for number, page in enumerate(pages) if page & 1]


@pytest.mark.skipif(sys.platform != "linux", reason="pages are asked for on Linux alone")
def test_pages_come_ahead_of_the_furthest_byte(memory: np.ndarray) -> None:
    pages = PagesAhead(memory)
    assert resident(memory) == list(range(32))
    pages.reach(4 * PAGE)
    assert resident(memory) == list(range(32)), "too little to ask for"
    pages.reach(6 * PAGE)
    assert resident(memory) == list(range(38)), "as much as was used"
    memory[: 20 * PAGE] = 7
    pages.reach(20 * PAGE)
    assert resident(memory) == list(range(52))
    assert (memory[: 20 * PAGE] == 7).all()
    pages.reach(100 * PAGE)
    assert resident(memory) == [*range(52), *range(100, 132)], "what a step has passed over comes with the step"
    pages.reach(223 * PAGE)
    assert resident(memory)[-1] == 254
    pages.reach(224 * PAGE)
    assert resident(memory) == [*range(52), *range(100, 132), *range(223, 256)], "the last ones, however few"
    pages.reach(memory.nbytes)
    assert not memory[20 * PAGE :].any()


@pytest.mark.skipif(sys.platform != "linux", reason="pages are asked for on Linux alone")
def test_one_thread_asks_at_a_time(memory: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = PagesAhead(memory)
    resident(memory)
    may_end, asked = threading.Event(), PagesAhead._ask

    def late(self: PagesAhead, start: int, end: int) -> None:
        may_end.wait()
        asked(self, start, end)

    monkeypatch.setattr(PagesAhead, "_ask", late)
    for furthest in (10, 20, 30):
        pages.reach(furthest * PAGE)
    assert sum(thread.name == "stemma-pages" for thread in threading.enumerate()) == 1
    may_end.set()
    assert resident(memory) == list(range(42))
    pages.reach(30 * PAGE)
    assert resident(memory) == list(range(62)), "what was not asked for meanwhile is asked for then"


def test_a_system_that_cannot_is_asked_once(memory: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "MADV_POPULATE_WRITE", 12345)
    pages = PagesAhead(memory)
    assert resident(memory) == []
    pages.reach(30 * PAGE)
    assert not any(thread.name == "stemma-pages" for thread in threading.enumerate())


def test_the_furthest_byte_of_a_step() -> None:
    assert furthest_byte(np.array([3, 17, 5], dtype=np.int32), 16, 1000) == 2000
    assert furthest_byte(np.zeros(0, dtype=np.int32), 16, 1000) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="pages are asked for on Linux alone")
def test_slots_of_states_come_ahead_of_the_steps_that_write_them(ops: CpuOps, monkeypatch: pytest.MonkeyPatch) -> None:
    megabyte = 1 << 20
    monkeypatch.setattr(ahead, "AHEAD", 4 * megabyte)
    loaded = tiny(ops, "mamba2")
    shape = loaded.config.memory_shape(1, 16, num_slots=1)
    assert shape.states is not None
    num_slots = 16 * megabyte // shape.states.slot_bytes
    memory = allocate(ops, loaded.config.memory_shape(1, 16, num_slots=num_slots))
    assert isinstance(memory.states, CpuStates)
    assert max(resident(memory.states.memory.reshape(-1))) * PAGE < 6 * megabyte
    slot, place = 3 * megabyte // memory.states.stride, np.array([0], dtype=np.int32)
    pieces = StateMetadata(*(np.array(each, dtype=np.int32) for each in ([0, 1], [0, 1], [ZEROS], [slot])))
    metadata = AttentionMetadata(place, place, np.array([0, 1], np.int32), place + 1, place[None], states=pieces)
    ops.executor(loaded.model, loaded.config.num_heads, memory)(place, metadata, place)
    assert max(resident(memory.states.memory.reshape(-1))) * PAGE > 6 * megabyte

"""What memory gives a compiled loop that only reads: bytes a second, on all threads, each with one long stretch in
large pages. Some machines read faster where lines are asked for ahead, some where they are not: the faster loop counts.

python benchmarks/read_bandwidth.py [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
from llvmlite import ir

from stemma.kernels.cpu.machine import compile
from stemma.kernels.cpu.machine.dialect import INTS16, Code
from stemma.kernels.cpu.machine.pages import lazy_zeros
from stemma.kernels.cpu.machine.target import host_target
from stemma.kernels.cpu.machine.threads import ARGUMENTS, ThreadPool, add_parallel, add_worker

SIZE = 256 << 20
STEP, AHEAD, COUNTED = 512, 2048, 3


def _write(module: ir.Module) -> None:
    """read_0 and read_2048, by how far ahead they ask: (control, start, bytes of a piece, pieces)"""
    add_worker(module)
    parallel = add_parallel(module)
    for ahead in (0, AHEAD):
        _add_read(module, parallel, ahead)


def _add_read(module: ir.Module, parallel: ir.Function, ahead: int) -> None:
    code = Code(module, f"read_piece_{ahead}", 3)
    address, piece, scratch = code.arguments
    size = code.load_int(address, 1)
    start = code.load_int(address) + piece * size
    sums = [code.variable(code.constant(INTS16, 0)) for _ in range(STEP // 64)]
    with code.loop(0, size, STEP) as at:
        for line, total in enumerate(sums):
            if ahead:
                code.prefetch(start + at + (64 * line + ahead))
            total.value = total.value ^ code.load(INTS16, start + at + 64 * line)
    for total in sums[1:]:
        sums[0].value = sums[0].value ^ total.value
    code.store(sums[0].value, scratch)
    code.finish()
    code = Code(module, f"read_{ahead}", 4)
    control, start, size, pieces = code.arguments
    for word, value in enumerate((start, size)):
        code.store(value, control + 8 * (ARGUMENTS + word), 8)
    code.call(parallel, control, code.address_of(module.globals[f"read_piece_{ahead}"]), pieces)
    code.finish()


class Reader:
    """Reads more than the caches hold."""

    def __init__(self, num_threads: int) -> None:
        library = compile.load("read_bandwidth", _write, host_target(), (STEP, AHEAD), compile.default_cache_dir())
        self._pool = ThreadPool(library, num_threads, 4096)
        functions = [library.function(f"read_{ahead}", 4) for ahead in (0, AHEAD)]
        self._memory = lazy_zeros(SIZE, "a loop that reads")
        self._memory[:] = np.random.default_rng(0).integers(
            0, 256, SIZE, np.uint8
        )  # equal pages may be one of the host's
        self._read = max(functions, key=lambda read: statistics.median(self._speed(read) for _ in range(5)))

    def bytes_a_second(self) -> float:
        return self._speed(self._read)

    def _speed(self, read: Callable[..., object]) -> float:
        """The second half of some times, in which all threads are awake."""
        pieces, seconds = self._pool.num_threads, 0.0
        for time_ in range(2 * COUNTED):
            self._pool.wake()
            started = time.perf_counter()
            read(self._pool.control, self._memory.ctypes.data, SIZE // pieces // STEP * STEP, pieces)
            seconds += (time.perf_counter() - started) * (time_ >= COUNTED)
        return COUNTED * SIZE / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    reader = Reader(parser.parse_args().threads)
    print(f"{max(reader.bytes_a_second() for _ in range(5)) / 1e9:.1f} GB/s")


if __name__ == "__main__":
    main()

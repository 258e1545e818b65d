"""What memory gives a compiled loop that only reads: bytes a second, on all threads, each with one long stretch.

python benchmarks/read_bandwidth.py [--threads 2]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from llvmlite import ir

from stemma.kernels.cpu.machine import compile
from stemma.kernels.cpu.machine.dialect import INTS16, Code
from stemma.kernels.cpu.machine.target import host_target
from stemma.kernels.cpu.machine.threads import ARGUMENTS, ThreadPool, add_parallel, add_worker

SIZE = 256 << 20
STEP, AHEAD = 512, 2048


def _write(module: ir.Module) -> None:
    """read_all(control, start, bytes of a piece, pieces)"""
    add_worker(module)
    parallel = add_parallel(module)
    code = Code(module, "read_piece", 3)
    address, piece, scratch = code.arguments
    size = code.load_int(address, 1)
    start = code.load_int(address) + piece * size
    sums = [code.variable(code.constant(INTS16, 0)) for _ in range(STEP // 64)]
    with code.loop(0, size, STEP) as at:
        for line, total in enumerate(sums):
            code.prefetch(start + at + (64 * line + AHEAD))
            total.value = total.value ^ code.load(INTS16, start + at + 64 * line)
    for total in sums[1:]:
        sums[0].value = sums[0].value ^ total.value
    code.store(sums[0].value, scratch)
    code.finish()
    code = Code(module, "read_all", 4)
    control, start, size, pieces = code.arguments
    for word, value in enumerate((start, size)):
        code.store(value, control + 8 * (ARGUMENTS + word), 8)
    code.call(parallel, control, code.address_of(module.globals["read_piece"]), pieces)
    code.finish()


class Reader:
    """Reads more than the caches hold."""

    def __init__(self, num_threads: int) -> None:
        library = compile.load("read_bandwidth", _write, host_target(), (STEP, AHEAD), compile.default_cache_dir())
        self._pool = ThreadPool(library, num_threads, 4096)
        self._read = library.function("read_all", 4)
        self._memory = np.random.default_rng(0).bytes(SIZE)  # equal pages may be one page of the host's
        self._address = np.frombuffer(self._memory, np.uint8).ctypes.data

    def bytes_a_second(self) -> float:
        """The second of two times, in which all threads are awake."""
        pieces, seconds = self._pool.num_threads, 0.0
        for _ in range(2):
            self._pool.wake()
            started = time.perf_counter()
            self._read(self._pool.control, self._address, SIZE // pieces // STEP * STEP, pieces)
            seconds = time.perf_counter() - started
        return SIZE / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    reader = Reader(parser.parse_args().threads)
    print(f"{max(reader.bytes_a_second() for _ in range(5)) / 1e9:.1f} GB/s")


if __name__ == "__main__":
    main()

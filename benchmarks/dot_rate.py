"""What a core's multipliers give a compiled loop that only multiplies: dot products of words a second, on all threads.

python benchmarks/dot_rate.py [--threads 2]
"""

from __future__ import annotations

import argparse
import time

from llvmlite import ir

from stemma.kernels.cpu.machine import compile
from stemma.kernels.cpu.machine.dialect import INTS16, Code
from stemma.kernels.cpu.machine.target import Target, host_target
from stemma.kernels.cpu.machine.threads import ARGUMENTS, ThreadPool, add_parallel, add_worker

SUMS, TURNS = 8, 1 << 20
"""Sums that do not wait for each other, and how often each grows in a piece."""
PRODUCTS = 32
"""Of words, that `Target.dot_words` adds to its 16 sums."""


def _write(module: ir.Module, target: Target) -> None:
    """multiply_all(control, turns, pieces)"""
    add_worker(module)
    parallel = add_parallel(module)
    code = Code(module, "multiply_piece", 3)
    address, _, scratch = code.arguments
    words = code.load(INTS16, scratch), code.load(INTS16, scratch + 64)
    sums = [code.variable(code.load(INTS16, scratch + (128 + 64 * i))) for i in range(SUMS)]
    with code.loop(0, code.load_int(address)):
        for total in sums:
            total.value = target.dot_words(code, total.value, *words)
    for i, total in enumerate(sums):
        code.store(total.value, scratch + (128 + 64 * i))
    code.finish()
    code = Code(module, "multiply_all", 3)
    control, turns, pieces = code.arguments
    code.store(turns, control + 8 * ARGUMENTS, 8)
    code.call(parallel, control, code.address_of(module.globals["multiply_piece"]), pieces)
    code.finish()


class Multiplier:
    """Multiplies what its registers hold."""

    def __init__(self, num_threads: int) -> None:
        target = host_target()
        library = compile.load(
            "dot_rate", lambda module: _write(module, target), target, (SUMS,), compile.default_cache_dir()
        )
        self._pool = ThreadPool(library, num_threads, 4096)
        self._multiply = library.function("multiply_all", 3)

    def products_a_second(self) -> float:
        """Of two words each. The second of two times, in which all threads are awake."""
        pieces, seconds = self._pool.num_threads, 0.0
        for _ in range(2):
            self._pool.wake()
            started = time.perf_counter()
            self._multiply(self._pool.control, TURNS, pieces)
            seconds = time.perf_counter() - started
        return PRODUCTS * SUMS * TURNS * pieces / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    multiplier = Multiplier(parser.parse_args().threads)
    print(f"{max(multiplier.products_a_second() for _ in range(5)) / 1e9:.0f} billion products of words a second")


if __name__ == "__main__":
    main()

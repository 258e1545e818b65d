"""Decoding the default model behind short and long contexts, beside what this machine's memory allows.

    python benchmarks/flat_decode.py [--json FILE] [--threads N] [--rounds N] [--kv int16|float32|bfloat16|int8]

`ours` is tokens per second of steps of one token, the median of rounds in turn. The peer would do nothing but read the
packed weights and the context's KV once a token, at the bandwidth at which a compiled loop on all threads reads memory
that no cache holds, the median of the same rounds. STEMMA_TARGET names the instruction set, which stands in each row.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kernels_cpu import BLOCK, Bench
from llvmlite import ir

from stemma.kernels.cpu.attention.kv_dtypes import region_bytes
from stemma.kernels.cpu.machine import compile
from stemma.kernels.cpu.machine.dialect import INTS16, Code
from stemma.kernels.cpu.machine.threads import ARGUMENTS, add_parallel, aligned_zeros
from stemma.kernels.cpu.machine.words import read_words, set_words
from stemma.kernels.cpu.ops import CpuOps
from stemma.runtime.model.load import load
from stemma.runtime.model.pull import default_model

CONTEXTS = (128, 1000, 4000, 8000)
READ_BYTES, PIECE, LINES = 512 << 20, 1 << 20, 8
"""What is read to measure bandwidth; what a thread takes at a time, so many cache lines in turn."""


def add_read(module: ir.Module) -> None:
    """read(control, memory, pieces): all lines of so many pieces, on all threads."""
    kernel = Code(module, "read_piece", 3)
    address, piece, scratch = kernel.arguments
    start = read_words(kernel, address, ("memory",))["memory"] + piece * PIECE
    sums = [kernel.variable(kernel.constant(INTS16, 0)) for _ in range(LINES)]
    with kernel.loop(start, start + PIECE, 64 * LINES) as line:
        for i, total in enumerate(sums):
            total.value = total.value ^ kernel.load(INTS16, line + 64 * i)
    for i, total in enumerate(sums):
        kernel.store(total.value, scratch + 64 * i)
    kernel.finish()
    parallel = add_parallel(module)
    code = Code(module, "read", 3)
    control, memory, pieces = code.arguments
    set_words(code, control + 8 * ARGUMENTS, ("memory",), {"memory": memory})
    code.call(parallel, control, code.address_of(kernel.function), pieces)
    code.finish()


def reader(ops: CpuOps) -> Callable[[], float]:
    """Measures gigabytes per second."""
    library = compile.load("read", add_read, ops.target, (READ_BYTES, PIECE, LINES), ops.cache_dir)
    read, memory = library.function("read", 3), aligned_zeros(READ_BYTES)
    memory[:] = 1

    def measure() -> float:
        started = time.perf_counter()
        ops._calls.run(read, memory.ctypes.data, READ_BYTES // PIECE)
        return READ_BYTES / (time.perf_counter() - started) / 1e9

    measure.keep = library  # type: ignore[attr-defined]
    return measure


class Decode(Bench):
    """The default model with a pool for the longest context. weight_bytes: as they are packed."""

    def __init__(self, ops: CpuOps) -> None:
        packed: list[Any] = []
        plain = ops.linear

        def counted(*arguments: Any) -> Any:
            packed.append(plain(*arguments))
            return packed[-1]

        ops.linear = counted  # type: ignore[method-assign]
        super().__init__(load(default_model(), ops))
        self.weight_bytes = sum(linear.num_bytes for linear in packed)
        shape = self.shape
        token = region_bytes(shape.head_dim, BLOCK, ops.kv_dtype) / BLOCK
        self.token_bytes = 2 * shape.num_layers * shape.num_kv_heads * token

    def behind(self, context: int) -> Callable[[], float]:
        """Measures tokens per second of steps behind a context, whose KV is there."""
        table = np.arange(-(-(context + 1) // BLOCK), dtype=np.int32)
        run, repeats = self.step([table], context, 1), max(4, 8000 // context)

        def measure() -> float:
            started = time.perf_counter()
            for _ in range(repeats):
                run()
            return repeats / (time.perf_counter() - started)

        return measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kv", default="auto")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ops = CpuOps(num_threads=options.threads, kv_dtype=options.kv)
    bench = Decode(ops)
    bench.step([np.arange(1, dtype=np.int32)], 0, BLOCK)()
    bench.kv.memory[1 : max(CONTEXTS) // BLOCK + 2] = bench.kv.memory[0]  # what the numbers are costs no time
    read, cases = reader(ops), {context: bench.behind(context) for context in CONTEXTS}
    for measure in (read, *cases.values()):
        measure()
    speeds: list[float] = []
    rates: dict[int, list[float]] = {context: [] for context in CONTEXTS}
    for _ in range(options.rounds):
        speeds.append(read())
        for context, measure in cases.items():
            rates[context].append(measure())
    speed = float(np.median(speeds))
    print(f"{ops.target.name}, {ops.kv_dtype} KV, {options.threads} threads; memory is read at {speed:.1f} GB/s")
    rows = []
    for context, measured in rates.items():
        ours = float(np.median(measured))
        peer = speed * 1e9 / (bench.weight_bytes + context * bench.token_bytes)
        print(f"behind {context}: {ours:.1f} tokens/s, {peer:.1f} allowed: {ours / peer:.2f}")
        rows.append({
            "case": f"decode behind {context}, {ops.target.name}, {ops.kv_dtype} KV", "metric": "tokens/s",
            "ours": ours, "peer": peer, "peer_name": f"weights and KV read at {speed:.1f} GB/s", "ratio": ours / peer,
        })  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()

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

import numpy as np
import torch
from kernels_cpu import BLOCK, Bench
from read_bandwidth import Reader

from stemma.kernels.cpu.ops import CpuOps

CONTEXTS = (128, 1000, 4000, 8000)


class Decode(Bench):
    """The default model, behind contexts of any length."""

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
    reader, cases = Reader(options.threads), {context: bench.behind(context) for context in CONTEXTS}
    for measure in cases.values():
        measure()
    speeds: list[float] = []
    rates: dict[int, list[float]] = {context: [] for context in CONTEXTS}
    for _ in range(options.rounds):
        speeds.append(reader.bytes_a_second())
        for context, measure in cases.items():
            rates[context].append(measure())
    speed = float(np.median(speeds))
    print(f"{ops.target.name}, {ops.kv_dtype} KV, {options.threads} threads; memory is read at {speed / 1e9:.1f} GB/s")
    rows = []
    for context, measured in rates.items():
        ours = float(np.median(measured))
        peer = speed / (bench.weight_bytes + context * bench.token_bytes)
        print(f"behind {context}: {ours:.1f} tokens/s, {peer:.1f} allowed: {ours / peer:.2f}")
        rows.append({
            "case": f"decode behind {context}, {ops.target.name}, {ops.kv_dtype} KV", "metric": "tokens/s",
            "ours": ours, "peer": peer, "ratio": ours / peer,
            "peer_name": f"weights and KV read at {speed / 1e9:.1f} GB/s",
        })  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()

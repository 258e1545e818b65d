"""The CPU kernels on the default model, without an engine: steps of decode and prefill, and where their time goes.

    python benchmarks/kernels_cpu.py [--json FILE] [--threads N] [--kv int16|float32|bfloat16|int8] [--formats]

`ours` is tokens per second, the best of several steps; the peer is torch: all matrices of one step as `F.linear` on
bfloat16 weights (no attention, no norms), in the same run.

`--formats` measures something else: one matrix in each storage type, 4,096 inputs and outputs of random codes, by rows.
Time is that of all threads' CPUs, so that it means something on a busy machine: for a weight, for a byte as it is
packed, and for a byte beside Q4_K's.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.memory import Memory, make_plans
from stemma.kernels.ops import AttentionMetadata, SharedPrefix
from stemma.kernels.rows import Rows
from stemma.kernels.weights import FORMATS as FORMATS_OF
from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.load import LoadedModel, load
from stemma.runtime.model.pull import default_model

BLOCK = 16
TIMED = ("plan", "embed", "norm_linear", "rope_write", "attention", "linear_add", "norm_gated", "logits")


@contextmanager
def timed(ops: Any) -> Iterator[dict[str, float]]:
    """Adds up the seconds of each operation meanwhile."""
    seconds = dict.fromkeys(TIMED, 0.0)

    def watched(name: str) -> Callable[..., Any]:
        plain = getattr(ops, name)

        def run(*arguments: Any) -> Any:
            started = time.perf_counter()
            result = plain(*arguments)
            seconds[name] += time.perf_counter() - started
            return result

        return run

    for name in TIMED:
        setattr(ops, name, watched(name))
    try:
        yield seconds
    finally:
        for name in TIMED:
            delattr(ops, name)


class Bench:
    """A model with a pool of KV, and steps on it."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.loaded = loaded
        self.ops = loaded.model.ops
        self.shape = loaded.config.memory_shape(4096, BLOCK).full
        self.kv = self.ops.kv(self.shape)
        self.random = np.random.default_rng(0)

    def table(self, index: int, num_tokens: int) -> np.ndarray[Any, Any]:
        width = -(-num_tokens // BLOCK)
        return np.arange(index * width, (index + 1) * width, dtype=np.int32)

    def step(
        self, tables: list[Any], cached: int, new: int, prefixes: tuple[SharedPrefix, ...] = ()
    ) -> Callable[[], Rows]:
        """All sequences compute `new` tokens behind `cached` ones."""
        places = np.arange(cached, cached + new)
        count = len(tables)
        metadata = AttentionMetadata(
            np.tile(places, count).astype(np.int32),
            np.concatenate([t[places // BLOCK] * BLOCK + places % BLOCK for t in tables]).astype(np.int32),
            np.arange(0, (count + 1) * new, new, dtype=np.int32),
            np.full(count, cached + new, dtype=np.int32),
            np.stack(tables),
            prefixes,
        )
        ids = self.random.integers(1000, 40_000, count * new).astype(np.int32)
        rows = np.arange(new - 1, count * new, new, dtype=np.int32)
        model = self.loaded.model

        def run() -> Rows:
            memory = Memory(self.kv)
            hidden = model.forward(ids, make_plans(model.ops, metadata, memory), memory)
            return model.logits(hidden, rows)

        return run

    def shares(self, run: Callable[[], Rows], repeats: int) -> str:
        """Milliseconds of each operation in one step, the mean of several."""
        with timed(self.ops) as seconds:
            for _ in range(repeats):
                run()
        return "  ".join(f"{name} {1000 * value / repeats:.2f}" for name, value in seconds.items())


def best(run: Callable[[], object], repeats: int) -> float:
    run()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def torch_matrices(loaded: LoadedModel, rows: int) -> Callable[[], None]:
    """Every matrix of the model once, as torch multiplies them in bfloat16."""
    config = loaded.config
    width = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    shapes = [
        (width, config.hidden), (config.hidden, config.num_heads * config.head_dim),
        (2 * config.intermediate, config.hidden), (config.hidden, config.intermediate),
    ] * config.num_layers + [(config.vocab_size, config.hidden)]  # fmt: skip
    weights = [torch.randn(shape, dtype=torch.bfloat16) for shape in shapes]
    inputs = {size: torch.randn(rows, size, dtype=torch.bfloat16) for _, size in shapes}

    def run() -> None:
        for weight in weights:
            torch.nn.functional.linear(inputs[weight.shape[1]], weight)

    return run


FORMATS = ("Q4_K", "Q4_0", "Q5_0", "Q5_K", "Q6_K", "Q8_0", "IQ4_NL", "IQ4_XS", "MXFP4", "NVFP4", "Q2_K", "Q3_K",
           "IQ3_S", "IQ2_XS", "TQ2_0", "INT4", "INT8", "FP8")  # fmt: skip
SIZE = 4096


def random_matrix(type_: str, seed: int, shape: tuple[int, int] = (SIZE, SIZE)) -> StoredWeight:
    """Any codes; scales about a hundredth."""
    form, random = FORMATS_OF[type_], np.random.default_rng(seed)
    blocks = random.integers(0, 120, (shape[0], shape[1] // form.num_inputs, form.num_bytes), dtype=np.uint8)
    for place in form.halves:
        blocks[:, :, place : place + 2] = np.array([0.01], np.float16).view(np.uint8)
    for place in form.singles:
        blocks[:, :, place : place + 4] = np.array([0.01], np.float32).view(np.uint8)
    return StoredWeight(type_, shape, blocks.reshape(shape[0], -1))


def formats(ops: CpuOps) -> None:
    """Products with matrices that the caches do not hold, in turn, so that all meet the same machine."""
    packed = {type_: [ops.linear([random_matrix(type_, seed)]) for seed in range(4)] for type_ in FORMATS}
    for rows in (1, 4, 16, 128):
        x = torch.randn(rows, SIZE).numpy()
        zero = np.zeros((rows, SIZE), dtype=np.float32)
        seconds = dict.fromkeys(FORMATS, float("inf"))
        for _ in range(5):
            for type_, matrices in packed.items():
                repeats = max(2, 24 // rows)
                started = time.process_time()
                for _ in range(repeats):
                    for matrix in matrices:
                        ops.linear_add(x, matrix, zero)
                seconds[type_] = min(seconds[type_], (time.process_time() - started) / repeats / len(matrices))
        each = {type_: seconds[type_] / packed[type_][0].num_bytes for type_ in FORMATS}
        print(f"{rows} rows: ps a weight / ps a packed byte / beside Q4_K's byte")
        for type_ in FORMATS:
            figures = 1e12 * seconds[type_] / SIZE**2, 1e12 * each[type_], each[type_] / each["Q4_K"]
            print(f"    {type_:8}" + "".join(f"{figure:9.2f}" for figure in figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--kv", default="auto")
    parser.add_argument("--formats", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    started = time.perf_counter()
    ops = CpuOps(num_threads=options.threads, kv_dtype=options.kv)
    if options.formats:
        formats(ops)
        return
    bench = Bench(load(default_model(), ops))
    print(f"{ops.target.name}, {options.threads} threads; loaded in {time.perf_counter() - started:.1f} s")
    rows = []
    for count, context in ((1, 128), (4, 128), (16, 128), (64, 128), (1, 1000), (16, 1000)):
        tables = [bench.table(index, context + BLOCK) for index in range(count)]
        bench.step(tables, 0, context)()
        step = bench.step(tables, context, 1)
        rows.append(report(bench, f"decode {count} x 1 behind {context}", step, count, 30 if count < 16 else 10))
    for length in (128, 512, 2000):
        step = bench.step([bench.table(0, length)], 0, length)
        rows.append(report(bench, f"prefill {length}", step, length, 3))
    prefix = bench.table(0, 1504)
    for count in (16, 32):
        tables = [np.concatenate((prefix, 200 + bench.table(index, 32))) for index in range(count)]
        for name, hint in (("plain", ()), ("shared", (SharedPrefix(0, count, len(prefix)),))):
            step = bench.step(tables, 1520, 1, hint)
            rows.append(report(bench, f"decode {count} x 1 over one prefix of 1504, {name}", step, count, 5))
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1))


def report(bench: Bench, case: str, step: Callable[[], Rows], tokens: int, repeats: int) -> dict[str, Any]:
    seconds = best(step, repeats)
    theirs = best(torch_matrices(bench.loaded, tokens), 3)
    print(f"{case}: {1000 * seconds:.2f} ms, {tokens / seconds:,.0f} tokens/s; torch's matrices {1000 * theirs:.1f} ms")
    print(f"    {bench.shares(step, 3)}")
    return {
        "case": case, "metric": "tokens/s", "ours": tokens / seconds, "peer": tokens / theirs,
        "peer_name": "torch bf16 F.linear, matrices only", "ratio": theirs / seconds,
    }  # fmt: skip


if __name__ == "__main__":
    main()

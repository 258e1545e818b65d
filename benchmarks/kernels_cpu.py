"""The CPU kernels on the default model, without an engine: steps of decode and prefill, and where their time goes.

    python benchmarks/kernels_cpu.py [--json FILE] [--threads N] [--kv int16|float32|bfloat16|int8] [--formats]

`ours` is tokens per second, the best of several steps; the peer is torch: all matrices of one step as `F.linear` on
bfloat16 weights (no attention, no norms), in the same run. `limit` is what a step would take if it did nothing but read
its packed weights and KV as fast as a loop reads memory, or nothing but multiply words as fast as a loop multiplies
registers (`read_bandwidth.py`, `dot_rate.py`), whichever is longer; products in pairs would allow a fifth less.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from dot_rate import Multiplier
from read_bandwidth import Reader

from stemma.kernels.cpu.attention.kv_dtypes import region_bytes
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
    """The default model with a pool of KV, and steps on it. weight_bytes: as they are packed; token_bytes: of KV."""

    def __init__(self, ops: CpuOps) -> None:
        packed: list[Any] = []
        plain = ops.linear

        def counted(*arguments: Any, **named: Any) -> Any:
            packed.append(plain(*arguments, **named))
            return packed[-1]

        ops.linear = counted  # type: ignore[assignment, method-assign]
        self.loaded = loaded = load(default_model(), ops)
        self.ops: Any = ops
        self.shape = shape = loaded.config.memory_shape(4096, BLOCK).full
        self.weight_bytes = sum(linear.num_bytes for linear in packed)
        token = region_bytes(shape.head_dim, BLOCK, ops.kv_dtype) / BLOCK
        self.token_bytes = 2 * shape.num_layers * shape.num_kv_heads * token
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


@dataclass(frozen=True)
class Machine:
    """What it can: bytes read, products of two words, each a second on all threads."""

    bandwidth: float
    products: float

    @classmethod
    def measured(cls, threads: int) -> Machine:
        reader, multiplier = Reader(threads), Multiplier(threads)
        return cls(
            max(reader.bytes_a_second() for _ in range(3)), max(multiplier.products_a_second() for _ in range(3))
        )

    def limit(self, bench: Bench, step: Step) -> float:
        """Seconds that a step takes at least, in which what is read and what is multiplied cost each other nothing."""
        config, rows = bench.loaded.config, step.sequences * step.new
        of_row = sum(a * b for a, b in matrices(config)[:-1])
        seen = sum(step.cached + i + 1 for i in range(step.new)) * step.sequences
        attention = 2 * seen * config.num_heads * config.head_dim * config.num_layers
        products = rows * of_row + step.sequences * config.vocab_size * config.hidden + attention
        tokens = step.sequences * (step.cached + step.new) - max(0, step.sequences - 1) * step.shared
        reading = (bench.weight_bytes + tokens * bench.token_bytes) / self.bandwidth
        return float(max(reading, products / self.products))


class Step(NamedTuple):
    """Sequences that compute `new` tokens each behind `cached` ones, of which the first `shared` are the same."""

    sequences: int
    cached: int
    new: int
    shared: int = 0


def best(run: Callable[[], object], repeats: int) -> float:
    run()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def matrices(config: Any) -> list[tuple[int, int]]:
    """Outputs and inputs of all of the model's, the head at last."""
    width = (config.num_heads + 2 * config.num_kv_heads) * config.head_dim
    return [
        (width, config.hidden), (config.hidden, config.num_heads * config.head_dim),
        (2 * config.intermediate, config.hidden), (config.hidden, config.intermediate),
    ] * config.num_layers + [(config.vocab_size, config.hidden)]  # fmt: skip


def torch_matrices(loaded: LoadedModel, rows: int) -> Callable[[], None]:
    """Every matrix of the model once, as torch multiplies them in bfloat16."""
    shapes = matrices(loaded.config)
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
    bench, machine = Bench(ops), Machine.measured(options.threads)
    print(f"{ops.target.name}, {options.threads} threads; loaded in {time.perf_counter() - started:.1f} s")
    print(f"{machine.bandwidth / 1e9:.1f} GB/s, {machine.products / 1e9:.0f} billion products of words a second")
    rows = []
    for count, context in ((1, 128), (4, 128), (16, 128), (64, 128), (1, 1000), (16, 1000)):
        tables = [bench.table(index, context + BLOCK) for index in range(count)]
        bench.step(tables, 0, context)()
        run, step = bench.step(tables, context, 1), Step(count, context, 1)
        rows.append(
            report(bench, machine, f"decode {count} x 1 behind {context}", (run, step), 30 if count < 16 else 10)
        )
    for length in (128, 512, 2000):
        run = bench.step([bench.table(0, length)], 0, length)
        rows.append(report(bench, machine, f"prefill {length}", (run, Step(1, 0, length)), 3))
    prefix = bench.table(0, 1504)
    for count in (16, 32):
        tables = [np.concatenate((prefix, 200 + bench.table(index, 32))) for index in range(count)]
        for name, hint in (("plain", ()), ("shared", (SharedPrefix(0, count, len(prefix)),))):
            run, step = bench.step(tables, 1520, 1, hint), Step(count, 1520, 1, 1504)
            rows.append(report(bench, machine, f"decode {count} x 1 over one prefix of 1504, {name}", (run, step), 5))
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1))


def report(
    bench: Bench, machine: Machine, case: str, measured: tuple[Callable[[], Rows], Step], repeats: int
) -> dict[str, Any]:
    """A row of the results. measured: what runs a step, and which step it is."""
    run, step = measured
    tokens, seconds, limit = step.sequences * step.new, best(run, repeats), machine.limit(bench, step)
    theirs = best(torch_matrices(bench.loaded, tokens), 3)
    print(
        f"{case}: {1000 * seconds:.2f} ms, {tokens / seconds:,.0f} tokens/s; limit {1000 * limit:.2f} ms: "
        f"{limit / seconds:.2f}; torch's matrices {1000 * theirs:.1f} ms"
    )
    print(f"    {bench.shares(run, 3)}")
    return {
        "case": case, "metric": "tokens/s", "ours": tokens / seconds, "peer": tokens / theirs,
        "peer_name": "torch bf16 F.linear, matrices only", "ratio": theirs / seconds, "limit": tokens / limit,
        "of_limit": limit / seconds,
    }  # fmt: skip


if __name__ == "__main__":
    main()

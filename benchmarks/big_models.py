"""Models of 1 to 3 billion parameters with random weights, beside llama.cpp and beside what memory allows.

    python benchmarks/big_models.py --json FILE [--models 1b,3b] [--formats Q4_K_M,Q8_0,BF16] [--measures decode,...]
                                    [--times 3] [--tokens 8] [--target avx2] [--keep]

    decode     tokens a second of one sequence. It must read all weights: beside what a loop that only reads, before and
               after each stretch of tokens, gets of the bytes that the file has for them, and of those that they take
               as they are packed
    prefill    seconds until the first token of a prompt of 1,000
    streams    tokens a second of 16 sequences at once
    start      seconds from `Engine()`, or llama.cpp's load, to a first token in a fresh process, and its peak of memory
               over the file and the KV cache of 4,096 tokens

Models: 1b (a Llama of 1.07B), 3b (of 2.97B), moe (Qwen3-MoE of 1.1B, 8 of 64 experts a token). Files that are not there
are made, and deleted unless `--keep`. All of 1b takes some minutes a target, of 3b a minute a format with `--times 1`.
Rows are added to those that FILE has, or put in their place. Both contenders run in turn, two threads each; medians.
Each row names the instruction set; with `--target` llama.cpp has libraries up to it (peer_targets.py), without one its
best for this CPU, which may know more than ours (bfloat16 products).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from peer_contenders import LLAMA, NODE_LLAMA, STEMMA, Contender, Worker, interpreter
from peer_targets import limit_to
from random_models import FORMATS, SHAPES, Shape, path_of, write
from read_bandwidth import Reader

from stemma.kernels.codes import FORM_OF
from stemma.kernels.cpu.products.tiles import tile_of
from stemma.runtime.model.files.gguf_format import open_gguf

LIMIT, THREADS = 600.0, 2
PROMPT, LONG_PROMPT, FEW, STREAMS, KV_TOKENS = 32, 1000, 8, 16, 4096
DECODES = 4
"""Stretches of tokens for each time that the rest is measured."""
MEASURES = ("decode", "prefill", "streams", "start")
FIRST_TOKEN = Contender("first-token", "first_token.py", "")
LLAMA_FIRST_TOKEN = Contender("llama-first-token", "first_token.mjs", "node-llama", NODE_LLAMA)


def bytes_of_a_token(shape: Shape, path: Path) -> tuple[float, float]:
    """Of the weights that a token uses, in the file and packed: all (the embedding's other rows are the head's too); of
    the experts, those that it is sent to."""
    stored, packed = 0.0, 0.0
    for name, tensor in open_gguf(path).tensors.items():
        share = shape.experts[1] / shape.experts[0] if shape.experts is not None and "_exps" in name else 1.0
        stored += tensor.num_bytes * share
        form = FORM_OF.get(tensor.type)
        tile = tile_of(form.name) if form else None
        count = tensor.shape[0] * tensor.shape[-1] * (tensor.shape[1] if len(tensor.shape) == 3 else 1)
        packed += share * (count / 512 * (tile.weight_bytes + tile.fact_bytes) if tile else tensor.num_bytes)
    return stored, packed


class Decoded(NamedTuple):
    """A stretch of tokens. which: 0 for ours. seconds: of a token. read: bytes a second that memory gave around it."""

    which: int
    seconds: float
    read: float


class Pair:
    """Both contenders with one model, and the loop that only reads. No prompt comes twice."""

    def __init__(self, model: Path) -> None:
        ours = replace(STEMMA, arguments=(str(KV_TOKENS),))
        self.workers = [Worker(each, model, THREADS) for each in (ours, LLAMA)]
        self._reader = Reader(THREADS)
        self._count = 0
        for worker in self.workers:
            self._run(worker, 1, PROMPT, 2)

    def _run(self, worker: Worker, streams: int, prompt: int, new: int) -> tuple[float, float]:
        """Seconds, and those until each has a first token."""
        wave: list[dict[str, Any]] = []
        for _ in range(streams):
            self._count += 1
            ids = [100 + (self._count * 7919 + index * 31) % 40_000 for index in range(prompt)]
            wave.append({"id": f"r{self._count}", "append": ids, "max": new})
        answer = worker.run(wave, LIMIT)
        return float(answer["seconds"]), max(answer["first"].values())

    def decode(self, tokens: int, rounds: int) -> list[Decoded]:
        """Memory gives twice as much in one minute as in the next: so each stretch of tokens stands between two
        readings."""
        found, before = [], self._reader.bytes_a_second()
        for _ in range(rounds):
            for which, worker in enumerate(self.workers):
                seconds, first = self._run(worker, 1, PROMPT, tokens + 1)
                after = self._reader.bytes_a_second()
                found.append(Decoded(which, (seconds - first) / tokens, (before + after) / 2))
                before = after
        return found

    def prefill(self, worker: Worker) -> float:
        return self._run(worker, 1, LONG_PROMPT, 1)[0]

    def streams(self, worker: Worker, tokens: int) -> float:
        """Seconds of a step: those of many less those of one."""
        long, short = (self._run(worker, STREAMS, FEW, new)[0] for new in (tokens + 1, 1))
        return (long - short) / tokens

    def rounds(self, measure: Callable[[Worker], float], times: int) -> list[float]:
        """Medians of ours and the peer's, in turn."""
        found = [[measure(worker) for worker in self.workers] for _ in range(times)]
        return [statistics.median(each) for each in zip(*found, strict=True)]

    def close(self) -> None:
        for worker in self.workers:
            worker.close()


class Table:
    """Rows of the issue's form."""

    def __init__(self, target: str) -> None:
        self.rows: list[dict[str, Any]] = []
        self._target = target

    def add(self, model: str, metric: str, ours: float, peer: float, peer_name: str = LLAMA.name) -> None:
        case = f"{model}, {self._target}"
        self.rows.append({"case": case, "metric": metric, "ours": ours, "peer": peer, "peer_name": peer_name,
                          "ratio": ours / peer})  # fmt: skip
        print(f"{case:36}{metric:26}{ours:10.4g}{peer:10.4g}  {ours / peer:6.2f}  {peer_name}", flush=True)

    def write(self, path: Path) -> None:
        """Beside what is there."""
        known = json.loads(path.read_text())["rows"] if path.exists() else []
        measured = {(row["case"], row["metric"]) for row in self.rows}
        kept = [row for row in known if (row["case"], row["metric"]) not in measured]
        path.write_text(json.dumps({"rows": kept + self.rows}, indent=1))


def start(table: Table, name: str, path: Path, kv_bytes: float, times: int) -> None:
    """Fresh processes in turn."""
    commands = [
        [*interpreter(FIRST_TOKEN), str(path), str(KV_TOKENS)],
        [*interpreter(LLAMA_FIRST_TOKEN), str(path), str(KV_TOKENS), str(THREADS)],
    ]
    found = [[json.loads(subprocess.run(command, check=True, capture_output=True).stdout) for command in commands]
             for _ in range(times)]  # fmt: skip
    seconds, peaks = ([statistics.median(each[which][key] for each in found) for which in (0, 1)]
                      for key in ("seconds", "peak"))  # fmt: skip
    table.add(name, "start to first token, s", *seconds)
    table.add(name, "peak memory, MB", *peaks)
    table.add(name, "peak memory, MB", peaks[0], (path.stat().st_size + kv_bytes) / 1e6, "file and KV cache")


def measure(table: Table, shape: Shape, form: str, path: Path, options: argparse.Namespace) -> None:
    """All that is asked for of one model."""
    name, measures = f"{shape.name} {form}", options.measures.split(",")
    if "start" in measures:
        kv_bytes = KV_TOKENS * shape.layers * 2 * shape.kv_heads * (2 * shape.head_dim + 4)
        start(table, name, path, kv_bytes, options.times)
    if not {*measures} - {"start"}:
        return
    pair = Pair(path)
    if "decode" in measures:
        decode(table, name, pair.decode(options.tokens, DECODES * options.times), bytes_of_a_token(shape, path))
    if "prefill" in measures:
        long = pair.rounds(pair.prefill, options.times)
        table.add(name, f"prefill {LONG_PROMPT}, tokens/s", *(LONG_PROMPT / seconds for seconds in long))
    if "streams" in measures:
        many = pair.rounds(lambda worker: pair.streams(worker, options.tokens), options.times)
        table.add(name, f"{STREAMS} streams, tokens/s", *(STREAMS / seconds for seconds in many))
    pair.close()


def decode(table: Table, name: str, found: list[Decoded], sizes: tuple[float, float]) -> None:
    """sizes: bytes that a token reads, in the file and packed."""
    ours, peer = (statistics.median(each.seconds for each in found if each.which == which) for which in (0, 1))
    table.add(name, "decode, tokens/s", 1 / ours, 1 / peer)
    speeds = sorted(each.read / 1e9 for each in found)
    for which, of, size in (
        (0, "the file's weights", sizes[0]),
        (0, "packed weights", sizes[1]),
        (1, "llama.cpp's", sizes[0]),
    ):
        shares = [size / each.seconds / each.read for each in found if each.which == which]
        share, label = statistics.median(shares), f"{of}, read at {speeds[0]:.0f} to {speeds[-1]:.0f} GB/s"
        table.add(
            name, "decode, GB/s", size / (ours, peer)[which] / 1e9, size / (ours, peer)[which] / 1e9 / share, label
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="1b,3b")
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--measures", default=",".join(MEASURES))
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=8)
    parser.add_argument("--target")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    table = Table(limit_to(options.target))
    for model in options.models.split(","):
        for form in options.formats.split(","):
            made = not path_of(SHAPES[model], form).exists()
            path = write(SHAPES[model], form)
            try:
                measure(table, SHAPES[model], form, path, options)
            finally:
                if made and not options.keep:
                    path.unlink()
            if options.json:
                table.write(options.json)


if __name__ == "__main__":
    main()

"""Models of 1 to 3 billion parameters with random weights, beside llama.cpp and beside what memory allows.

    python benchmarks/big_models.py --json FILE [--models 1b,3b] [--formats Q4_K_M,Q8_0,BF16] [--measures decode,...]
                                    [--times 3] [--tokens 24] [--target avx2] [--keep]

    decode     tokens a second of one sequence. It must read all weights: beside what a loop that only reads gets of
               the bytes that the file has for them, and of those that they take as they are packed (5 bits for the
               4.5 of Q4_K), measured between the rounds
    prefill    seconds until the first token of a prompt of 1,000
    streams    tokens a second of 16 sequences at once
    start      seconds from `Engine()`, or llama.cpp's load, to a first token in a fresh process, and its peak of memory
               over the file and the KV cache of 4,096 tokens

Models: 1b (a Llama of 1.07B), 3b (of 2.97B), moe (Qwen3-MoE of 1.1B, 8 of 64 experts a token). Files are made on the
spot and deleted unless `--keep`. Both contenders run in turn, two threads each; medians. Each row names the
instruction set; with `--target` llama.cpp has libraries up to it (peer_targets.py), without one its best for this CPU,
which may know more than ours (bfloat16 products).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from peer_contenders import LLAMA, NODE_LLAMA, STEMMA, Contender, Worker, interpreter
from peer_targets import limit_to
from random_models import FORMATS, SHAPES, Shape, write
from read_bandwidth import Reader

from stemma.kernels.codes import FORM_OF
from stemma.kernels.cpu.products.tiles import tile_of
from stemma.runtime.model.files.gguf_format import open_gguf

LIMIT, THREADS = 600.0, 2
PROMPT, LONG_PROMPT, STREAMS, KV_TOKENS = 32, 1000, 16, 4096
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


class Pair:
    """Both contenders with one model. Every request has a prompt that neither has seen."""

    def __init__(self, model: Path) -> None:
        ours = replace(STEMMA, arguments=(str(KV_TOKENS),))
        self.workers = [Worker(each, model, THREADS) for each in (ours, LLAMA)]
        self._count = 0

    def seconds(self, worker: Worker, streams: int, prompt: int, new: int) -> float:
        wave: list[dict[str, Any]] = []
        for _ in range(streams):
            self._count += 1
            ids = [100 + (self._count * 7919 + index * 31) % 40_000 for index in range(prompt)]
            wave.append({"id": f"r{self._count}", "append": ids, "max": new})
        return float(worker.run(wave, LIMIT)["seconds"])

    def rounds(self, measure: Callable[[Worker], float], times: int, between: Callable[[], object]) -> list[float]:
        """Medians of ours and the peer's, after a round that does not count."""
        found = []
        for _ in range(times + 1):
            found.append([measure(worker) for worker in self.workers])
            between()
        return [statistics.median(each) for each in zip(*found[1:], strict=True)]

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
    reader, pair = Reader(THREADS), Pair(path)

    def a_token(worker: Worker, streams: int) -> float:
        """Seconds of a step: those of many less those of one."""
        long, short = (pair.seconds(worker, streams, PROMPT, new) for new in (options.tokens + 1, 1))
        return (long - short) / options.tokens

    if "decode" in measures:
        speeds: list[float] = []
        ours, peer = pair.rounds(
            lambda worker: a_token(worker, 1), options.times, lambda: speeds.append(reader.bytes_a_second())
        )
        speed = statistics.median(speeds)
        stored, packed = bytes_of_a_token(shape, path)
        table.add(name, "decode, tokens/s", 1 / ours, 1 / peer)
        table.add(name, "decode, tokens/s", 1 / ours, speed / stored, f"the file's weights at {speed / 1e9:.1f} GB/s")
        table.add(name, "decode, tokens/s", 1 / ours, speed / packed, f"packed weights at {speed / 1e9:.1f} GB/s")
    if "prefill" in measures:
        long = pair.rounds(lambda worker: pair.seconds(worker, 1, LONG_PROMPT, 1), options.times, int)
        table.add(name, f"prefill {LONG_PROMPT}, tokens/s", *(LONG_PROMPT / seconds for seconds in long))
    if "streams" in measures:
        many = pair.rounds(lambda worker: a_token(worker, STREAMS), options.times, int)
        table.add(name, f"{STREAMS} streams, tokens/s", *(STREAMS / seconds for seconds in many))
    pair.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="1b,3b")
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--measures", default=",".join(MEASURES))
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--target")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    table = Table(limit_to(options.target))
    for model in options.models.split(","):
        for form in options.formats.split(","):
            path = write(SHAPES[model], form)
            try:
                measure(table, SHAPES[model], form, path, options)
            finally:
                if not options.keep:
                    path.unlink()
    if options.json:
        options.json.write_text(json.dumps({"rows": table.rows}, indent=1))


if __name__ == "__main__":
    main()

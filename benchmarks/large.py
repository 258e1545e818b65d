"""Loading and decoding of models of some 1B parameters with random weights, beside llama.cpp's native build.

    python benchmarks/large.py [--models llama,moe] [--times 3] [--tokens 48] [--json FILE]

    llama   Llama of 1.07B parameters in the mix that llama.cpp calls Q4_K_M
    moe     Qwen3-MoE of 1.1B parameters, 8 of 64 experts a token, in the same mix

Both contenders run in turn, two threads each; medians. Bytes that a token must read (weights that it uses) over the
time of a token stand beside what a copy of memory moves in the same minute: what bandwidth allows.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import numpy.typing as npt
from load import medians
from peer_contenders import LLAMA, STEMMA, STORE, Contender, Worker

from stemma.runtime.model.files.gguf_format import open_gguf
from stemma.runtime.model.pull import default_model

LIMIT = 600.0
PROMPT = 32
SCALE_PLACES = {"Q4_K": (0, 2), "Q6_K": (208,)}


class Shape(NamedTuple):
    """experts: how many, how many a token uses, and how wide one is."""

    name: str
    architecture: str
    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    experts: tuple[int, int, int] | None = None


SHAPES = {
    "llama": Shape("random-llama-1b", "llama", 16, 2048, 8192, 32, 8, 64),
    "moe": Shape("random-qwen3-moe-1b", "qwen3moe", 10, 1024, 2048, 16, 4, 64, (64, 8, 512)),
}


def random_blocks(rng: np.random.Generator, kind: str, shape: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Blocks whose weights are of the size that keeps activations in range: random codes under one scale."""
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    data = rng.integers(0, 256, (int(np.prod(shape)) // block, size), dtype=np.uint8)
    # codes under scales of six bits (Q4_K) or eight with a sign (Q6_K)
    scale = 1 / (np.sqrt(shape[-1]) * {"Q4_K": 16 * 16, "Q6_K": 16 * 64}[kind])
    for place in SCALE_PLACES[kind]:
        data[:, place : place + 2] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
    return data.reshape(*shape[:-1], shape[-1] // block * size)


def tensors(shape: Shape, vocabulary: int) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Name, format and shape of each tensor, as llama.cpp's Q4_K_M has them: values and half of the down projections in
    six bits."""
    hidden, queries, keys = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    yield "token_embd.weight", "Q6_K", (vocabulary, hidden)
    yield "output_norm.weight", "F32", (hidden,)
    for layer in range(shape.layers):
        block, better = f"blk.{layer}.", "Q6_K" if layer % 2 else "Q4_K"
        for norm in ("attn_norm", "ffn_norm"):
            yield f"{block}{norm}.weight", "F32", (hidden,)
        yield f"{block}attn_q.weight", "Q4_K", (queries, hidden)
        yield f"{block}attn_k.weight", "Q4_K", (keys, hidden)
        yield f"{block}attn_v.weight", better, (keys, hidden)
        yield f"{block}attn_output.weight", "Q4_K", (hidden, queries)
        if shape.experts is None:
            yield f"{block}ffn_gate.weight", "Q4_K", (shape.inner, hidden)
            yield f"{block}ffn_up.weight", "Q4_K", (shape.inner, hidden)
            yield f"{block}ffn_down.weight", better, (hidden, shape.inner)
            continue
        number, _, inner = shape.experts
        for norm in ("attn_q_norm", "attn_k_norm"):
            yield f"{block}{norm}.weight", "F32", (shape.head_dim,)
        yield f"{block}ffn_gate_inp.weight", "F32", (number, hidden)
        yield f"{block}ffn_gate_exps.weight", "Q4_K", (number, inner, hidden)
        yield f"{block}ffn_up_exps.weight", "Q4_K", (number, inner, hidden)
        yield f"{block}ffn_down_exps.weight", "Q4_K", (number, hidden, inner)


def settings(shape: Shape) -> dict[str, int | float]:
    """The model's metadata, by key without the architecture."""
    found: dict[str, int | float] = {
        "block_count": shape.layers, "context_length": 4096, "embedding_length": shape.hidden,
        "feed_forward_length": shape.inner, "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads, "attention.key_length": shape.head_dim,
        "attention.value_length": shape.head_dim, "attention.layer_norm_rms_epsilon": 1e-6, "rope.freq_base": 10000.0,
    }  # fmt: skip
    if shape.experts is not None:
        names = ("expert_count", "expert_used_count", "expert_feed_forward_length")
        found |= dict(zip(names, shape.experts, strict=True))
    return found


def write(shape: Shape) -> Path:
    """The model's file, made once. Its tokenizer is the default model's."""
    path = STORE / "models" / f"{shape.name}.gguf"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    words = open_gguf(default_model()).metadata
    writer, rng = gguf.GGUFWriter(path.with_suffix(".unfinished"), shape.architecture), np.random.default_rng(0)
    for key, value in settings(shape).items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"{shape.architecture}.{key}", value)
    for key in ("model", "pre"):
        writer.add_string(f"tokenizer.ggml.{key}", words[f"tokenizer.ggml.{key}"])
    for key in ("tokens", "token_type", "merges"):
        writer.add_array(f"tokenizer.ggml.{key}", words[f"tokenizer.ggml.{key}"])
    writer.add_eos_token_id(words["tokenizer.ggml.eos_token_id"])
    for name, kind, size in tensors(shape, len(words["tokenizer.ggml.tokens"])):
        if kind == "F32":
            values = rng.standard_normal(size, dtype=np.float32) * 0.05
            writer.add_tensor(name, values if len(size) > 1 else 1 + values)
        else:
            raw_dtype = gguf.GGMLQuantizationType[kind]
            writer.add_tensor(name, random_blocks(rng, kind, size), raw_dtype=raw_dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.with_suffix(".unfinished").rename(path)
    return path


def bytes_of_a_token(shape: Shape, path: Path) -> int:
    """Of the weights that a token uses: all but the embedding's other rows, which are the head's too; of the experts,
    those that it is sent to."""
    total = 0
    for name, tensor in open_gguf(path).tensors.items():
        share = shape.experts[1] / shape.experts[0] if shape.experts is not None and "_exps" in name else 1.0
        total += int(tensor.num_bytes * share)
    return total


def decode_seconds(contender: Contender, model: Path, tokens: int) -> Callable[[], float]:
    """A function that measures the seconds of a token: those of many less those of one."""
    worker = Worker(contender, model)
    count = iter(range(1_000_000))

    def ask(number: int) -> float:
        prompt = [100 + next(count) % 1000 + index for index in range(PROMPT)]
        wave: list[dict[str, Any]] = [{"id": f"r{next(count)}", "append": prompt, "max": number}]
        return float(worker.run(wave, LIMIT)["seconds"])

    ask(4)
    return lambda: (ask(tokens + 1) - ask(1)) / tokens


def copied_bytes_a_second() -> float:
    """What two threads move when they copy, reads and writes; the least of five tries is the quiet one."""
    import torch

    torch.set_num_threads(2)
    source = torch.ones(256 << 20, dtype=torch.uint8)
    target = torch.empty_like(source)
    times = []
    for _ in range(6):
        started = time.perf_counter()
        target.copy_(source)
        times.append(time.perf_counter() - started)
    return 2 * source.nbytes / min(times[1:])


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="llama,moe")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []

    def row(case: str, metric: str, ours: float, peer: float, peer_name: str) -> None:
        rows.append({"case": case, "metric": metric, "ours": ours, "peer": peer, "peer_name": peer_name,
                     "ratio": ours / peer})  # fmt: skip
        print(f"{case:22}{metric:28}{ours:12.4g}{peer:12.4g}  {peer_name:22}{ours / peer:6.2f}", flush=True)

    print(f"{'model':22}{'metric':28}{'stemma':>12}{'peer':>12}  {'':22}{'ratio':>6}")
    for name in options.models.split(","):
        shape = SHAPES[name]
        path = write(shape)
        starts = medians([STEMMA, LLAMA], path, options.times)
        row(shape.name, "load, s", starts["stemma"].wall, starts[LLAMA.name].wall, LLAMA.name)
        row(shape.name, "load, CPU s", starts["stemma"].cpu, starts[LLAMA.name].cpu, LLAMA.name)
        row(shape.name, "load, peak MB", starts["stemma"].peak, starts[LLAMA.name].peak, LLAMA.name)
        clocks = [decode_seconds(contender, path, options.tokens) for contender in (STEMMA, LLAMA)]
        rounds = [[clock() for clock in clocks] for _ in range(options.times)]
        ours, peer = (statistics.median(each) for each in zip(*rounds, strict=True))
        row(shape.name, "decode, tokens/s", 1 / ours, 1 / peer, LLAMA.name)
        moved = bytes_of_a_token(shape, path) / ours
        row(shape.name, "weights, GB/s", moved / 1e9, copied_bytes_a_second() / 1e9, "a copy, both ways")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()

"""Files of models with random weights, made on the spot: Llamas of 1.1 and 3 billion parameters and a network of
experts, in the mix that llama.cpp calls Q4_K_M, in Q8_0 and in bfloat16. Their tokenizer is the default model's.

Weights are drawn from one pool of random blocks over and over, so a file takes about as long as writing it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import numpy.typing as npt
from peer_contenders import STORE

from stemma.runtime.model.files.gguf_format import open_gguf
from stemma.runtime.model.pull import default_model

SCALE_PLACES = {"Q4_K": (0, 2), "Q6_K": (208,), "Q8_0": (0,)}
CODES = {"Q4_K": 16 * 16, "Q6_K": 16 * 64, "Q8_0": 74}
"""The size of a code times its scale beside the scale of its block, roughly."""
POOL = 1 << 24
"""Bytes of random blocks of a format."""


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
    "1b": Shape("random-llama-1b", "llama", 16, 2048, 8192, 32, 8, 64),
    "3b": Shape("random-llama-3b", "llama", 28, 3072, 8192, 24, 8, 128),
    "moe": Shape("random-qwen3-moe-1b", "qwen3moe", 10, 1024, 2048, 16, 4, 64, (64, 8, 512)),
}
FORMATS = ("Q4_K_M", "Q8_0", "BF16")


class Drawn:
    """Blocks of a format whose weights are of the size that keeps activations in range."""

    def __init__(self, kind: str, inputs: int) -> None:
        random = np.random.default_rng(inputs)
        if kind == "BF16":
            values = random.standard_normal(POOL // 2, dtype=np.float32) / np.sqrt(inputs, dtype=np.float32)
            self._pool = (values.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
            return
        _, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
        blocks = random.integers(0, 256, (POOL // size, size), dtype=np.uint8)
        scale = 1 / (np.sqrt(inputs) * CODES[kind])
        for place in SCALE_PLACES[kind]:
            blocks[:, place : place + 2] = np.frombuffer(np.float16(scale).tobytes(), np.uint8)
        self._pool = blocks.reshape(-1)

    def rows(self, num_bytes: int) -> Iterator[npt.NDArray[np.uint8]]:
        """So many bytes, in stretches."""
        while num_bytes > 0:
            yield self._pool[:num_bytes]
            num_bytes -= len(self._pool)


def tensors(shape: Shape, form: str, vocabulary: int) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Name, format and shape of each tensor; of Q4_K_M as llama.cpp has it: values and half of the down projections in
    six bits."""
    hidden, queries, keys = shape.hidden, shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    usual = "Q4_K" if form == "Q4_K_M" else form
    yield "token_embd.weight", "Q6_K" if form == "Q4_K_M" else form, (vocabulary, hidden)
    yield "output_norm.weight", "F32", (hidden,)
    for layer in range(shape.layers):
        block, better = f"blk.{layer}.", "Q6_K" if layer % 2 and form == "Q4_K_M" else usual
        for norm in ("attn_norm", "ffn_norm"):
            yield f"{block}{norm}.weight", "F32", (hidden,)
        yield f"{block}attn_q.weight", usual, (queries, hidden)
        yield f"{block}attn_k.weight", usual, (keys, hidden)
        yield f"{block}attn_v.weight", better, (keys, hidden)
        yield f"{block}attn_output.weight", usual, (hidden, queries)
        if shape.experts is None:
            yield f"{block}ffn_gate.weight", usual, (shape.inner, hidden)
            yield f"{block}ffn_up.weight", usual, (shape.inner, hidden)
            yield f"{block}ffn_down.weight", better, (hidden, shape.inner)
            continue
        number, _, inner = shape.experts
        for norm in ("attn_q_norm", "attn_k_norm"):
            yield f"{block}{norm}.weight", "F32", (shape.head_dim,)
        yield f"{block}ffn_gate_inp.weight", "F32", (number, hidden)
        yield f"{block}ffn_gate_exps.weight", usual, (number, inner, hidden)
        yield f"{block}ffn_up_exps.weight", usual, (number, inner, hidden)
        yield f"{block}ffn_down_exps.weight", usual, (number, hidden, inner)


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


def path_of(shape: Shape, form: str) -> Path:
    return STORE / "models" / f"{shape.name}-{form}.gguf"


def write(shape: Shape, form: str) -> Path:
    """The model's file, made if it is not there."""
    path = path_of(shape, form)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    words = open_gguf(default_model()).metadata
    writer = gguf.GGUFWriter(path.with_suffix(".unfinished"), shape.architecture)
    for key, value in settings(shape).items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"{shape.architecture}.{key}", value)
    for key in ("model", "pre"):
        writer.add_string(f"tokenizer.ggml.{key}", words[f"tokenizer.ggml.{key}"])
    for key in ("tokens", "token_type", "merges"):
        writer.add_array(f"tokenizer.ggml.{key}", words[f"tokenizer.ggml.{key}"])
    writer.add_eos_token_id(words["tokenizer.ggml.eos_token_id"])
    _write_tensors(writer, list(tensors(shape, form, len(words["tokenizer.ggml.tokens"]))))
    path.with_suffix(".unfinished").rename(path)
    return path


def _write_tensors(writer: Any, wanted: list[tuple[str, str, tuple[int, ...]]]) -> None:
    """One after the other: no more than a pool of blocks is in memory."""
    sizes: list[int] = []
    for name, kind, size in wanted:
        type_ = gguf.GGMLQuantizationType[kind]
        block, num_bytes = gguf.GGML_QUANT_SIZES[type_]
        sizes.append(int(np.prod(size)) // block * num_bytes)
        stored = (*size[:-1], size[-1] // block * num_bytes) if kind in SCALE_PLACES else size
        dtype = {"F32": np.float32, "BF16": np.uint16}.get(kind, np.uint8)
        writer.add_tensor_info(name, stored, np.dtype(dtype), sizes[-1], raw_dtype=type_)
    for step in ("header", "kv_data", "ti_data"):
        getattr(writer, f"write_{step}_to_file")()
    random, pools = np.random.default_rng(0), dict[tuple[str, int], Drawn]()
    out = writer.fout[0]
    for (_, kind, size), num_bytes in zip(wanted, sizes, strict=True):
        writer.write_padding(out, out.tell())
        if kind == "F32":
            values = random.standard_normal(size, dtype=np.float32) * np.float32(0.05)
            out.write((values if len(size) > 1 else 1 + values).tobytes())
            continue
        if (kind, size[-1]) not in pools:
            pools[kind, size[-1]] = Drawn(kind, size[-1])
        for stretch in pools[kind, size[-1]].rows(num_bytes):
            out.write(stretch)
    writer.write_padding(out, out.tell())
    writer.close()

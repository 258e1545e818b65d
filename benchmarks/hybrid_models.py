"""Models with random weights of the sizes of public ones, as GGUF files: what `hybrid.py --part turns` measures with.

    lfm2    LFM2-350M: 10 layers of short convolutions, 6 of attention
    qwen35  Qwen3.5-0.8B: 18 layers of the gated delta rule, 6 of gated attention
    llama   as wide and deep as lfm2, all its layers attention

Names and keys are those of llama.cpp's converter, the mix of storage types is made by llama.cpp's own quantiser. The
tokenizer is the default model's, with tokens that no text has behind it. Nothing but time can be told of such a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import gguf
import numpy as np
import numpy.typing as npt
from mixes import library
from peer_contenders import LLAMA, STORE, interpreter

from stemma.runtime.model.files.gguf_format import open_gguf
from stemma.runtime.model.pull import default_model

MIX = "Q4_K_M"
CONTEXT = 8192
Tensor = tuple[str, tuple[int, ...]]


class Shape(NamedTuple):
    """attention: the layers that attend. head_dim: of these layers."""

    name: str
    architecture: str
    layers: int
    attention: tuple[int, ...]
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int


LFM2 = Shape("random-lfm2-350m", "lfm2", 16, (2, 5, 8, 10, 12, 14), 1024, 4608, 16, 8, 64, 65_536)
QWEN35 = Shape("random-qwen35-0.8b", "qwen35", 24, tuple(range(3, 24, 4)), 1024, 3584, 8, 2, 256, 248_320)
SHAPES = {
    "lfm2": LFM2,
    "qwen35": QWEN35,
    "llama": LFM2._replace(name="random-llama-350m", architecture="llama", attention=tuple(range(16))),
}
TAPS = {"lfm2": 3, "qwen35": 4}
DELTA_HEADS, DELTA_DIM = 16, 128  # Qwen3.5-0.8B has as many key heads as value heads


def settings(shape: Shape) -> dict[str, Any]:
    """The model's metadata, by key without the architecture."""
    found: dict[str, Any] = {
        "block_count": shape.layers, "context_length": CONTEXT, "embedding_length": shape.hidden,
        "feed_forward_length": shape.inner, "attention.head_count": shape.heads,
        "attention.head_count_kv": shape.kv_heads, "attention.layer_norm_rms_epsilon": 1e-6,
        "rope.freq_base": 1e6, "vocab_size": shape.vocabulary,
    }  # fmt: skip
    if shape.architecture == "lfm2":
        found["attention.head_count_kv"] = [
            shape.kv_heads * (layer in shape.attention) for layer in range(shape.layers)
        ]
        found["shortconv.l_cache"] = TAPS["lfm2"]
    elif shape.architecture == "qwen35":
        found |= {
            "attention.key_length": shape.head_dim, "attention.value_length": shape.head_dim,
            "rope.dimension_count": shape.head_dim // 4, "rope.dimension_sections": [11, 11, 10, 0],
            "ssm.conv_kernel": TAPS["qwen35"], "ssm.state_size": DELTA_DIM, "ssm.group_count": DELTA_HEADS,
            "ssm.time_step_rank": DELTA_HEADS, "ssm.inner_size": DELTA_HEADS * DELTA_DIM,
            "full_attention_interval": 4,
        }  # fmt: skip
    else:
        found["rope.dimension_count"] = shape.head_dim
    return found


def tensors(shape: Shape) -> Iterator[Tensor]:
    """Name and shape of each tensor; the head's matrix is the embedding's."""
    yield "token_embd.weight", (shape.vocabulary, shape.hidden)
    yield {"lfm2": "token_embd_norm.weight"}.get(shape.architecture, "output_norm.weight"), (shape.hidden,)
    second_norm = "post_attention_norm" if shape.architecture == "qwen35" else "ffn_norm"
    for layer in range(shape.layers):
        mixer = {"lfm2": _convolution, "qwen35": _delta, "llama": _attention}[shape.architecture]
        yield f"blk.{layer}.attn_norm.weight", (shape.hidden,)
        for name, size in (_attention if layer in shape.attention else mixer)(shape):
            yield f"blk.{layer}.{name}", size
        yield f"blk.{layer}.{second_norm}.weight", (shape.hidden,)
        yield f"blk.{layer}.ffn_gate.weight", (shape.inner, shape.hidden)
        yield f"blk.{layer}.ffn_up.weight", (shape.inner, shape.hidden)
        yield f"blk.{layer}.ffn_down.weight", (shape.hidden, shape.inner)


def _attention(shape: Shape) -> Iterator[Tensor]:
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    gate = 2 if shape.architecture == "qwen35" else 1  # each head's queries and its gate, one behind the other
    yield "attn_q.weight", (gate * queries, shape.hidden)
    yield "attn_k.weight", (keys, shape.hidden)
    yield "attn_v.weight", (keys, shape.hidden)
    yield "attn_output.weight", (shape.hidden, queries)
    if shape.architecture != "llama":
        yield "attn_q_norm.weight", (shape.head_dim,)
        yield "attn_k_norm.weight", (shape.head_dim,)


def _convolution(shape: Shape) -> Iterator[Tensor]:
    yield "shortconv.in_proj.weight", (3 * shape.hidden, shape.hidden)
    yield "shortconv.conv.weight", (shape.hidden, TAPS["lfm2"])
    yield "shortconv.out_proj.weight", (shape.hidden, shape.hidden)


def _delta(shape: Shape) -> Iterator[Tensor]:
    inner = DELTA_HEADS * DELTA_DIM
    yield "attn_qkv.weight", (3 * inner, shape.hidden)
    yield "attn_gate.weight", (inner, shape.hidden)
    yield "ssm_conv1d.weight", (3 * inner, TAPS["qwen35"])
    yield "ssm_dt.bias", (DELTA_HEADS,)
    yield "ssm_a", (DELTA_HEADS,)
    yield "ssm_beta.weight", (DELTA_HEADS, shape.hidden)
    yield "ssm_alpha.weight", (DELTA_HEADS, shape.hidden)
    yield "ssm_norm.weight", (DELTA_DIM,)
    yield "ssm_out.weight", (shape.hidden, inner)


def values(rng: np.random.Generator, name: str, size: tuple[int, ...]) -> npt.NDArray[Any]:
    """Matrices under which activations keep their size; norms of 1; decays between 0.4 and 0.999 a token."""
    if name.endswith("ssm_a"):
        return -rng.uniform(1, 16, size).astype(np.float32)
    if name.endswith("ssm_dt.bias"):
        return rng.uniform(-7, -3, size).astype(np.float32)
    if len(size) == 1:
        return np.ones(size, dtype=np.float32)
    drawn = rng.standard_normal(size, dtype=np.float32)
    if "conv" in name and not name.endswith("proj.weight"):
        return drawn * np.float32(size[-1] ** -0.5)
    return (drawn * np.float32(size[-1] ** -0.5)).astype(np.float16)


def write(shape: Shape) -> Path:
    """The model's file, made once."""
    path = STORE / "models" / f"{shape.name}-{MIX}.gguf"
    if not path.exists():
        interpreter(LLAMA)
        path.parent.mkdir(parents=True, exist_ok=True)
        source, unfinished = path.with_suffix(".f16"), path.with_suffix(".unfinished")
        _write_f16(shape, source)
        made = library("quantise", source, unfinished, gguf.LlamaFileType[f"MOSTLY_{MIX}"].value)
        if made.returncode:
            raise SystemExit(f"llama.cpp's quantiser: {made.stderr.decode(errors='replace')[-2000:]}")
        source.unlink()
        unfinished.rename(path)
    return path


def _write_f16(shape: Shape, path: Path) -> None:
    writer, rng = gguf.GGUFWriter(path, shape.architecture), np.random.default_rng(0)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    for key, value in settings(shape).items():
        kinds: dict[type, Callable[[str, Any], None]] = {
            float: writer.add_float32, int: writer.add_uint32, list: writer.add_array,
        }  # fmt: skip
        kinds[type(value)](f"{shape.architecture}.{key}", value)
    words = open_gguf(default_model()).metadata
    tokens = list(words["tokenizer.ggml.tokens"])
    padding = shape.vocabulary - len(tokens)
    for key in ("model", "pre"):
        writer.add_string(f"tokenizer.ggml.{key}", words[f"tokenizer.ggml.{key}"])
    writer.add_token_list(tokens + [f"<|unused_{index}|>" for index in range(padding)])
    writer.add_token_types([int(kind) for kind in words["tokenizer.ggml.token_type"]] + [5] * padding)
    writer.add_token_merges(list(words["tokenizer.ggml.merges"]))
    writer.add_eos_token_id(words["tokenizer.ggml.eos_token_id"])
    for name, size in tensors(shape):
        writer.add_tensor(name, values(rng, name, size))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

"""Every launch that models make on a target, recorded without a GPU: what is proved is what runs.

The recorder stands where launches are run, so types, tiles, constants and alignments are those of the real thing.
"""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

import numpy as np
import torch

from stemma.kernels.changes import Changes, Masks, Places
from stemma.kernels.experts import GatedActivation
from stemma.kernels.ops import AttentionMetadata, AttentionSpec, BlockCopy, HeadNorms, HeadShape, KVShape, SamplingRows
from stemma.kernels.triton.fp8 import eight_of
from stemma.kernels.triton.fp8 import zeros as fp8_zeros
from stemma.kernels.triton.fp8_launches import Fp8Kernels
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.packing import (
    DenseLinear,
    PackedLinear,
    TritonEmbedding,
    TritonNorm,
    TritonRope,
    floats,
    zeros,
)
from stemma.kernels.triton.product_launches import ProductKernels
from stemma.kernels.triton.products import Products
from stemma.kernels.triton.shipped_experts import record_experts
from stemma.kernels.triton.shipped_states import STATE_MODELS, record_states
from stemma.kernels.triton.targets import KVType, Target, UnsupportedDevice

TYPES = {
    torch.float16: "fp16",
    torch.bfloat16: "bf16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.uint8: "u8",
    torch.int8: "i8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.float8_e4m3fn: "fp8e4nv",
    torch.float8_e4m3fnuz: "fp8e4b8",
}


class Model(NamedTuple):
    """The shapes of a family that kernels are specialised for."""

    name: str
    heads: HeadShape
    hidden: int
    intermediate: int
    vocabulary: int
    head_norms: bool
    attention: AttentionSpec | None = None  # beside the plain one


MODELS = (
    Model("SmolLM2-135M", HeadShape(9, 3, 64), 576, 1536, 49_152, False),
    Model("Llama-3-8B", HeadShape(32, 8, 128), 4096, 14_336, 128_256, False),
    Model("Qwen3-8B", HeadShape(32, 8, 128), 4096, 12_288, 151_936, True),
    Model("Gemma-2-9B", HeadShape(16, 8, 256), 3584, 14_336, 256_000, False, AttentionSpec(0.0625, 4096, 50.0)),
    Model(
        "gpt-oss-20B", HeadShape(64, 8, 64), 2880, 2880, 201_088, False, AttentionSpec(0.125, 128, None, (0.0,) * 64)
    ),
)
BLOCK_SIZE = 16


SHOWN = (
    *("HEAD_DIM", "ROWS", "TOKENS", "OUTPUTS", "DEPTH", "FORMAT", "GROUP", "MINIMA", "SPLITS", "IN", "FEATURES", "ROW"),
    *("HALF", "Q_NORM", "RESIDUAL", "WINDOWED", "SOFTCAP", "SINKS", "ACTIVATION", "CENTRED", "NORM"),
    *("VALUE_HEADS", "KEY_DIM", "COLUMNS", "STATE", "TAPS", "CHANNELS", "GROUPS", "WIDTH", "SCORE", "EXPERTS"),
)
"""The constants that a title names."""


class Specimen(NamedTuple):
    """A kernel as it is launched. types: of the arguments that are no constants, "*" before those of pointers.
    options: of Triton, beside warps and stages."""

    kernel: Any
    types: dict[str, str]
    aligned: tuple[str, ...]
    constants: dict[str, Any]
    num_warps: int
    num_stages: int
    options: dict[str, Any]

    @property
    def key(self) -> str:
        return repr((self.kernel.__name__, *self[1:]))

    @property
    def title(self) -> str:
        """Which kernel and, in short, which configuration."""
        values = [f"{name.lower()} {self.constants[name]}" for name in SHOWN if name in self.constants]
        activation = next((self.types[name] for name in ("q", "x", "qkv") if name in self.types), "").lstrip("*")
        element = self.types.get("keys", self.types.get("pool", "")).lstrip("*")
        element = " over ".join(dict.fromkeys(word for word in (activation, element) if word))
        words = [self.kernel.__name__.removesuffix("_kernel"), element, *values]
        return " ".join(word for word in words if word)


class Recorder:
    """A `Launcher` that keeps what it is given, each specimen once."""

    def __init__(self) -> None:
        self.specimens: dict[str, Specimen] = {}

    def __call__(
        self, kernel: Any, grid: tuple[int, ...], arguments: dict[str, Any], num_warps: int, num_stages: int
    ) -> None:
        constants = {p.name: arguments[p.name] for p in kernel.params if p.is_constexpr}
        options = {name: value for name, value in arguments.items() if name not in kernel.arg_names}
        values = {name: value for name, value in arguments.items() if name not in constants | options}
        aligned = tuple(n for n, v in values.items() if isinstance(v, torch.Tensor) and v.data_ptr() % 16 == 0)
        types = {name: type_of(value) for name, value in values.items()}
        specimen = Specimen(kernel, types, aligned, constants, num_warps, num_stages, options)
        self.specimens.setdefault(specimen.key, specimen)


def type_of(value: torch.Tensor | int | float) -> str:
    if isinstance(value, torch.Tensor):
        return "*" + TYPES[value.dtype]
    return "fp32" if isinstance(value, float) else "i32"


def specimens(target: Target) -> list[Specimen]:
    """Everything shipped for a target. Runs in a process without TRITON_INTERPRET."""
    recorder = Recorder()
    for model in MODELS:
        for kv_type in ("activation", "int8", "fp8"):
            record_attention(recorder, target, model, kv_type, torch.bfloat16)
    record_attention(recorder, target, MODELS[1], "activation", torch.float16)
    record_attention(recorder, target, MODELS[1], "int8", torch.float16)
    record_rows(recorder, target, MODELS[0], torch.bfloat16)
    record_rows(recorder, target, MODELS[1], torch.float16)
    record_experts(recorder, target, torch.bfloat16)
    for dtype in (torch.bfloat16, torch.float16):
        record_fp8(recorder, target, MODELS[1], dtype)
    for state_model in STATE_MODELS:
        record_states(recorder, target, state_model, torch.bfloat16)
    return list(recorder.specimens.values())


def mixed_layout() -> AttentionMetadata:
    """A decode token behind 1,500 cached ones, and 200 tokens of a prompt."""
    width = 100
    return AttentionMetadata(
        positions=np.concatenate(([1500], np.arange(200))).astype(np.int32),
        slots=np.arange(201, dtype=np.int32),
        query_starts=np.array([0, 1, 201], dtype=np.int32),
        context_lens=np.array([1501, 200], dtype=np.int32),
        block_tables=np.tile(np.arange(width, dtype=np.int32), (2, 1)),
    )


def record_attention(recorder: Recorder, target: Target, model: Model, kv_type: KVType, dtype: torch.dtype) -> None:
    """RoPE and write, decode, extend, merge, copies."""
    try:
        ops = TritonOps(torch.device("cpu"), dtype, kv_type, target, recorder)
    except UnsupportedDevice:
        return
    shape = KVShape(1, 100, BLOCK_SIZE, model.heads.num_kv_heads, model.heads.head_dim)
    kv, metadata = ops.kv(shape), mixed_layout()
    plan = ops.plan(metadata, shape)
    head_dim = model.heads.head_dim
    rope = TritonRope(*(torch.zeros(2048, head_dim // 2) for _ in range(2)))
    norm = TritonNorm(torch.zeros(head_dim), 1e-6)
    norms = HeadNorms(norm, norm) if model.head_norms else None
    width = (model.heads.num_heads + 2 * model.heads.num_kv_heads) * head_dim
    q = ops.rope_write(torch.zeros(201, width, dtype=dtype), model.heads, rope, norms, kv, 0, plan)
    ops.attention(q, kv, 0, plan, AttentionSpec(head_dim**-0.5))
    if model.attention is not None:
        ops.attention(q, kv, 0, plan, model.attention)
    ops.copy_blocks(kv, [BlockCopy(0, 1, 5)])


def record_rows(recorder: Recorder, target: Target, model: Model, dtype: torch.dtype) -> None:
    """Norms, products with packed weights at each number of rows, masks and sampling."""
    ops = TritonOps(torch.device("cpu"), dtype, "activation", target, recorder)
    norm = TritonNorm(torch.zeros(model.hidden), 1e-6)
    square = model.hidden, model.hidden
    for num_rows in (1, 16, 64, 512):
        x = torch.zeros(num_rows, model.hidden, dtype=dtype)
        for four_bits in (True, False):
            ops.norm_linear(x, norm, zeros(*square, four_bits, minima=True))
            ops.linear_add(x, zeros(*square, four_bits), torch.zeros_like(x))
    for minima in (False, True):
        bytes_ = zeros(*square, False, group=16, minima=minima)
        ops.norm_linear(torch.zeros(1, model.hidden, dtype=dtype), norm, bytes_)
    gate_up = DenseLinear(
        torch.zeros(2 * model.intermediate, model.hidden, dtype=dtype), None, model.hidden, 2 * model.intermediate
    )
    for activation in get_args(GatedActivation):
        ops.norm_gated(torch.zeros(1, model.hidden, dtype=dtype), norm, gate_up, activation)
    ops.norm_linear(
        torch.zeros(1, model.hidden, dtype=dtype), TritonNorm(norm.weight, 1e-5, norm.weight, True), gate_up
    )
    head = DenseLinear(torch.zeros(32, model.hidden, dtype=dtype), None, model.hidden, 32)
    ops.logits(torch.zeros(2, model.hidden, dtype=dtype), np.zeros(1, dtype=np.int32), norm, head)
    for scale in (1.0, 60.0):
        for table in tables_of(model.hidden, dtype):
            ops.embed(TritonEmbedding(table, scale), np.zeros(1, dtype=np.int32))
    logits = torch.zeros(1, model.vocabulary)
    ones, zero = np.ones(1, np.float32), np.zeros(1, np.int32)
    masks = Masks(np.zeros((1, model.vocabulary // 32), dtype=np.uint32), zero)
    ops.adjust(logits, Changes(Places(zero, zero, ones, ones, ones), masks))
    ops.log_probs(logits, zero, 5)
    ops.sample(logits, SamplingRows(ones, np.ones(1, np.int32), ones, ones, np.ones(1)))


def tables_of(features: int, dtype: torch.dtype) -> list[DenseLinear | PackedLinear]:
    """Of eight rows: dense, and in each packed layout."""
    packed = [zeros(features, 8, True, minima=minima) for minima in (False, True)]
    packed += [zeros(features, 8, False, group=group, minima=minima) for group in (16, 32) for minima in (False, True)]
    return [DenseLinear(torch.zeros(8, features, dtype=dtype), None, features, 8), *packed]


def record_fp8(recorder: Recorder, target: Target, model: Model, dtype: torch.dtype) -> None:
    """Rows that are rounded, with their norm or not; what torch's product leaves to do. Outputs are few: they are
    really computed."""
    if eight_of(target, None) == "none":
        return
    kernels = Fp8Kernels(target, dtype, torch.device("cpu"), recorder)
    norm = TritonNorm(torch.zeros(model.hidden), 1e-6)
    x = torch.zeros(1, model.hidden, dtype=dtype)
    for each in (norm, TritonNorm(norm.weight, 1e-5, norm.weight, True)):
        kernels.linear(x, fp8_zeros(model.hidden, 256), each)
    for features in (model.hidden, model.intermediate):
        residual = torch.zeros(1, 256, dtype=dtype)
        kernels.linear(torch.zeros(1, features, dtype=dtype), fp8_zeros(features, 256), None, residual)
    multiply = Products(ProductKernels(target, dtype, recorder), kernels)
    for rows in (1, 40, 200):
        squares = floats(model.intermediate if rows == 1 else model.hidden, 256)
        x, residual = torch.zeros(rows, squares.in_features, dtype=dtype), torch.zeros(rows, 256, dtype=dtype)
        multiply(x, squares)
        multiply(x, squares, residual)

"""first_hour.py, kernels: each beside the bandwidth of a copy and beside what others have for it.

Device times are those of captured graphs over pools that take turns, so that no launch and no warm cache is in them; of
what the host takes part in (sampling) both are told, all of it and the kernels' share.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from hour_clocks import captured_us, device_us, wall_us
from hour_layouts import decode_layout, extend_layout
from hour_lines import Lines
from torch.nn.attention.bias import causal_lower_right
from torch.nn.attention.flex_attention import create_block_mask, flex_attention

from stemma.kernels.changes import Changes, Masks, Places
from stemma.kernels.ops import AttentionMetadata, AttentionSpec, BlockCopy, KVShape, SamplingRows
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.packing import DenseLinear, PackedLinear, zeros
from stemma.kernels.triton.traffic import ideal_bytes

COLD_BYTES = 256 << 20
"""Of pools that take turns: more than a GPU's last cache holds."""

MOST_BYTES = 4 << 30
"""Of one pool: larger cases are left out, and say so."""


class Sizes(NamedTuple):
    """What is measured, what is worth most first; in the interpreter it is tiny."""

    heads: tuple[int, int, int] = (32, 8, 128)
    block_size: int = 16
    batches: tuple[int, ...] = (16, 1, 64, 128)
    contexts: tuple[int, ...] = (8192, 1024, 4096, 32_768)
    kv_types: tuple[Any, ...] = ("activation", "int8", "fp8")
    extend: tuple[tuple[int, int], ...] = ((0, 2048), (0, 512), (6144, 2048), (1500, 40))
    shared: tuple[tuple[int, int], ...] = ((16, 512), (128, 512), (128, 4096))
    linear: tuple[tuple[int, int], ...] = ((4096, 6144), (4096, 4096), (4096, 28_672), (14_336, 4096))
    rows: tuple[int, ...] = (16, 1, 64, 512)
    vocabularies: tuple[int, ...] = (128_256, 151_936, 256_000, 49_152)
    samples: tuple[int, ...] = (64, 1, 256)


TINY = Sizes(
    (4, 2, 16), 16, (2,), (40,), ("activation", "int8"), ((0, 20), (20, 12)), ((2, 512),), ((64, 32),), (1, 20),
    (1200,), (2,),
)  # fmt: skip


class Bench(NamedTuple):
    lines: Lines
    device: torch.device
    dtype: torch.dtype
    sizes: Sizes
    bandwidth: float  # of a copy, GB/s read and written

    def ops(self, kv_type: Any = "activation") -> TritonOps:
        return TritonOps(self.device, self.dtype, kv_type)

    def random(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, device=self.device, dtype=self.dtype)


def run(lines: Lines, device: str) -> None:
    measure(lines, torch.device(device), ON_DEVICE[device])


def measure(lines: Lines, device: torch.device, sizes: Sizes) -> None:
    is_gpu = device.type == "cuda"
    size = 1 << 30 if is_gpu else 1 << 16
    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    bandwidth = 2e-3 * size / captured_us([lambda: target.copy_(source)])
    bench = Bench(lines, device, torch.bfloat16 if is_gpu else torch.float32, sizes, bandwidth)
    for case, function in in_turn(kinds(bench)):
        lines.attempt(case, partial(function, case))


ON_DEVICE = {"cuda": Sizes(), "cpu": TINY}

Case = tuple[str, Callable[[str], None]]


def kinds(bench: Bench) -> list[list[Case]]:
    """The cases of each kind."""
    sizes = bench.sizes
    return [
        *(
            [
                (f"decode {batch} x {context}, {kv_type}", partial(decode, bench, kv_type, batch, context))
                for context in sizes.contexts for batch in sizes.batches
            ] for kv_type in sizes.kv_types
        ),
        [(f"extend {new} behind {cached}", partial(extend, bench, cached, new)) for cached, new in sizes.extend],
        [(f"{batch} over {prefix} shared", partial(shared, bench, batch, prefix)) for batch, prefix in sizes.shared],
        [
            (f"{shape[0]} -> {shape[1]}, {rows} rows", partial(linear, bench, shape, rows))
            for rows in sizes.rows for shape in sizes.linear
        ],
        [
            (f"sample {rows} x {vocabulary}", partial(sample, bench, rows, vocabulary))
            for vocabulary in sizes.vocabularies for rows in sizes.samples
        ],
        [("copy 64 blocks", partial(copies, bench))],
    ]  # fmt: skip


def in_turn(kinds: list[list[Case]]) -> list[Case]:
    """The first case of each kind, then the second of each: where time ends early, something is known of all."""
    return [case for cases in zip_longest(*kinds) for case in cases if case is not None]


# Attention -----------------------------------------------------------------------------------------------------------
def pools(bench: Bench, ops: TritonOps, metadata: AttentionMetadata, one: int) -> Any:
    """KV of as many layers as are needed for none of them to stay in a cache; one: bytes of a layer."""
    layers = min(32, max(2, -(-COLD_BYTES // one))) if bench.device.type == "cuda" else 1
    _, num_kv_heads, head_dim = bench.sizes.heads
    blocks = int(metadata.block_tables.max()) + 1
    kv = ops.kv(KVShape(layers, blocks, bench.sizes.block_size, num_kv_heads, head_dim))
    for tensor in kv.tensors:
        noise = torch.randn(tensor.shape[1:], device=bench.device)
        for layer in tensor:
            layer.copy_((noise * 20 if tensor.dtype == torch.int8 else noise).to(tensor.dtype))
    return kv


def attend_us(bench: Bench, ops: TritonOps, kv: Any, metadata: AttentionMetadata) -> float:
    heads, _, head_dim = bench.sizes.heads
    q = bench.random(len(metadata.positions), heads, head_dim)
    plan, spec = ops.plan(metadata, kv.shape), AttentionSpec(head_dim**-0.5)
    return captured_us([partial(ops.attention, q, kv, layer, plan, spec) for layer in range(kv.shape.num_layers)])


def decode(bench: Bench, kv_type: Any, batch: int, context: int, case: str) -> None:
    """Beside the bandwidth of a copy; in 16 bits beside others too, on KV without pages."""
    heads, num_kv_heads, head_dim = bench.sizes.heads
    metadata = decode_layout(batch, context, bench.sizes.block_size)
    ops = bench.ops(kv_type)
    element = bench.dtype.itemsize if kv_type == "activation" else 1
    shape = KVShape(1, 1, bench.sizes.block_size, num_kv_heads, head_dim)
    ideal = ideal_bytes(metadata, shape, element)
    if ideal > MOST_BYTES:
        bench.lines.skip(case, f"a layer has {ideal / 1e9:.1f} GB")
        return
    ours = attend_us(bench, ops, pools(bench, ops, metadata, ideal), metadata)
    bench.lines.fact(case, "GB/s", ideal / ours / 1e3, bench.bandwidth, "copy on the device", us=ours)
    if kv_type != "activation":
        return
    count = min(32, max(2, -(-COLD_BYTES // ideal))) if bench.device.type == "cuda" else 1
    q = bench.random(batch, heads, head_dim)
    kv = [tuple(bench.random(batch, num_kv_heads, context, head_dim) for _ in "kv") for _ in range(count)]
    starts = torch.arange(batch + 1, device=bench.device, dtype=torch.int32)
    for name, call in peers(bench, q, starts, context, case).items():
        beside(bench, case, name, ours, [partial(call, *each) for each in kv])


def beside(bench: Bench, case: str, name: str, ours: float, calls: list[Callable[[], object]]) -> None:
    def told(case: str) -> None:
        bench.lines.fact(case, "us", ours, captured_us(calls), name)

    bench.lines.attempt(f"{case}, {name}", partial(told, f"{case}, {name}"))


def peers(bench: Bench, q: torch.Tensor, starts: torch.Tensor, context: int, case: str) -> dict[str, Any]:
    """Functions of keys and values (batch, KV heads, context, head_dim)."""
    batch, heads, head_dim = q.shape
    found: dict[str, Any] = {"SDPA": lambda k, v: F.scaled_dot_product_attention(q[:, :, None], k, v, enable_gqa=True)}
    try:
        varlen: Any = importlib.import_module("torch.nn.attention.varlen")
    except ImportError as error:
        bench.lines.skip(f"{case}, varlen_attn", str(error))
    else:
        if bench.device.type == "cuda":
            found["varlen_attn"] = lambda k, v: varlen.varlen_attn(
                q, k.view(-1, k.shape[1], head_dim), v.view(-1, v.shape[1], head_dim), starts, starts * context, 1,
                context, enable_gqa=True,
            )  # fmt: skip
        else:
            bench.lines.skip(f"{case}, varlen_attn", "it needs a GPU")
    try:
        flashinfer: Any = importlib.import_module("flashinfer")
    except ImportError as error:
        bench.lines.skip(f"{case}, FlashInfer", str(error))
        return found
    size, num_kv_heads = bench.sizes.block_size, bench.sizes.heads[1]
    width = context // size
    workspace = torch.empty(128 << 20, dtype=torch.uint8, device=bench.device)
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(workspace, "HND", use_tensor_cores=True)
    wrapper.plan(
        starts * width, torch.arange(batch * width, device=bench.device, dtype=torch.int32),
        torch.full((batch,), size, device=bench.device, dtype=torch.int32), heads, num_kv_heads, head_dim, size,
        q_data_type=bench.dtype, kv_data_type=bench.dtype,
    )  # fmt: skip

    def paged(k: torch.Tensor, v: torch.Tensor) -> object:
        return wrapper.run(q, tuple(x.view(batch * width, num_kv_heads, size, head_dim) for x in (k, v)))

    return found | {"FlashInfer": paged}


def extend(bench: Bench, cached: int, new: int, case: str) -> None:
    """A prompt behind cached tokens, beside SDPA; the first one beside FlexAttention with a block mask too, which torch
    compiles for half a minute."""
    heads, num_kv_heads, head_dim = bench.sizes.heads
    metadata, ops = extend_layout(cached, new, bench.sizes.block_size), bench.ops()
    one = 2 * (cached + new) * num_kv_heads * head_dim * bench.dtype.itemsize
    ours = attend_us(bench, ops, pools(bench, ops, metadata, one), metadata)
    operations = 4 * heads * head_dim * (new * cached + new * (new + 1) / 2)
    bench.lines.fact(case, "TFLOP/s", operations / ours / 1e6, us=ours)
    q = bench.random(1, heads, new, head_dim)
    k, v = (bench.random(1, num_kv_heads, cached + new, head_dim) for _ in "kv")
    mask = causal_lower_right(new, cached + new)
    beside(
        bench, case, "SDPA", ours, [lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)]
    )
    if (cached, new) != bench.sizes.extend[0]:
        return
    blocks = create_block_mask(
        lambda _b, _h, query, key: query + cached >= key, None, None, new, cached + new, device=bench.device
    )
    flex: Any = torch.compile(flex_attention) if bench.device.type == "cuda" else flex_attention
    beside(bench, case, "FlexAttention", ours, [lambda: flex(q, k, v, block_mask=blocks, enable_gqa=True)])


def shared(bench: Bench, batch: int, prefix: int, case: str) -> None:
    """The same sequences with and without the hint that they share a prefix; 64 tokens of their own."""
    metadata = decode_layout(batch, prefix + 64, bench.sizes.block_size, prefix // bench.sizes.block_size)
    ops = bench.ops()
    one = 2 * metadata.block_tables.size * bench.sizes.block_size * bench.sizes.heads[1] * bench.sizes.heads[2] * 2
    kv = pools(bench, ops, metadata, one)
    ours, peer = (attend_us(bench, ops, kv, each) for each in (metadata, replace(metadata, shared_prefixes=())))
    bench.lines.fact(case, "us", ours, peer, "without sharing")


# Products ------------------------------------------------------------------------------------------------------------
def packed(bench: Bench, shape: tuple[int, int], four_bits: bool) -> PackedLinear:
    weights = zeros(*shape, four_bits, device=bench.device)
    weights.codes.random_(0, 127)
    weights.scales.uniform_(0.0, 0.01)
    return weights


def linear(bench: Bench, shape: tuple[int, int], rows: int, case: str) -> None:
    """Weights of 16, 8 and 4 bits, and torch's own of 4 and 8; weights take turns."""
    (in_features, out_features), ops = shape, bench.ops()
    copies = max(2, -(-COLD_BYTES // (in_features * out_features))) if bench.device.type == "cuda" else 1
    x, residual = bench.random(rows, in_features), bench.random(rows, out_features)
    dense = [
        DenseLinear(bench.random(out_features, in_features), None, in_features, out_features) for _ in range(copies)
    ]
    peer = captured_us([partial(ops.linear_add, x, each, residual) for each in dense])
    bench.lines.fact(case, "us", peer, bytes_us(bench, 2 * in_features * out_features), "bytes over bandwidth")
    for four_bits in (True, False):
        weights = [packed(bench, shape, four_bits) for _ in range(copies)]
        ours = captured_us([partial(ops.linear_add, x, each, residual) for each in weights])
        bench.lines.fact(f"{case}, {'Q4_1' if four_bits else 'Q8_0'}", "us", ours, peer, "16-bit weights")
    for name, make in (("_weight_int4pack_mm", torch_four_bits), ("_scaled_mm", torch_eight_bits)):
        beside(bench, case, name, peer, [make(bench, x, shape)]) if bench.device.type == "cuda" else bench.lines.skip(
            f"{case}, {name}", "it needs a GPU"
        )


def bytes_us(bench: Bench, num_bytes: float) -> float:
    return num_bytes / bench.bandwidth / 1e3


def torch_four_bits(bench: Bench, x: torch.Tensor, shape: tuple[int, int]) -> Callable[[], object]:
    in_features, out_features = shape
    codes = torch.randint(0, 255, (out_features, in_features // 2), device=bench.device, dtype=torch.uint8)
    weight = torch._convert_weight_to_int4pack(codes, 8)
    scales = bench.random(in_features // 32, out_features, 2)
    return lambda: torch._weight_int4pack_mm(x, weight, 32, scales)


def torch_eight_bits(bench: Bench, x: torch.Tensor, shape: tuple[int, int]) -> Callable[[], object]:
    rows = -(-len(x) // 16) * 16
    left = bench.random(rows, shape[0]).to(torch.float8_e4m3fn)
    right = bench.random(shape[1], shape[0]).to(torch.float8_e4m3fn)
    of_rows, of_outputs = (torch.ones(size, device=bench.device) for size in ((rows, 1), (1, shape[1])))
    return lambda: torch._scaled_mm(left, right.t(), of_rows, of_outputs, out_dtype=bench.dtype)


# What follows a step -------------------------------------------------------------------------------------------------
def sample(bench: Bench, num_rows: int, vocabulary: int, case: str) -> None:
    """Greedy, top-k with top-p, masks: with the host, and the kernels alone; beside a sort."""
    ops = bench.ops()
    logits = torch.randn(num_rows, vocabulary, device=bench.device) * 4
    ones = np.ones(num_rows, np.float32)
    ways = {
        "greedy": SamplingRows(0 * ones, np.zeros(num_rows, np.int32), ones, 0 * ones, np.zeros(num_rows)),
        "top-k, top-p": SamplingRows(
            ones, np.full(num_rows, 50, np.int32), 0.9 * ones, 0 * ones, np.full(num_rows, 0.5)
        ),
    }
    for name, rows in ways.items():
        call = partial(ops.sample, logits, rows)
        bench.lines.fact(
            f"{case}, {name}", "us", device_us(call), device_us(partial(sorted_sample, logits)), "torch.sort"
        )
        bench.lines.fact(f"{case}, {name}, with the host", "us", wall_us(call))
    words = np.full((num_rows, -(-vocabulary // 32)), 0xFFFFFFFF, np.uint32)
    places = np.arange(num_rows, dtype=np.int32)
    changes = Changes(Places.none(), Masks(words, places))
    us = wall_us(lambda: ops.adjust(logits, changes))
    bench.lines.fact(case, "us", us, bytes_us(bench, words.nbytes), "bytes over bandwidth", note="masks, with the host")


def sorted_sample(logits: torch.Tensor) -> torch.Tensor:
    ordered, ids = logits.softmax(-1).sort(descending=True)
    ordered[:, 50:] = 0
    before = ordered.cumsum(-1) - ordered
    kept = ordered * (before < 0.9 * ordered.sum(-1, keepdim=True))
    return ids.gather(1, torch.multinomial(kept, 1))


def copies(bench: Bench, case: str) -> None:
    _, num_kv_heads, head_dim = bench.sizes.heads
    layers, ops = 32 if bench.device.type == "cuda" else 1, bench.ops()
    kv = ops.kv(KVShape(layers, 256, bench.sizes.block_size, num_kv_heads, head_dim))
    pairs = [BlockCopy(nth, 128 + nth, bench.sizes.block_size) for nth in range(64)]
    us = wall_us(lambda: ops.copy_blocks(kv, pairs))
    bench.lines.fact(case, "us", us, bytes_us(bench, 2 * 64 * kv.num_bytes / 256), "bytes over bandwidth")

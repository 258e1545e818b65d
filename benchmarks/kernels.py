"""GPU kernels: what they compile to and move, without a GPU, and how fast they are, with one.

    python benchmarks/kernels.py --tables      registers, shared memory, occupancy, instructions, for four architectures
    python benchmarks/kernels.py --model       bytes moved by decode against the ideal, contexts of 1k to 128k
    python benchmarks/kernels.py --json FILE   on a GPU: against torch SDPA, FlexAttention, torch's products and sort

`--tables` and `--model` write Markdown, which docs/measurements/kernels-gpu*.md hold.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.attention.flex_attention import flex_attention

from stemma.kernels.ops import AttentionMetadata, AttentionSpec, KVShape, SamplingRows, SharedPrefix
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.packing import DenseLinear, PackedLinear
from stemma.kernels.triton.plan import PIECE, Cutting, cut
from stemma.kernels.triton.targets import PROVED
from stemma.kernels.triton.traffic import attention_traffic, ideal_bytes


class Row(NamedTuple):
    """Times in microseconds, bandwidths in GB/s, bytes as a factor; ratio = ours / peer."""

    case: str
    metric: str
    ours: float
    peer: float
    peer_name: str

    def as_dict(self) -> dict[str, Any]:
        return {**self._asdict(), "ratio": self.ours / self.peer}


# Layouts -------------------------------------------------------------------------------------------------------------
def decode_layout(batch: int, context: int, block_size: int, num_shared: int = 0) -> AttentionMetadata:
    """One token a sequence; the first `num_shared` blocks are common to all of them."""
    width = -(-context // block_size)
    own = np.arange(batch * width, dtype=np.int32).reshape(batch, width)
    own[:, :num_shared] = own[0, :num_shared]
    positions = np.full(batch, context - 1, dtype=np.int32)
    shared = (SharedPrefix(0, batch, num_shared),) if num_shared else ()
    slots = own[:, (context - 1) // block_size] * block_size + (context - 1) % block_size
    contexts = np.full(batch, context, dtype=np.int32)
    return AttentionMetadata(positions, slots, np.arange(batch + 1, dtype=np.int32), contexts, own, shared)


def extend_layout(cached: int, new: int, block_size: int) -> AttentionMetadata:
    """One sequence: `new` tokens behind `cached` ones."""
    positions = np.arange(cached, cached + new, dtype=np.int32)
    table = np.arange(-(-(cached + new) // block_size), dtype=np.int32)[None]
    starts, contexts = np.array([0, new], dtype=np.int32), np.array([cached + new], dtype=np.int32)
    return AttentionMetadata(positions, positions, starts, contexts, table)


# Without a GPU -------------------------------------------------------------------------------------------------------
MODEL_HEADS = ((32, 8, 128), (9, 3, 64), (28, 4, 128), (32, 4, 128), (32, 32, 128), (16, 8, 256))
CONTEXTS = tuple(1024 << shift for shift in range(8))


def byte_rows() -> Iterator[Row]:
    """Decode bytes over the ideal ones, the worst of the block sizes and batches of each row."""
    for num_heads, num_kv_heads, head_dim in MODEL_HEADS:
        for kv_bytes in (2, 1):
            for context in CONTEXTS:
                factors = []
                for block_size in (16, 32, 64, 128):
                    for batch in (1, 16):
                        metadata = decode_layout(batch, context, block_size)
                        shape = KVShape(1, 1, block_size, num_kv_heads, head_dim)
                        cutting = Cutting(num_heads // num_kv_heads, 16, 128, PIECE[kv_bytes], block_size)
                        moved = attention_traffic(metadata, cut(metadata, cutting), shape, num_heads, kv_bytes)
                        factors.append(moved.total / ideal_bytes(metadata, shape, kv_bytes))
                heads = f"{num_heads}/{num_kv_heads} heads of {head_dim}, {8 * kv_bytes}-bit KV"
                yield Row(f"{heads}, context {context}", "bytes", max(factors), 1.0, "ideal")


def print_model(rows: list[Row]) -> None:
    names = sorted({row.case.rsplit(", context ", 1)[0] for row in rows})
    factors = {row.case: row.ours for row in rows}
    print("| decode, bytes / ideal | " + " | ".join(f"{context // 1024}k" for context in CONTEXTS) + " |")
    print("|---|" + "---|" * len(CONTEXTS))
    for name in names:
        cells = (f"{factors[f'{name}, context {context}']:.3f}" for context in CONTEXTS)
        print(f"| {name} | " + " | ".join(cells) + " |")


def print_tables() -> None:
    for target in PROVED:
        command = (sys.executable, "-m", "stemma.kernels.triton.proof", target.name)
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(f"\n### {target.name}\n")
        print(
            "| kernel | warps | registers | shared | programs / SM | occupancy | matrix instructions | async | load |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        for row in sorted((json.loads(line) for line in done.stdout.splitlines()), key=lambda row: row["title"]):
            matrix = ", ".join(f"{count} {name}" for name, count in row["tensor_core"].items())
            print(
                f"| {row['title']} | {row['num_warps']} | {row['registers']} | {row['shared']:,} | {row['programs']} "
                f"| {row['occupancy']:.0%} | {matrix or '-'} | {row['async_copies'] or '-'} | {row['widest_load']} |"
            )


# On a GPU ------------------------------------------------------------------------------------------------------------
Timer = Callable[[Callable[[], object]], float]


class Sizes(NamedTuple):
    """What is measured; the tests shrink it."""

    heads: tuple[int, int, int] = (32, 8, 128)
    block_size: int = 16
    decode: tuple[tuple[int, int], ...] = ((1, 1024), (1, 32_768), (16, 4096), (64, 4096), (128, 1024))
    extend: tuple[tuple[int, int], ...] = ((0, 2048), (6144, 2048), (1500, 40))
    shared: tuple[tuple[int, int], ...] = ((16, 512), (128, 512), (128, 4096))
    linear: tuple[tuple[int, int], ...] = ((4096, 4096), (4096, 28_672))
    rows: tuple[int, ...] = (1, 16, 64, 512)
    vocabulary: int = 128_256
    samples: tuple[int, ...] = (1, 64)


class Device(NamedTuple):
    """Where and how to measure: `timer` in microseconds."""

    ops: TritonOps
    timer: Timer
    compiled: Callable[[Any], Any]


def filled(ops: TritonOps, shape: KVShape) -> Any:
    """A pool whose pages were written: timings on untouched pages are too good."""
    kv = ops.kv(shape)
    for tensor in kv.tensors:
        tensor.copy_(torch.randn(tensor.shape[1:], device=ops.device).expand(tensor.shape).to(tensor.dtype))
    return kv


def contiguous_kv(device: Device, batch: int, context: int, heads: tuple[int, int, int]) -> tuple[torch.Tensor, ...]:
    """What the peers attend to: no pages at all."""
    size = (batch, heads[1], context, heads[2])
    return tuple(torch.randn(size, device=device.ops.device, dtype=device.ops.dtype) for _ in range(2))


def copy_bandwidth(device: Device, num_bytes: int) -> float:
    """GB/s read and written by a copy on the device."""
    source = torch.empty(num_bytes, dtype=torch.uint8, device=device.ops.device)
    target = torch.empty_like(source)
    return 2 * num_bytes / device.timer(lambda: target.copy_(source)) / 1e3


def decode_rows(device: Device, sizes: Sizes, bandwidth: float) -> Iterator[Row]:
    ops, (num_heads, num_kv_heads, head_dim) = device.ops, sizes.heads
    spec = AttentionSpec(head_dim**-0.5)
    for batch, context in sizes.decode:
        metadata = decode_layout(batch, context, sizes.block_size)
        shape = KVShape(1, metadata.block_tables.size, sizes.block_size, num_kv_heads, head_dim)
        kv, plan = filled(ops, shape), ops.plan(metadata, shape)
        q = torch.randn(batch, num_heads, head_dim, device=ops.device, dtype=ops.dtype)
        ours = device.timer(lambda q=q, kv=kv, plan=plan: ops.attention(q, kv, 0, plan, spec))
        case = f"decode {batch} x {context}"
        gigabytes = ideal_bytes(metadata, shape, kv.keys.itemsize) / ours / 1e3
        yield Row(case, "GB/s of KV", gigabytes, bandwidth, "copy on the device")
        if kv.scales is None:
            k, v = contiguous_kv(device, batch, context, sizes.heads)
            yield from peer_rows(device, case, ours, q[:, :, None], k, v, causal=False)


def extend_rows(device: Device, sizes: Sizes) -> Iterator[Row]:
    ops, (num_heads, num_kv_heads, head_dim) = device.ops, sizes.heads
    spec = AttentionSpec(head_dim**-0.5)
    for cached, new in sizes.extend:
        metadata = extend_layout(cached, new, sizes.block_size)
        shape = KVShape(1, metadata.block_tables.size, sizes.block_size, num_kv_heads, head_dim)
        kv, plan = filled(ops, shape), ops.plan(metadata, shape)
        q = torch.randn(new, num_heads, head_dim, device=ops.device, dtype=ops.dtype)
        ours = device.timer(lambda q=q, kv=kv, plan=plan: ops.attention(q, kv, 0, plan, spec))
        k, v = contiguous_kv(device, 1, cached + new, sizes.heads)
        yield from peer_rows(device, f"extend {new} behind {cached}", ours, q.transpose(0, 1)[None], k, v, causal=True)


def peer_rows(
    device: Device, case: str, ours: float, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool
) -> Iterator[Row]:
    """SDPA and FlexAttention on contiguous KV; q: (batch, heads, queries, head_dim)."""
    offset = k.shape[2] - q.shape[2]
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril(offset) if causal else None
    whole = causal and offset == 0
    if whole:
        mask = None
    sdpa = device.timer(
        lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=whole, enable_gqa=True)
    )
    yield Row(case, "us", ours, sdpa, "torch SDPA")

    def future(score: torch.Tensor, _b: Any, _h: Any, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return torch.where(query + offset >= key, score, -float("inf"))

    flex = device.compiled(flex_attention)
    time = device.timer(lambda: flex(q, k, v, score_mod=future if causal else None, enable_gqa=True))
    yield Row(case, "us", ours, time, "FlexAttention")


def shared_rows(device: Device, sizes: Sizes) -> Iterator[Row]:
    """The same sequences with and without the hint that they share a prefix; 64 tokens of their own."""
    ops, (num_heads, num_kv_heads, head_dim) = device.ops, sizes.heads
    spec = AttentionSpec(head_dim**-0.5)
    for batch, prefix in sizes.shared:
        metadata = decode_layout(batch, prefix + 64, sizes.block_size, prefix // sizes.block_size)
        plain = AttentionMetadata(
            metadata.positions, metadata.slots, metadata.query_starts, metadata.context_lens, metadata.block_tables, ()
        )
        shape = KVShape(1, metadata.block_tables.size, sizes.block_size, num_kv_heads, head_dim)
        kv = filled(ops, shape)
        q = torch.randn(batch, num_heads, head_dim, device=ops.device, dtype=ops.dtype)
        ours, peer = (
            device.timer(lambda q=q, kv=kv, plan=plan: ops.attention(q, kv, 0, plan, spec))
            for plan in (ops.plan(metadata, shape), ops.plan(plain, shape))
        )
        yield Row(f"{batch} sequences over {prefix} shared tokens", "us", ours, peer, "without sharing")


def linear_rows(device: Device, sizes: Sizes) -> Iterator[Row]:
    ops = device.ops
    for in_features, out_features in sizes.linear:
        dense = DenseLinear(
            torch.randn(out_features, in_features, device=ops.device, dtype=ops.dtype), None, in_features, out_features
        )
        for num_rows in sizes.rows:
            x = torch.randn(num_rows, in_features, device=ops.device, dtype=ops.dtype)
            residual = torch.randn(num_rows, out_features, device=ops.device, dtype=ops.dtype)
            peer = device.timer(lambda x=x, r=residual, dense=dense: ops.linear_add(x, dense, r))
            for four_bits in (True, False):
                packed = random_packed(in_features, out_features, four_bits, ops.device)
                ours = device.timer(lambda x=x, r=residual, packed=packed: ops.linear_add(x, packed, r))
                case = f"{'Q4_1' if four_bits else 'Q8_0'} {in_features} -> {out_features}, {num_rows} rows"
                yield Row(case, "us", ours, peer, "torch, 16-bit weights")


def random_packed(in_features: int, out_features: int, four_bits: bool, device: torch.device) -> PackedLinear:
    width, kind = (in_features // 2, torch.uint8) if four_bits else (in_features, torch.int8)
    codes = torch.randint(0, 127, (out_features, width), device=device, dtype=kind)
    scales = torch.rand(out_features, in_features // 32, device=device).to(torch.float16) * 0.01
    return PackedLinear(codes, scales, -8 * scales if four_bits else None, None, in_features, out_features)


def sampling_rows(device: Device, sizes: Sizes) -> Iterator[Row]:
    """Top-k and top-p together, against softmax, sort and cumulative sums in torch."""
    for num_rows in sizes.samples:
        logits = torch.randn(num_rows, sizes.vocabulary, device=device.ops.device) * 4
        ones = np.ones(num_rows, np.float32)
        rows = SamplingRows(ones, np.full(num_rows, 50, np.int32), 0.9 * ones, 0 * ones, np.full(num_rows, 0.5))
        ours = device.timer(lambda logits=logits, rows=rows: device.ops.sample(logits, rows))
        peer = device.timer(lambda logits=logits: torch_sample(logits))
        yield Row(f"sample {num_rows} x {sizes.vocabulary}", "us", ours, peer, "torch.sort")


def torch_sample(logits: torch.Tensor) -> torch.Tensor:
    ordered, ids = logits.softmax(-1).sort(descending=True)
    ordered[:, 50:] = 0
    before = ordered.cumsum(-1) - ordered
    kept = ordered * (before < 0.9 * ordered.sum(-1, keepdim=True))
    return ids.gather(1, torch.multinomial(kept, 1)).cpu()


def device_rows(device: Device, sizes: Sizes) -> Iterator[Row]:
    bandwidth = copy_bandwidth(device, 1 << 30 if device.ops.device.type == "cuda" else 1 << 16)
    yield from decode_rows(device, sizes, bandwidth)
    yield from extend_rows(device, sizes)
    yield from shared_rows(device, sizes)
    yield from linear_rows(device, sizes)
    yield from sampling_rows(device, sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="store_true", help="bytes moved against the ideal; needs no GPU")
    parser.add_argument("--tables", action="store_true", help="what the kernels compile to; needs no GPU")
    parser.add_argument("--kv", choices=("activation", "int8", "fp8"), default="activation")
    parser.add_argument("--json", type=Path, help="write the rows there")
    options = parser.parse_args()
    if options.tables:
        print_tables()
        return
    if options.model:
        rows = list(byte_rows())
        print_model(rows)
    else:
        rows = measure(options.kv)
    if options.json:
        options.json.write_text(json.dumps({"rows": [row.as_dict() for row in rows]}, indent=1))


def measure(kv_type: Any) -> list[Row]:
    if not torch.cuda.is_available():
        raise SystemExit("there is no GPU here: --model and --tables need none")
    from triton.testing import do_bench

    ops = TritonOps(torch.device("cuda"), torch.bfloat16, kv_type)
    device = Device(ops, lambda function: 1e3 * do_bench(function, return_mode="median"), torch.compile)
    rows = []
    for row in device_rows(device, Sizes()):
        rows.append(row)
        print(f"{row.case:45} {row.metric:12} {row.ours:10.1f} {row.peer:10.1f} {row.peer_name}")
    return rows


if __name__ == "__main__":
    main()

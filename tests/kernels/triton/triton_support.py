"""What the checks in this folder share: a device, metadata, pools with poison around them, the reference in float64.

On a machine with a GPU the checks run on it; elsewhere in Triton's interpreter, on the CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import triton

from stemma.kernels.ops import AttentionMetadata, AttentionSpec, HeadShape, KVShape, SharedPrefix
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.reference_values import ReferenceKV
from stemma.kernels.triton.kv import TritonKV
from stemma.kernels.triton.ops import TritonOps

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
INTERPRETED = bool(triton.knobs.runtime.interpret)
FLOATS = [torch.float32, torch.float16, torch.bfloat16] if INTERPRETED else [torch.float16, torch.bfloat16]
EXACT = FLOATS[0]
TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def guarded(shape: Sequence[int], dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """A tensor of ones between two regions of ones: (the tensor, all of it). 16-byte aligned."""
    size = int(np.prod(shape))
    whole = torch.ones(size + 256, dtype=dtype, device=DEVICE)
    return whole[128 : 128 + size].view(*shape), whole


def assert_guards(whole: torch.Tensor) -> None:
    assert (whole[:128] == 1).all()
    assert (whole[-128:] == 1).all()


def metadata_of(
    sequences: Sequence[tuple[int, int]], block_size: int, shared: Sequence[tuple[int, int, int]] = (), seed: int = 0
) -> tuple[AttentionMetadata, int]:
    """A metadata of (cached, new) tokens per sequence in scattered blocks, and the number of blocks of its pool.

    shared: (first, last, number of common blocks). Block 0 is nobody's: it is what tables are padded with.
    """
    rng = np.random.default_rng(seed)
    counts = [-(-(cached + new) // block_size) for cached, new in sequences]
    num_blocks = 2 + sum(counts)
    free = list(rng.permutation(np.arange(1, num_blocks)))
    tables = [[free.pop() for _ in range(count)] for count in counts]
    for first, last, num_shared in shared:
        for index in range(first + 1, last):
            tables[index][:num_shared] = tables[first][:num_shared]
    padded = np.zeros((len(tables), max(counts)), dtype=np.int32)
    for row, table in zip(padded, tables, strict=True):
        row[: len(table)] = table
    positions = [np.arange(cached, cached + new) for cached, new in sequences]
    slots = [
        np.array(table)[rows // block_size] * block_size + rows % block_size
        for table, rows in zip(tables, positions, strict=True)
    ]
    metadata = AttentionMetadata(
        np.concatenate(positions).astype(np.int32),
        np.concatenate(slots).astype(np.int32),
        np.cumsum([0] + [new for _, new in sequences]).astype(np.int32),
        np.array([cached + new for cached, new in sequences], dtype=np.int32),
        padded,
        tuple(SharedPrefix(*prefix) for prefix in shared),
    )
    return metadata, num_blocks


def used_slots(metadata: AttentionMetadata, block_size: int) -> torch.Tensor:
    """Every slot that some sequence's context covers."""
    slots = [
        (table[:, None] * block_size + np.arange(block_size)).reshape(-1)[:length]
        for table, length in zip(metadata.block_tables.astype(np.int64), metadata.context_lens, strict=True)
    ]
    return torch.from_numpy(np.unique(np.concatenate(slots)))


def by_slot(pool: torch.Tensor) -> torch.Tensor:
    """(layers, blocks, kv_heads, block_size, ...) -> (layers, slots, kv_heads, ...), on the CPU, float64."""
    moved = pool.cpu().to(torch.float64).transpose(2, 3)
    return moved.reshape(moved.shape[0], -1, *moved.shape[3:])


def real_values(kv: TritonKV) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values by slot, scales applied."""
    keys, values = by_slot(kv.keys), by_slot(kv.values)
    if kv.scales is not None:
        keys, values = keys * by_slot(kv.scales[0])[..., None], values * by_slot(kv.scales[1])[..., None]
    return keys, values


def filled_kv(ops: TritonOps, shape: KVShape, metadata: AttentionMetadata, seed: int = 0) -> TritonKV:
    """A pool with noise in the slots of the metadata's contexts, and what no kernel may read, NaN, everywhere else."""
    generator = torch.Generator().manual_seed(seed)
    kv = ops.kv(shape)
    slots = used_slots(metadata, shape.block_size)
    unused = torch.ones(shape.num_blocks * shape.block_size, dtype=torch.bool)
    unused[slots] = False
    unused = unused.view(1, shape.num_blocks, 1, shape.block_size)
    for tensor in (kv.keys, kv.values):
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.dtype == torch.int8:
            noise = (noise * 40).clamp(-127, 127)
        else:
            noise = torch.where(unused[..., None], torch.nan, noise)
        tensor.copy_(noise.to(tensor.dtype))
    for scales in kv.scales or ():
        noise = torch.rand(scales.shape, generator=generator) * 0.05 + 0.01
        scales.copy_(torch.where(unused, torch.nan, noise))
    return kv


def reference_of(kv: TritonKV) -> tuple[ReferenceOps, ReferenceKV]:
    """The reference in float64 with the same KV."""
    keys, values = real_values(kv)
    return ReferenceOps(torch.device("cpu"), torch.float64), ReferenceKV(kv.shape, keys, values)


def assert_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float) -> None:
    """Within `tolerance` of the largest expected magnitude, and no NaN."""
    actual, expected = actual.cpu().to(torch.float64), expected.cpu().to(torch.float64)
    assert actual.shape == expected.shape
    assert torch.isfinite(actual).all()
    error = (actual - expected).abs().max().item()
    assert error <= tolerance * max(1.0, expected.abs().max().item()), f"largest error {error}"


def plain(q: torch.Tensor) -> AttentionSpec:
    """Attention as most models have it."""
    return AttentionSpec(q.shape[-1] ** -0.5)


def heads_of(num_heads: int, num_kv_heads: int, head_dim: int) -> HeadShape:
    return HeadShape(num_heads, num_kv_heads, head_dim)


def clone_kv(kv: Any) -> tuple[torch.Tensor, ...]:
    return tuple(tensor.clone() for tensor in kv.tensors)

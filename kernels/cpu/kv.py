"""The paged KV pool and its kernel: rotate Q and K, write K and V to their slots. `attention.py` draws the layout."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numpy.lib.stride_tricks import as_strided

from stemma.kernels.cpu.attention import Shape
from stemma.kernels.cpu.dialect import I32, I64, Code, Value
from stemma.kernels.cpu.linear import set_words
from stemma.kernels.cpu.pool import ARGUMENTS, add_parallel
from stemma.kernels.cpu.rows import ROPE, _words, norm_head, rotate
from stemma.kernels.cpu.store import ELEMENTS, element_bytes, region_bytes, store_kv
from stemma.kernels.ops import KVShape

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class CpuKV:
    """memory: keys, then values, as bytes (2, layers, blocks, bytes of a block); the rest are views into it.

    keys: (layers, blocks, kv_heads, head_dim, block_size); values: (..., block_size, head_dim), bf16 as uint16.
    key_scales, value_scales: (layers, blocks, kv_heads, block_size); no blocks where the dtype has no scales.
    """

    shape: KVShape
    memory: Array
    keys: Array
    values: Array
    key_scales: Array
    value_scales: Array
    key_addresses: tuple[int, ...]
    value_addresses: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return self.memory.nbytes


def allocate(shape: KVShape, kv_dtype: str) -> CpuKV:
    """Pages of zeros that the system hands out when they are first written. Raises MemoryError."""
    region = region_bytes(shape.head_dim, shape.block_size, kv_dtype)
    block_bytes = shape.num_kv_heads * region
    num_bytes = 2 * shape.num_layers * shape.num_blocks * block_bytes
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if num_bytes > installed:
        raise MemoryError(f"a KV pool of {num_bytes:,} bytes does not fit a machine of {installed:,} bytes")
    memory = _zeros(num_bytes).reshape(2, shape.num_layers, shape.num_blocks, block_bytes)
    cells, scales = [], []
    for pool, order in zip(
        memory, ((shape.head_dim, shape.block_size), (shape.block_size, shape.head_dim)), strict=True
    ):
        regions = pool.reshape(*pool.shape[:2], shape.num_kv_heads, region)
        dtype = np.dtype(ELEMENTS[kv_dtype])
        used = shape.head_dim * shape.block_size * dtype.itemsize
        inner = (order[1] * dtype.itemsize, dtype.itemsize)
        cells.append(
            as_strided(regions[..., :used].view(dtype), (*regions.shape[:3], *order), regions.strides[:3] + inner)
        )
        scales.append(regions[..., used:].view(np.float32))
    addresses = [tuple(pool[layer].ctypes.data for layer in range(shape.num_layers)) for pool in memory]
    return CpuKV(shape, memory, cells[0], cells[1], scales[0], scales[1], addresses[0], addresses[1])


def _zeros(num_bytes: int) -> Array:
    try:
        return np.frombuffer(mmap.mmap(-1, num_bytes), dtype=np.uint8)
    except (OSError, ValueError) as error:
        raise MemoryError(f"no {num_bytes:,} bytes for the KV pool") from error


def add_rope_write(module: ir.Module, shape: Shape) -> None:
    """rope_write(control, qkv, q_out, q_norm, k_norm, cos, sin, keys, values, positions, slots, rows, threads)"""
    parallel = module.globals.get("parallel") or add_parallel(module)
    kernel = _add_rows(module, shape)
    code = Code(module, "rope_write", 13)
    control, *rest, rows, threads = code.arguments
    names = ROPE[: len(rest)]
    per_piece = code.select(rows < 8, rows, (rows + threads * 4 - 1) // (threads * 4))
    words = dict(zip(names, rest, strict=True)) | {"rows": rows, "rows_per_piece": per_piece}
    set_words(code, control + 8 * ARGUMENTS, ROPE, words)
    code.call(parallel, control, code.address_of(kernel), (rows + per_piece - 1) // per_piece)
    code.finish()


def _add_rows(module: ir.Module, shape: Shape) -> ir.Function:
    code = Code(module, "rope_rows", 3)
    address, piece, scratch = code.arguments
    job = _words(code, address, ROPE)
    first = piece * job["rows_per_piece"]
    with code.loop(first, code.minimum(first + job["rows_per_piece"], job["rows"])) as row:
        heads = shape.num_heads + 2 * shape.num_kv_heads
        size = shape.head_dim * 4
        source = job["qkv"] + row * (heads * size)
        position = code.load(I32, job["positions"] + row * 4).to(I64)
        cos, sin = (job[name] + position * (size // 2) for name in ("cos", "sin"))
        with code.loop(0, shape.num_heads) as head:
            norm_head(code, source + head * size, scratch, job["q_norm"], shape.head_dim)
            rotate(code, scratch, job["q_out"] + (row * shape.num_heads + head) * size, cos, sin, shape.head_dim)
        slot = code.load(I32, job["slots"] + row * 4).to(I64)
        block = slot.unsigned_divide(shape.block_size)
        offset = slot.unsigned_modulo(shape.block_size)
        with code.loop(0, shape.num_kv_heads) as head:
            inside = (block * shape.num_kv_heads + head) * shape.region_bytes
            key = source + (head + shape.num_heads) * size
            norm_head(code, key, scratch, job["k_norm"], shape.head_dim)
            rotate(code, scratch, scratch + size, cos, sin, shape.head_dim)
            scales = inside + (shape.head_dim * shape.block_size) + offset * 4
            store_kv(code, shape.kv_dtype, shape.head_dim, scratch + size, scratch, job["keys"] + scales)
            _scatter(code, shape, scratch, job["keys"] + inside, offset)
            value = source + (head + (shape.num_heads + shape.num_kv_heads)) * size
            target = job["values"] + inside + offset * (shape.head_dim * element_bytes(shape.kv_dtype))
            store_kv(code, shape.kv_dtype, shape.head_dim, value, target, job["values"] + scales)
    return code.finish()


def _scatter(code: Code, shape: Shape, key: Value, region: Value, offset: Value) -> None:
    """A stored key's dimensions to their places, a block's width apart."""
    size = element_bytes(shape.kv_dtype)
    kind = ir.IntType(8 * size)
    with code.loop(0, shape.head_dim) as d:
        code.store(code.load(kind, key + d * size), region + (d * shape.block_size + offset) * size)

"""The paged KV pool and its kernel: rotate Q and K, write K and V to their slots. `attention.py` draws the layout."""

from __future__ import annotations

import mmap
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from stemma.kernels.cpu.attention import Shape
from stemma.kernels.cpu.dialect import FLOAT, I32, I64, Code, Value
from stemma.kernels.cpu.linear import set_words
from stemma.kernels.cpu.pool import ARGUMENTS, add_parallel
from stemma.kernels.cpu.rows import ROPE, _words, norm_head, rotate
from stemma.kernels.ops import KVShape

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class CpuKV:
    """keys: (layers, blocks, kv_heads, head_dim, block_size); values: (..., block_size, head_dim)."""

    shape: KVShape
    keys: Array
    values: Array
    key_addresses: tuple[int, ...]
    value_addresses: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        return self.keys.nbytes + self.values.nbytes


def allocate(shape: KVShape) -> CpuKV:
    """Pages of zeros that the system hands out when they are first written. Raises MemoryError."""
    inner = shape.num_kv_heads * shape.head_dim * shape.block_size
    num_bytes = shape.num_layers * shape.num_blocks * inner * 4
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 2 * num_bytes > installed:
        raise MemoryError(f"a KV pool of {2 * num_bytes:,} bytes does not fit a machine of {installed:,} bytes")
    head = (shape.num_layers, shape.num_blocks, shape.num_kv_heads)
    keys = _zeros(num_bytes).reshape(*head, shape.head_dim, shape.block_size)
    values = _zeros(num_bytes).reshape(*head, shape.block_size, shape.head_dim)
    places = [tuple(pool[layer].ctypes.data for layer in range(shape.num_layers)) for pool in (keys, values)]
    return CpuKV(shape, keys, values, places[0], places[1])


def _zeros(num_bytes: int) -> Array:
    try:
        return np.frombuffer(mmap.mmap(-1, num_bytes), dtype=np.float32)
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
            inside = (block * shape.num_kv_heads + head) * (shape.head_dim * shape.block_size)
            key = source + (head + shape.num_heads) * size
            norm_head(code, key, scratch, job["k_norm"], shape.head_dim)
            rotate(code, scratch, scratch + size, cos, sin, shape.head_dim)
            _write_key(code, shape, scratch + size, job["keys"] + (inside + offset) * 4)
            value = source + (head + (shape.num_heads + shape.num_kv_heads)) * size
            with code.loop(0, shape.head_dim) as d:
                place = job["values"] + (inside + offset * shape.head_dim + d) * 4
                code.store(code.load(FLOAT, value + d * 4), place)
    return code.finish()


def _write_key(code: Code, shape: Shape, key: Value, target: Value) -> None:
    with code.loop(0, shape.head_dim) as d:
        code.store(code.load(FLOAT, key + d * 4), target + d * (4 * shape.block_size))

"""The paged KV pool and its kernel: rotate Q and K, write K and V to their slots. `cells.py` and `float_tiles.py`
draw the layouts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from stemma.kernels.cpu.attention import cells
from stemma.kernels.cpu.attention.kv_dtypes import element_bytes, region_bytes, store_kv
from stemma.kernels.cpu.attention.tiles import Shape
from stemma.kernels.cpu.machine.ahead import PagesAhead
from stemma.kernels.cpu.machine.dialect import FLOAT, I32, I64, Code, Value, vector
from stemma.kernels.cpu.machine.pages import lazy_zeros
from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.machine.threads import ARGUMENTS, add_parallel
from stemma.kernels.cpu.machine.words import read_words, set_words
from stemma.kernels.cpu.rows.activations import rotate
from stemma.kernels.cpu.rows.norms import features_of, is_centred, norm_head, norm_head_centred
from stemma.kernels.ops import Int32Array, KVShape

Array = npt.NDArray[Any]
READ_BEYOND = 1024
"""A tile of keys may reach beyond a cell (`matrix_tiles.py`), so also beyond the last one."""


ROPE = ("qkv", "q_out", "q_norm", "k_norm", "v_norm", "norms_behind", "cos", "sin", "keys", "values", "block_stride",
        "positions", "slots", "rows", "rows_per_piece")  # fmt: skip
"""What rope_write is told: addresses (of norms and angles 0 where there are none), then numbers. norms_behind: 1 if
heads are rotated before they are normed."""


@dataclass(frozen=True, slots=True, eq=False)
class CpuKV:
    """memory: bytes (blocks, layers, keys and values or keys alone, bytes of all heads of a block). A block of all
    layers stands together, so that a copy is one stretch, and so that few large pages hold what is in use.

    format: how its bytes are read, for snapshots: int16 has the machine's own layout.
    *_addresses: of each layer, in block 0; block_stride: bytes from block to block.
    """

    shape: KVShape
    memory: Array
    key_addresses: tuple[int, ...]
    value_addresses: tuple[int, ...]
    block_stride: int
    format: str
    ahead: PagesAhead

    @property
    def num_bytes(self) -> int:
        return self.memory.nbytes


def allocate(shape: KVShape, kv_dtype: str, target: Target) -> CpuKV:
    """Zeros, whose pages the system hands out a little before they are written. Raises MemoryError."""
    block_bytes = shape.num_kv_heads * region_bytes(shape.head_dim, shape.block_size, kv_dtype)
    sides = 1 if shape.value_dim else 2  # keys and values
    num_bytes = sides * shape.num_layers * shape.num_blocks * block_bytes
    memory = lazy_zeros(num_bytes, "a KV pool", READ_BEYOND)
    memory = memory.reshape(shape.num_blocks, shape.num_layers, sides, block_bytes)
    keys = [memory.ctypes.data + sides * layer * block_bytes for layer in range(shape.num_layers)]
    values = tuple(key + (sides - 1) * block_bytes for key in keys)
    format = f"{kv_dtype}/{cells.layout_of(target).name}" if kv_dtype == "int16" else kv_dtype
    return CpuKV(shape, memory, tuple(keys), values, memory.strides[0], format, PagesAhead(memory))


def put_blocks(kv: CpuKV, blocks: Int32Array, data: bytes) -> None:
    """Bytes that blocks had. Raises ValueError if the size does not fit."""
    shape = (len(blocks), *kv.memory.shape[1:])
    if len(data) != int(np.prod(shape)):
        raise ValueError(
            f"{len(data)} bytes do not fit {len(blocks)} blocks of {kv.shape}; the snapshot is another model's"
        )
    kv.memory[blocks] = np.frombuffer(data, dtype=np.uint8).reshape(shape)


def add_rope_write(module: ir.Module, shape: Shape) -> None:
    """rope_write(control, qkv, q_out, q_norm, k_norm, v_norm, norms_behind, cos, sin, keys, values, block_stride,
    positions, slots, rows, threads)"""
    parallel = module.globals.get("parallel") or add_parallel(module)
    kernel = _add_rows(module, shape)
    code = Code(module, "rope_write", 16)
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
    job = read_words(code, address, ROPE)
    first = piece * job["rows_per_piece"]
    size = shape.head_dim * 4
    turned = scratch + max(size, cells.record_bytes(shape.head_dim))  # the row's keys
    with code.loop(first, code.minimum(first + job["rows_per_piece"], job["rows"])) as row:
        heads = shape.num_heads + 2 * shape.num_kv_heads
        source = job["qkv"] + row * (heads * size)
        queries, keys = (source, shape.num_heads), (source + shape.num_heads * size, shape.num_kv_heads)
        position = code.load(I32, job["positions"] + row * 4).to(I64)
        _turn(code, shape, job, queries, job["q_norm"], position, job["q_out"] + row * (shape.num_heads * size))
        _turn(code, shape, job, keys, job["k_norm"], position, turned)
        values = _values(code, shape, job["v_norm"], keys[0] + shape.num_kv_heads * size, turned)
        slot = code.load(I32, job["slots"] + row * 4).to(I64)
        block = slot.unsigned_divide(shape.block_size)
        offset = slot.unsigned_modulo(shape.block_size)
        with code.when(slot > -1), code.loop(0, shape.num_kv_heads) as head:
            inside = block * job["block_stride"] + head * shape.region_bytes
            value = values + head * size
            write = _write_integers if shape.kv_dtype == "int16" else _write_floats
            key = turned + head * size
            write(code, shape, key, value, job["keys"] + inside, job["values"] + inside, offset, scratch)
    return code.finish()


def _values(code: Code, shape: Shape, norm: Value, values: Value, turned: Value) -> Value:
    """Where a row's values are, normed if they are to be: behind the keys."""
    size = shape.head_dim * 4
    normed = turned + shape.num_kv_heads * size
    with code.when(norm.differs(0)), code.loop(0, shape.num_kv_heads) as head:
        norm_head(code, values + head * size, normed + head * size, norm, features_of(code, norm), shape.head_dim)
    return code.select(norm.equals(0), values, normed)


def _turn(
    code: Code, shape: Shape, job: dict[str, Value], heads: tuple[Value, int], norm: Value, position: Value, out: Value
) -> None:
    """Heads of a row, normed and rotated, or rotated and normed, or as they are. heads: their address and number."""
    number, size = heads[1], shape.head_dim * 4
    cos, sin = (job[name] + position * (size // 2) for name in ("cos", "sin"))
    before = code.select(job["norms_behind"].equals(0), norm, code.constant(I64, 0))
    _norm_heads(code, shape, heads, before, out)
    with code.when(job["cos"].differs(0)), code.loop(0, number) as head:
        place = out + head * size
        rotate(code, place, place, cos, sin, shape.head_dim)
    with code.when(norm.differs(before)):
        _norm_heads(code, shape, (out, number), norm, out)


def _norm_heads(code: Code, shape: Shape, heads: tuple[Value, int], norm: Value, out: Value) -> None:
    """Each head by itself or all together, as the norm is wide; by a layer norm, each with weights of its own."""
    source, number = heads
    size = shape.head_dim * 4
    with code.either(norm.equals(0)) as (plain, asked):
        with plain, code.loop(0, number * shape.head_dim, shape.dim_lanes) as i:
            code.store(code.load(vector(FLOAT, shape.dim_lanes), source + i * 4), out + i * 4)
        with asked, code.either(is_centred(code, norm).equals(0)) as (by_root, centred):
            with by_root:
                count = features_of(code, norm)
                with code.either(count.equals(shape.head_dim)) as (single, together):
                    with single, code.loop(0, number) as head:
                        norm_head(code, source + head * size, out + head * size, norm, count, shape.head_dim)
                    with together:
                        norm_head(code, source, out, norm, count, number * shape.head_dim)
            with centred, code.loop(0, number) as head:
                norm_head_centred(code, source + head * size, out + head * size, norm, head, shape.head_dim)


def write_key(code: Code, shape: Shape, key: Value, region: Value, offset: Value, scratch: Value) -> None:
    """One head's key, which has no value beside it, to its place in a block."""
    if shape.kv_dtype != "int16":
        store_kv(code, shape.kv_dtype, shape.head_dim, key, scratch, _scales(shape, region, offset))
        _scatter(code, shape, scratch, region, offset)
        return
    record = scratch if cells.in_cells(shape.block_size) else region + offset * cells.record_bytes(shape.head_dim)
    layout = cells.layout_of(shape.target)
    layout.write_record(code, key, shape.head_dim, record, keys=True)
    if cells.in_cells(shape.block_size):
        cell = region + offset.unsigned_divide(cells.TOKENS) * cells.cell_bytes(shape.head_dim)
        layout.put_key(code, record, shape.head_dim, cell, offset.unsigned_modulo(cells.TOKENS))


def _write_integers(
    code: Code, shape: Shape, key: Value, value: Value, keys: Value, values: Value, offset: Value, scratch: Value
) -> None:
    layout = cells.layout_of(shape.target)
    for source, region, put in ((key, keys, layout.put_key), (value, values, layout.put_value)):
        if cells.in_cells(shape.block_size):
            cell = offset.unsigned_divide(cells.TOKENS) * cells.cell_bytes(shape.head_dim)
            layout.write_record(code, source, shape.head_dim, scratch, keys=source is key)
            put(code, scratch, shape.head_dim, region + cell, offset.unsigned_modulo(cells.TOKENS))
        else:
            record = region + offset * cells.record_bytes(shape.head_dim)
            layout.write_record(code, source, shape.head_dim, record, keys=source is key)


def _write_floats(
    code: Code, shape: Shape, key: Value, value: Value, keys: Value, values: Value, offset: Value, scratch: Value
) -> None:
    store_kv(code, shape.kv_dtype, shape.head_dim, key, scratch, _scales(shape, keys, offset))
    _scatter(code, shape, scratch, keys, offset)
    target = values + offset * (shape.head_dim * element_bytes(shape.kv_dtype))
    store_kv(code, shape.kv_dtype, shape.head_dim, value, target, _scales(shape, values, offset))


def _scales(shape: Shape, region: Value, offset: Value) -> Value:
    """Where a token's scale stands, if KV has scales: behind all numbers, which are of one byte then."""
    return region + (offset * 4 + shape.head_dim * shape.block_size)


def _scatter(code: Code, shape: Shape, key: Value, region: Value, offset: Value) -> None:
    """A stored key's dimensions to their places, a block's width apart."""
    size = element_bytes(shape.kv_dtype)
    kind = ir.IntType(8 * size)
    with code.loop(0, shape.head_dim) as d:
        code.store(code.load(kind, key + d * size), region + (d * shape.block_size + offset) * size)

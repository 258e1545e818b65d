"""Paged attention, one operation for decode, extend and shared prefixes: the tiles of a plan on all threads, then the
merge of what tiles put into memory. `tiles.py` says what a tile is; how it computes depends on how the KV is stored.

    int16                          `word_tiles.py`; on NEON and with AMX `digit_tiles.py`, with AMX for tiles of
                                   several rows `matrix_tiles.py`
    float32, bfloat16, int8        `float_tiles.py`
"""

from __future__ import annotations

from llvmlite import ir

from stemma.kernels.cpu.attention.cells import layout_of
from stemma.kernels.cpu.attention.digit_tiles import DigitTiles
from stemma.kernels.cpu.attention.float_tiles import FloatTiles
from stemma.kernels.cpu.attention.matrix_tiles import MatrixTiles
from stemma.kernels.cpu.attention.tiles import (
    ITEM,
    ITEM_AT,
    JOB,
    PLAN,
    SPEC,
    Shape,
    Tiles,
    clear,
    divide,
    first_seen,
    lowest_position,
    matrix_unit,
    merge,
    planned_rows,
)  # fmt: skip
from stemma.kernels.cpu.attention.word_tiles import WordTiles
from stemma.kernels.cpu.machine.dialect import I32, I64, Code, Value
from stemma.kernels.cpu.machine.threads import ARGUMENTS, add_parallel
from stemma.kernels.cpu.machine.words import read_words, set_words
from stemma.kernels.ops import KV_SPLIT

MANY = 32
"""Heads that share a KV head, from which one row is worth the matrix unit."""


def add_attention(module: ir.Module, shape: Shape) -> None:
    """attend(control, q, out, keys, values, block_stride, plan, spec): a plan's tiles, then the merge of what they
    left. plan, spec: addresses of the words PLAN and SPEC."""
    parallel = module.globals.get("parallel") or add_parallel(module)
    kind: type[Tiles] = FloatTiles
    if shape.kv_dtype == "int16":
        kind = WordTiles if layout_of(shape.target).words else DigitTiles
    together = MatrixTiles if matrix_unit(shape.target, shape.kv_dtype) else kind
    single = (together if shape.group >= MANY else kind)(module, shape, 1, "tile_1").write()
    several = together(module, shape, shape.tile_rows, "tile_several").write()
    tile = _add_tile(module, shape, single, several)
    merged = _add_merge(module, shape)
    code = Code(module, "attend", 8)
    control, *given, plan, spec = code.arguments
    planned, asked = read_words(code, plan, PLAN), read_words(code, spec, SPEC)
    job = dict(zip(JOB, given, strict=False)) | planned | asked
    if shape.windowed:
        job["num_items"] = _find_live(code, job)
    set_words(code, control + 8 * ARGUMENTS, JOB, job)
    with code.when(job["num_items"] > 0):
        code.call(parallel, control, code.address_of(tile), job["num_items"] * shape.num_kv_heads)
    with code.when(planned["num_merged"] > 0):
        code.call(parallel, control, code.address_of(merged), planned["num_merged"] * shape.num_heads)
    code.finish()


def _find_live(code: Code, job: dict[str, Value]) -> Value:
    """Note the items of which the window of some row sees something; returns how many there are."""
    count = code.variable(0)
    with code.loop(0, job["num_items"]) as index:
        item = read_words(code, job["items"] + index * (8 * len(ITEM)), ITEM)
        with code.when(item["end_split"] * KV_SPLIT > first_seen(code, job, lowest_position(code, job, item))):
            code.store(index, job["live"] + count.value * 8, 8)
            count.value = count.value + 1
    return count.value


def _add_tile(module: ir.Module, shape: Shape, single: ir.Function, several: ir.Function) -> ir.Function:
    """One piece of the job: all tiles of a KV head stand together, so that its KV stays in the cache."""
    code = Code(module, "attend_tile", 3)
    address, piece, scratch = code.arguments
    job = read_words(code, address, JOB)
    head, index = piece // job["num_items"], piece % job["num_items"]
    if shape.windowed:
        index = code.load_int(job["live"] + index * 8)
    item = job["items"] + index * (8 * len(ITEM))
    with code.either(code.load_int(item, 1).equals(1)) as (one, more):
        with one:
            code.call(single, address, item, head, scratch)
        with more:
            if shape.tile_rows >= planned_rows(shape.target, shape.kv_dtype):
                code.call(several, address, item, head, scratch)
            else:
                _in_parts(code, shape, several, address, item, head, scratch)
    return code.finish()


def _in_parts(
    code: Code, shape: Shape, several: ir.Function, address: Value, item: Value, head: Value, scratch: Value
) -> None:
    """So many heads share a KV head that the tile's rows are not computed at once."""
    part = scratch + ITEM_AT
    for word in range(len(ITEM)):
        code.store(code.load_int(item, word), part + 8 * word, 8)
    first_row, rows = code.load_int(item), code.load_int(item, 1)
    with code.loop(0, rows, shape.tile_rows) as done:
        code.store(first_row + done, part, 8)
        code.store(code.minimum(rows - done, shape.tile_rows), part + 8, 8)
        code.call(several, address, part, head, scratch)


def _add_merge(module: ir.Module, shape: Shape) -> ir.Function:
    """Merge the parts of a row's head in order of position."""
    code = Code(module, "attend_merge", 3)
    address, piece, scratch = code.arguments
    job = read_words(code, address, JOB)
    head = piece.unsigned_modulo(shape.num_heads)
    row = code.load_int(job["merged_rows"] + piece.unsigned_divide(shape.num_heads) * 8)
    part = code.load_int(job["part_starts"] + row * 8)
    position = code.load(I32, job["positions"] + row * 4).to(I64)
    first = code.load_int(job["first_parts"] + piece.unsigned_divide(shape.num_heads) * 8)
    if shape.windowed:
        first = code.maximum(first, first_seen(code, job, position).unsigned_divide(KV_SPLIT))
    end = part + (position + KV_SPLIT) // KV_SPLIT
    clear(code, shape, scratch)
    with code.loop(part + first, end) as slot:
        merge(code, shape, scratch, job["parts"] + (slot * shape.num_heads + head) * (shape.part_floats * 4))
    target = job["out"] + (row * shape.num_heads + head) * (shape.value_width * 4)
    divide(code, shape, job, head, scratch, target)
    return code.finish()

"""Matrix products on packed weights.

Weights lie in strips of 16 outputs, the lanes of a vector; along the inputs a strip is read once, from first to last,
for up to 8 rows of activations. The sums of a row are formed in the same order whatever the number
of rows, the strip's neighbours and the thread: a row's result is the same bits in any batch.

    4 and 8 bits   tile of 16 outputs x 32 inputs; vector j holds inputs 4j .. 4j+3 of the 16 outputs, as bytes
                   4 bits: 4 vectors of nibbles, j in the low half, j + 4 in the high half; scales, minima in 16 bits
                   8 bits: 8 vectors; scales in 16 bits
    floats         pair of inputs x 16 outputs; even and odd inputs have a sum each
"""

from __future__ import annotations

from dataclasses import dataclass

from llvmlite import ir

from stemma.kernels.cpu import amx
from stemma.kernels.cpu.dialect import FLOAT, HALF, I16, I32, I64, Code, Value, vector
from stemma.kernels.cpu.pool import ARGUMENTS, add_parallel
from stemma.kernels.cpu.rows import FLOATS16, GATE, GROUP, GROUP_HALF, INTS16, PREPARE, _words
from stemma.kernels.cpu.target import VECTOR_BYTES, Target

STRIP = 16
QUANTIZED = ("q4", "q8")
FLOATING = ("bf16", "f16", "f32")
SEGMENT = ("prepare", "multiply", "quantized", "weights", "scales", "bias", "outputs", "first_output", "stride")
"""What a packed matrix tells its kernel: addresses, then sizes."""
PRODUCT = (*PREPARE, "segment", "out", "out_features", "add", "strips_per_piece", "strip_pieces", "rows_per_block")
AHEAD = 2048
"""Bytes of weights that are asked for before they are read: a strip comes from far away, line by line, and is read
faster than the machine's own prefetcher fetches it."""
ROW_BLOCK = 128
"""Rows of activations that stay in the second-level cache while the strips of a piece pass over them."""


@dataclass(frozen=True, slots=True)
class Strip:
    """One strip of one matrix, in the generated program."""

    weights: Value
    scales: Value
    blocks: Value


def add_products(module: ir.Module, target: Target, digits: int) -> None:
    """multiply_q4, multiply_q8, multiply_bf16, multiply_f16, multiply_f32: (arguments, piece, scratch)."""
    for kind in QUANTIZED + FLOATING:
        code = Code(module, f"multiply_{kind}", 3)
        address, piece, scratch = code.arguments
        job = _words(code, address, PRODUCT)
        segment = _words(code, job["segment"], SEGMENT)
        block, part = piece // job["strip_pieces"], piece % job["strip_pieces"]
        first_row = block * job["rows_per_block"]
        rows = (first_row, code.minimum(first_row + job["rows_per_block"], job["rows"]))
        first = part * job["strips_per_piece"]
        strips = (segment["outputs"] + (STRIP - 1)) // STRIP
        last = code.minimum(first + job["strips_per_piece"], strips)
        if kind in QUANTIZED:
            rows_at_once = [count for count in (8, 4, 2, 1) if count <= target.max_rows]
            if target.name != "amx":
                _sweep(code, kind, target, digits, job, segment, (first, last), rows, rows_at_once, 1)
                code.finish()
                continue
            with code.either(job["group"].equals(1)) as (single, grouped):
                with single:
                    at_once = [count for count in rows_at_once if count < amx.FROM]
                    _sweep(code, kind, target, digits, job, segment, (first, last), rows, at_once, 1)
                with grouped:
                    _sweep_groups(code, kind, digits, job, segment, (first, last), rows, scratch)
        else:
            wide = target.max_rows == 8
            few = code.variable(first)
            with code.when((rows[1] - rows[0]) < (4 if wide else 2)):
                several = 4 if wide else 2
                until = first + (last - first) // several * several
                at_once = [2, 1] if wide else [1]
                _sweep(code, kind, target, digits, job, segment, (first, until), rows, at_once, several)
                few.value = until
            at_once = [8, 4, 2, 1] if wide else [2, 1]
            _sweep(code, kind, target, digits, job, segment, (few.value, last), rows, at_once, 1)
        code.finish()


def _sweep(
    code: Code, kind: str, target: Target, digits: int, job: dict[str, Value], segment: dict[str, Value],
    strips: tuple[Value, Value], rows: tuple[Value, Value], rows_at_once: list[int], strips_at_once: int,
) -> None:  # fmt: skip
    """All rows against all strips of the range."""
    blocks = (job["features"] + 31) // 32
    with code.loop(*strips, strips_at_once) as first:
        row = code.variable(rows[0])
        for count in rows_at_once:
            with code.repeat(lambda count=count: row.value + count <= rows[1]):  # type: ignore[misc]
                start = job["prepared"] + row.value * job["prepared_stride"]
                inputs = [start + job["prepared_stride"] * i for i in range(count)]
                many = [_strip(kind, segment, first + i, blocks) for i in range(strips_at_once)]
                if kind in QUANTIZED:
                    sums = [[total] for total in _quantized(code, kind, target, digits, many[0], inputs)]
                else:
                    sums = _floating(code, kind, many, inputs)
                for i, row_sums in enumerate(sums):
                    for j, total in enumerate(row_sums):
                        _put(code, job, segment, row.value + i, first + j, total)
                row.value = row.value + count


def _sweep_groups(
    code: Code, kind: str, digits: int, job: dict[str, Value], segment: dict[str, Value],
    strips: tuple[Value, Value], rows: tuple[Value, Value], scratch: Value,
) -> None:  # fmt: skip
    """Groups of rows against all strips of the range, on the matrix unit."""
    half_full = rows[0] + (rows[1] - rows[0] + (GROUP_HALF - 1)) // GROUP * GROUP
    for first, last, count in ((rows[0], half_full, GROUP), (half_full, rows[1], GROUP_HALF)):
        with code.when(first < last):
            part = first, code.minimum(last, rows[1])
            amx.configure(code, scratch, count)
            with code.loop(*strips) as index:
                _sweep_strip(code, kind, digits, job, segment, index, part, count, scratch)
            amx.release(code)


def _sweep_strip(
    code: Code, kind: str, digits: int, job: dict[str, Value], segment: dict[str, Value], index: Value,
    rows: tuple[Value, Value], count: int, scratch: Value,
) -> None:  # fmt: skip
    blocks = (job["features"] + 31) // 32
    strip = _strip(kind, segment, index, blocks)
    tile = 256 if kind == "q4" else 512

    def unpack(block: Value) -> list[Value]:
        for line in range(0, tile, 64):
            code.prefetch(strip.weights + (block * tile + (AHEAD + line)))
        return _bytes(code, kind, strip.weights + block * tile)

    amx.unpack_strip(code, strip.scales, kind == "q4", blocks, scratch, unpack)
    offset = 128 if kind == "q8" else 0
    with code.loop(rows[0], rows[1], GROUP) as row:
        group = job["prepared"] + row * job["prepared_stride"]
        sums = amx.Product(code, count, kind == "q4", offset, blocks, group, scratch, digits).sums()
        for i, total in enumerate(sums):
            with code.when((row + i) < rows[1]):
                _put(code, job, segment, row + i, index, total)


def _strip(kind: str, segment: dict[str, Value], strip: Value, blocks: Value) -> Strip:
    tile, scales = {"q4": (256, 64), "q8": (512, 32), "f32": (2048, 0)}.get(kind, (1024, 0))
    return Strip(segment["weights"] + strip * blocks * tile, segment["scales"] + strip * blocks * scales, blocks)


def _put(code: Code, job: dict[str, Value], segment: dict[str, Value], row: Value, strip: Value, sums: Value) -> None:
    """Bias, residual, and the store; the last strip may stand over the matrix' edge."""
    column = strip * STRIP
    sums = sums + code.load(FLOATS16, segment["bias"] + column * 4)
    place = job["out"] + (row * job["out_features"] + segment["first_output"] + column) * 4
    with code.either((column + STRIP) <= segment["outputs"]) as (inside, over):
        with inside:
            result = code.variable(sums)
            with code.when(job["add"].differs(0)):
                result.value = code.load(FLOATS16, place) + sums
            code.store(result.value, place)
        with over:
            spare = code.variable(sums)
            for lane in range(STRIP - 1):
                with code.when((column + lane) < segment["outputs"]):
                    single = code.variable(code.lane(spare.value, lane))
                    with code.when(job["add"].differs(0)):
                        single.value = code.load(FLOAT, place + lane * 4) + single.value
                    code.store(single.value, place + lane * 4)


def _quantized(code: Code, kind: str, target: Target, digits: int, strip: Strip, inputs: list[Value]) -> list[Value]:
    sums = [code.variable(code.constant(FLOATS16, 0.0)) for _ in inputs]
    with code.loop(0, strip.blocks) as block:
        weights_at = strip.weights + block * (256 if kind == "q4" else 512)
        facts = strip.scales + block * (64 if kind == "q4" else 32)
        for line in range(0, 256 if kind == "q4" else 512, 64):
            code.prefetch(weights_at + (AHEAD + line))
        code.prefetch(facts + AHEAD // (4 if kind == "q4" else 16))
        weights = _bytes(code, kind, weights_at)
        scales = code.load(vector(HALF, 16), facts).to(FLOATS16)
        minima = code.load(vector(HALF, 16), facts + 32).to(FLOATS16) if kind == "q4" else None
        for row, total in zip(inputs, sums, strict=True):
            about = row + strip.blocks * 64 + block * 16
            whole = _integer_dot(code, kind, target, digits, weights, row + block * 64, about)
            scaled = scales * code.broadcast(FLOAT, about, 16)
            result = code.fma(whole.to(FLOATS16), scaled, total.value)
            if minima is not None:
                result = code.fma(minima, code.broadcast(FLOAT, about + 4, 16), result)
            total.value = result
    return [total.value for total in sums]


def _bytes(code: Code, kind: str, address: Value) -> list[Value]:
    if kind == "q8":
        return [code.load(VECTOR_BYTES, address + 64 * j) for j in range(8)]
    packed = [code.load(VECTOR_BYTES, address + 64 * j) for j in range(4)]
    wide = vector(I16, 32)
    return [p & 15 for p in packed] + [p.bits(wide).unsigned_shift_right(4).bits(VECTOR_BYTES) & 15 for p in packed]


def _integer_dot(
    code: Code, kind: str, target: Target, digits: int, weights: list[Value], activations: Value, about: Value
) -> Value:
    """Exact in 32 bits: |digits| < 2^15, weights < 2^8, 32 products."""
    zero = code.constant(INTS16, 0)
    first = zero
    if kind == "q8" and target.byte_offset and digits == 1:
        first = code.broadcast(I32, about + 8, 16) * -target.byte_offset
    high = first
    for j, weight in enumerate(weights):
        high = target.dot(code, high, weight, code.broadcast(I32, activations + 4 * j, 16), kind == "q4")
    if digits == 1:
        return high
    low = code.broadcast(I32, about + 8, 16) * -target.byte_offset if kind == "q8" and target.byte_offset else zero
    for j, weight in enumerate(weights):
        low = target.dot(code, low, weight, code.broadcast(I32, activations + 32 + 4 * j, 16), kind == "q4")
    return (high << 8) + low


PAIRS_AT_ONCE = 4


def _floating(code: Code, kind: str, strips: list[Strip], inputs: list[Value]) -> list[list[Value]]:
    """Sums by row, then strip."""
    zero = code.constant(FLOATS16, 0.0)
    sums = [[[code.variable(zero) for _ in range(2)] for _ in strips] for _ in inputs]
    pair_bytes = 128 if kind == "f32" else 64
    with code.loop(0, strips[0].blocks * 16, PAIRS_AT_ONCE) as first:
        for pair in range(PAIRS_AT_ONCE):
            for strip in strips:
                for line in range(0, pair_bytes, 64):
                    code.prefetch(strip.weights + ((first + pair) * pair_bytes + (AHEAD + line)))
            weights = [_pair(code, kind, strip.weights + (first + pair) * pair_bytes) for strip in strips]
            for row, row_sums in zip(inputs, sums, strict=True):
                for odd in range(2):
                    x = code.broadcast(FLOAT, row + (first + pair) * 8 + 4 * odd, 16)
                    for strip_sums, weight in zip(row_sums, weights, strict=True):
                        strip_sums[odd].value = code.fma(weight[odd], x, strip_sums[odd].value)
    return [[even.value + odd.value for even, odd in row_sums] for row_sums in sums]


def _pair(code: Code, kind: str, address: Value) -> tuple[Value, Value]:
    """Weights of 16 outputs for an even and the following odd input."""
    if kind == "bf16":
        both = code.load(INTS16, address)
        return (both << 16).bits(FLOATS16), (both & -65536).bits(FLOATS16)
    if kind == "f16":
        half = vector(HALF, 16)
        return code.load(half, address).to(FLOATS16), code.load(half, address + 32).to(FLOATS16)
    return code.load(FLOATS16, address), code.load(FLOATS16, address + 64)


def add_operations(module: ir.Module, target: Target) -> None:
    """linear and gate_rows: what Python calls; each runs its jobs one after the other."""
    parallel = module.globals.get("parallel") or add_parallel(module)
    _add_linear(module, target, parallel)
    _add_gate_rows(module, parallel)


def _add_linear(module: ir.Module, target: Target, parallel: ir.Function) -> None:
    """linear(control, x, norm, row_ids, rows, features, linear, out, add, prepared, threads)

    `linear` is the address of: number of segments, out_features, then the address of each segment.
    """
    code = Code(module, "linear", 11)
    control, x, norm, row_ids, rows, features, linear, out, add, prepared, threads = code.arguments
    arguments = control + 8 * ARGUMENTS
    words = {"x": x, "norm": norm, "row_ids": row_ids, "rows": rows, "features": features, "prepared": prepared,
             "out": out, "add": add, "out_features": code.load_int(linear, 1)}  # fmt: skip
    set_words(code, arguments, PRODUCT, words)
    before = code.variable(0)
    with code.loop(0, code.load_int(linear)) as index:
        at = code.load_int(linear + 16 + index * 8)
        segment = _words(code, at, SEGMENT)
        group = code.constant(I64, 1)
        if target.name == "amx":
            group = code.select((rows < amx.FROM) | segment["quantized"].equals(0), 1, code.constant(I64, GROUP))
        per_piece = code.select(rows < 8, rows, (rows + threads * 4 - 1) // (threads * 4))
        with code.when(segment["prepare"].differs(before.value)):
            words = {"prepared_stride": segment["stride"], "rows_per_piece": per_piece, "group": group}
            set_words(code, arguments, PRODUCT, words)
            code.call(parallel, control, segment["prepare"], (rows + per_piece - 1) // per_piece)
            before.value = segment["prepare"]
        strips = (segment["outputs"] + (STRIP - 1)) // STRIP
        strips_per_piece = (strips + threads * 4 - 1) // (threads * 4)
        pieces = (strips + strips_per_piece - 1) // strips_per_piece
        blocks = (rows + (ROW_BLOCK - 1)) // ROW_BLOCK
        words = {"segment": at, "strips_per_piece": strips_per_piece, "strip_pieces": pieces,
                 "rows_per_block": code.constant(I64, ROW_BLOCK)}  # fmt: skip
        set_words(code, arguments, PRODUCT, words)
        code.call(parallel, control, segment["multiply"], pieces * blocks)
    code.finish()


def _add_gate_rows(module: ir.Module, parallel: ir.Function) -> None:
    """gate_rows(control, both, out, rows, half, threads)"""
    code = Code(module, "gate_rows", 6)
    control, both, out, rows, half, threads = code.arguments
    per_piece = code.select(rows < threads * 4, (half // threads + 16) // 16 * 16, half)
    column_pieces = (half + per_piece - 1) // per_piece
    words = {"both": both, "out": out, "rows": rows, "half": half, "columns_per_piece": per_piece,
             "column_pieces": column_pieces}  # fmt: skip
    set_words(code, control + 8 * ARGUMENTS, GATE, words)
    code.call(parallel, control, code.address_of(module.globals["gate"]), rows * column_pieces)
    code.finish()


def set_words(code: Code, address: Value, names: tuple[str, ...], words: dict[str, Value]) -> None:
    for name, value in words.items():
        code.store(value, address + 8 * names.index(name), 8)

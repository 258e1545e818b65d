"""Matrix products on packed weights.

Weights lie in strips of 16 outputs, the lanes of a vector; along the inputs a strip is read once, from first to last,
for up to 8 rows of activations. A row's result is the same bits in any batch, on any thread and machine:

- quantised weights are integers, scale * q + minimum, times one unit for each output; quantised rows are integers times
  one scale for each row (`activations.py`). Their product is an exact integer, however summed, until it is scaled.
- beside floats the sums of a row are formed in one order, whatever its company.

    quantised   tile of 16 outputs x 32 inputs, as its form has it (`tiles.py`)
    floats      pair of inputs x 16 outputs; even and odd inputs have a sum each. Those of 8 bits have a scale for
                32 inputs
"""

from __future__ import annotations

from dataclasses import replace

from llvmlite import ir

from stemma.kernels.cpu.machine.dialect import (
    BYTES16,
    DOUBLE,
    FLOAT,
    FLOATS16,
    HALF,
    I16,
    I32,
    I64,
    INTS16,
    Code,
    Value,
    Variable,
    vector,
)
from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.machine.threads import ARGUMENTS, add_parallel
from stemma.kernels.cpu.machine.words import read_words, set_words
from stemma.kernels.cpu.products import amx
from stemma.kernels.cpu.products.many import FROM as MANY
from stemma.kernels.cpu.products.many import sweep_words
from stemma.kernels.cpu.products.mapped import dots_of_rows, rows_of_strip, scales_of_rows, words_of_digits
from stemma.kernels.cpu.products.shares import CALL, piece_of, share_of, soon_function
from stemma.kernels.cpu.products.strips import (
    AHEAD,
    DOUBLES16,
    SEGMENT,
    STRIP,
    Part,
    Strip,
    asked_for,
    bytes_of,
    facts_of,
    finish,
    looked_up,
    scaled,
)
from stemma.kernels.cpu.products.tiles import MAPPED, TILES, Tile, tile_of
from stemma.kernels.cpu.rows.activations import DIGITS, GROUP, PAIR, PREPARE, WORDS
from stemma.kernels.cpu.rows.gates import GATE

FLOATING = ("bf16", "f16", "f32", "fp8")
PRODUCT = (*PREPARE, "segment", "out", "out_features", "add", "gate", "strips_per_piece", "scale", "activation",
           "share", "shares")  # fmt: skip
"""share, shares: strips of the first pieces, one for each thread, which few rows read as one long stretch."""
MAX_BLOCK, BLOCK_BYTES = 512, 1 << 20
"""Rows of activations are prepared and multiplied block by block: so many that they stay in the second-level cache
while all strips pass over them."""


def add_product(module: ir.Module, target: Target, kind: str) -> None:
    """multiply_<kind>, of a form of codes or of floats: (arguments, piece, scratch)."""
    code = Code(module, f"multiply_{kind}", 3)
    address, piece, scratch = code.arguments
    job = read_words(code, address, PRODUCT)
    segment = read_words(code, job["segment"], SEGMENT)
    is_share, later = piece < job["shares"], job["shares"] * job["share"]
    size = code.select(is_share, job["share"], job["strips_per_piece"])
    first = code.select(is_share, piece * size, later + (piece - job["shares"]) * size)
    strips = first, code.minimum(first + size, (segment["outputs"] + (STRIP - 1)) // STRIP)
    part = Part(kind, target, job, segment, strips, (job["first"], job["last"]), scratch + amx.RESULTS_AT)
    if kind == MAPPED:
        _fetch_first(code, part)
    if kind in TILES:
        _sweep_quantized(code, part, scratch)
    else:
        _sweep_floating(code, part)
    code.finish()


def _fetch_first(code: Code, part: Part) -> None:
    """Few rows wait for the strip that a piece begins with, and the one that it gates: ask for them at once."""
    with code.when(part.job["group"].equals(DIGITS)):
        count = code.select(part.job["gate"].equals(0), code.constant(I64, 1), code.constant(I64, 2))
        with code.loop(0, count) as nth:
            strip = part.strip(code, part.strips[0] + nth)
            with code.loop(0, strip.blocks * tile_of(part.kind).weight_bytes, 64) as line:
                code.prefetch(strip.weights + line, nearness=2)


def block_rows(stride: int) -> int:
    """Rows of a block, by the bytes of a prepared row: whole groups."""
    return min(MAX_BLOCK, max(GROUP, BLOCK_BYTES // stride // GROUP * GROUP))


def layout_of(code: Code, target: Target, rows: Value, features: Value, quantized: Value) -> Value:
    """How a matrix' rows are prepared (`activations.py`): what the word `group` says."""
    digits, words = code.constant(I64, DIGITS), code.constant(I64, WORDS)
    if target.is_arm:
        return digits
    many = code.select(rows < MANY, digits, words)
    if target.name == "amx":
        fits = (features > amx.AHEAD * PAIR) & (features <= amx.MAX_FEATURES)
        many = code.select((rows >= amx.FROM) & fits, code.constant(I64, GROUP), many)
    return code.select(quantized.equals(0), digits, many)


def _sweep_quantized(code: Code, part: Part, scratch: Value) -> None:
    if part.target.is_arm:
        _sweep(code, part, [4, 2, 1], 1)
        return
    layout = part.job["group"]
    with code.when(layout.equals(DIGITS)):
        _sweep(code, part, [2, 1], 1)
    with code.when(layout.equals(WORDS)):
        sweep_words(code, part, scratch)
    if part.target.name == "amx":
        with code.when(layout.equals(GROUP)):
            amx.sweep_groups(code, part, scratch)


def _sweep_floating(code: Code, part: Part) -> None:
    """Few rows pass over several strips at once, so that enough sums are under way."""
    wide = part.target.max_rows == 8
    several = 4 if wide else 2
    (first, last), left = part.strips, code.variable(part.strips[0])
    with code.when((part.rows[1] - part.rows[0]) < several):
        until = first + (last - first) // several * several
        _sweep(code, replace(part, strips=(first, until)), [2, 1] if wide else [1], several)
        left.value = until
    _sweep(code, replace(part, strips=(left.value, last)), [8, 4, 2, 1] if wide else [2, 1], 1)


def _sweep(code: Code, part: Part, rows_at_once: list[int], strips_at_once: int) -> None:
    """All rows against all strips of the part, on vectors."""
    job = part.job
    width = 64 * max(strips_at_once, 2)
    with code.loop(*part.strips, strips_at_once) as first:
        strips = [part.strip(code, first + i) for i in range(strips_at_once)]
        for i, strip in enumerate(strips):
            code.prefetch(strip.units)
            code.prefetch(part.segment["bias"] + part.place(code, first + i) * 64)
        row = code.variable(part.rows[0])
        results = part.results + (first & 1) * 64
        for count in rows_at_once:
            with code.repeat(lambda count=count: row.value + count <= part.rows[1]):  # type: ignore[misc]
                start = job["prepared"] + (row.value - part.rows[0]) * job["prepared_stride"]
                inputs = [start + job["prepared_stride"] * i for i in range(count)]
                if part.kind in TILES:
                    sums = [[total] for total in _quantized(code, part, strips[0], inputs)]
                elif part.kind == "fp8":
                    sums = _scaled_floating(code, strips, inputs, part.target.nearness(count))
                else:
                    sums = _floating(code, part, strips, inputs)
                place = results + (row.value - part.rows[0]) * width
                for i, row_sums in enumerate(sums):
                    for j, total in enumerate(row_sums):
                        code.store(total, place + (i * width + 64 * j))
                row.value = row.value + count
        with code.loop(*part.rows) as done, code.loop(0, strips_at_once) as nth:
            place = results + ((done - part.rows[0]) * width + nth * 64)
            finish(code, part, done, first + nth, code.load(FLOATS16, place), place)


def _quantized(code: Code, part: Part, strip: Strip, inputs: list[Value]) -> list[Value]:
    totals = [code.variable(code.constant(DOUBLES16, 0.0)) for _ in inputs]
    if part.kind == MAPPED and not part.target.multiplies_bytes:
        _add_rows_of_file(code, part, strip, inputs, totals)
    else:
        _add_packed(code, part, strip, inputs, totals)
    units = code.load(FLOATS16, strip.units)
    scales_at = [row + strip.pairs * (2 * PAIR) for row in inputs]
    return [scaled(code, total.value, at, units) for total, at in zip(totals, scales_at, strict=True)]


def _add_rows_of_file(code: Code, part: Part, strip: Strip, inputs: list[Value], totals: list[Variable]) -> None:
    """Codes as they lie in a file: without an instruction for bytes, turning and halving them takes longer."""
    rows_of = rows_of_strip(code, strip.weights, strip.blocks)
    with code.loop(0, strip.blocks) as block:
        asked_for(code, tile_of(part.kind), strip, block)
        rows = rows_of(block)
        scales = scales_of_rows(code, rows, strip.scales).to(DOUBLES16)
        places = [row + ((block >> 1) * (2 * PAIR) + (block & 1) * 32) for row in inputs]
        words = [words_of_digits(code, place, PAIR) for place in places]
        for dot, total in zip(dots_of_rows(code, part.target, rows, words), totals, strict=True):
            total.value = code.fma(dot.to(DOUBLES16), scales, total.value)


def _add_packed(code: Code, part: Part, strip: Strip, inputs: list[Value], totals: list[Variable]) -> None:
    """Codes of 16 outputs side by side, as bytes."""
    tile = tile_of(part.kind)
    offset = part.target.byte_offset if tile.form.has_table or tile.form.bits == 8 else tile.form.offset
    with code.loop(0, strip.blocks) as block:
        weights = bytes_of(code, tile, asked_for(code, tile, strip, block, part.target.nearness(len(inputs))))
        if tile.form.has_table:
            weights = looked_up(code, part, weights)
        scales, minima = ([fact.to(DOUBLES16) for fact in facts] for facts in facts_of(code, tile, strip, block))
        if offset:
            minima = [scale * -float(offset) for scale in scales]
        in_group = len(weights) // tile.num_groups
        for row, total in zip(inputs, totals, strict=True):
            digits = row + ((block >> 1) * (2 * PAIR) + (block & 1) * 32)
            result = total.value
            for group, scale in enumerate(scales):
                chosen = weights[group * in_group : (group + 1) * in_group]
                dot = _integer_dot(code, part, chosen, digits + group * 4 * in_group, len(inputs) > 1)
                result = code.fma(dot.to(DOUBLES16), scale, result)
                if minima:
                    result = code.fma(minima[group], _sum_at(code, tile, strip, row, (block, group)), result)
            total.value = result


def _sum_at(code: Code, tile: Tile, strip: Strip, row: Value, place: tuple[Value, int]) -> Value:
    """The sum of a row's integers in a block, or in one group of it."""
    block, group = place
    sums = row + strip.pairs * (2 * PAIR) + 64
    if tile.num_groups == 1:
        return code.broadcast(DOUBLE, sums + block * 8, 16)
    return code.broadcast(I32, sums + strip.pairs * 16 + (block * 8 + group * 4), 16).to(DOUBLES16)


def _integer_dot(code: Code, part: Part, weights: list[Value], digits: Value, several: bool) -> Value:
    """Exact in 32 bits: |activations| < 2^15, weights < 2^8, 32 products. several: whether rows share the weights."""

    def four(digit: int, j: int) -> Value:
        return code.broadcast(I32, digits + (PAIR * digit + 4 * j), 16)

    def eight(digit: int, j: int) -> Value:
        return code.load(I64, digits + (PAIR * digit + 4 * j))

    if several and part.target.name == "neon-i8mm":
        high, low = part.target.matrix_dots(code, weights, eight)
    else:
        high, low = part.target.dots(code, weights, four, tile_of(part.kind).largest_code)
    return (high << 8) + low


PAIRS_AT_ONCE = 4


def _floating(code: Code, part: Part, strips: list[Strip], inputs: list[Value]) -> list[list[Value]]:
    """Sums by row, then strip."""
    kind, nearness, asks = part.kind, part.target.nearness(len(inputs)), part.target.asks_ahead(len(strips))
    zero = code.constant(FLOATS16, 0.0)
    sums = [[[code.variable(zero) for _ in range(2)] for _ in strips] for _ in inputs]
    pair_bytes = 128 if kind == "f32" else 64
    with code.loop(0, strips[0].blocks * 16, PAIRS_AT_ONCE) as first:
        for pair in range(PAIRS_AT_ONCE):
            for strip in strips if asks else []:
                for line in range(0, pair_bytes, 64):
                    code.prefetch(strip.weights + ((first + pair) * pair_bytes + (AHEAD + line)), nearness)
            weights = [_pair(code, kind, strip.weights + (first + pair) * pair_bytes) for strip in strips]
            for row, row_sums in zip(inputs, sums, strict=True):
                for odd in range(2):
                    x = code.broadcast(FLOAT, row + (first + pair) * 8 + 4 * odd, 16)
                    for strip_sums, weight in zip(row_sums, weights, strict=True):
                        strip_sums[odd].value = code.fma(weight[odd], x, strip_sums[odd].value)
    return [[even.value + odd.value for even, odd in row_sums] for row_sums in sums]


def _scaled_floating(code: Code, strips: list[Strip], inputs: list[Value], nearness: int) -> list[list[Value]]:
    """The same for floats of 8 bits: a block's sums are scaled, then added."""
    zero = code.constant(FLOATS16, 0.0)
    totals = [[code.variable(zero) for _ in strips] for _ in inputs]
    with code.loop(0, strips[0].blocks) as block:
        scales = [code.load(FLOATS16, strip.scales + block * 64) for strip in strips]
        sums = [[[code.variable(zero) for _ in range(2)] for _ in strips] for _ in inputs]
        with code.loop(0, 16, PAIRS_AT_ONCE) as first:
            for nth in range(PAIRS_AT_ONCE):
                pair = block * 16 + first + nth
                for j, strip in enumerate(strips):
                    place = strip.weights + pair * 32
                    if nth % 2 == 0:
                        code.prefetch(place + AHEAD, nearness)
                    weight = [_small_floats(code, place), _small_floats(code, place + 16)]
                    for row, row_sums in zip(inputs, sums, strict=True):
                        for odd in range(2):
                            x = code.broadcast(FLOAT, row + pair * 8 + 4 * odd, 16)
                            row_sums[j][odd].value = code.fma(weight[odd], x, row_sums[j][odd].value)
        for row_totals, row_sums in zip(totals, sums, strict=True):
            for total, (even, odd_sum), scale in zip(row_totals, row_sums, scales, strict=True):
                total.value = code.fma(even.value + odd_sum.value, scale, total.value)
    return [[total.value for total in row_totals] for row_totals in totals]


def _small_floats(code: Code, address: Value) -> Value:
    """16 floats of 8 bits, each 1/256 of its value: the bits of a float16 with another exponent."""
    stored = code.load(BYTES16, address).widen_unsigned(vector(I16, 16))
    return (((stored & 0x80) << 8) | ((stored & 0x7F) << 7)).bits(vector(HALF, 16)).to(FLOATS16)


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
    """linear(control, *CALL)

    `linear` is the address of: number of segments, out_features, rows of a block, then the address of each segment.
    gate: 0, or the number of strips that gate as many others. scale: a float.
    """
    code = Code(module, "linear", 1 + len(CALL))
    control, call = code.arguments[0], dict(zip(CALL, code.arguments[1:], strict=True))
    rows, features, linear, gate, threads = (
        call.pop(name) for name in ("rows", "features", "linear", "gate", "threads")
    )
    arguments = control + 8 * ARGUMENTS
    words = call | {"x_stride": features * 4, "features": features, "gate": gate,
             "out_features": code.select(gate.equals(0), code.load_int(linear, 1), gate * STRIP)}  # fmt: skip
    set_words(code, arguments, PRODUCT, words)
    first, most = code.variable(0), code.load_int(linear, 2)
    blocks = (rows + most - 1) // most
    size = ((rows + blocks - 1) // code.maximum(blocks, 1) + (GROUP - 1)) // GROUP * GROUP  # none is small
    with code.repeat(lambda: first.value < rows):
        last = code.minimum(first.value + size, rows)
        set_words(code, arguments, PRODUCT, {"first": first.value, "last": last})
        _run_segments(code, target, parallel, control, linear, (last - first.value, features, threads))
        first.value = last
    code.finish()


def _run_segments(
    code: Code, target: Target, parallel: ir.Function, control: Value, linear: Value, sizes: tuple[Value, Value, Value]
) -> None:
    """A block of rows against each matrix; neighbours of one kind share the prepared rows.

    sizes: rows, inputs, threads.
    """
    arguments = control + 8 * ARGUMENTS
    rows, features, threads = sizes
    before = code.variable(0)
    with code.loop(0, code.load_int(linear)) as index:
        at = code.load_int(linear + 24 + index * 8)
        segment = read_words(code, at, SEGMENT)
        group = layout_of(code, target, rows, features, segment["quantized"])
        with code.when(segment["prepare"].differs(before.value)):
            per_piece = code.select(rows < 4, rows, (rows + threads * 4 - 1) // (threads * 4))
            words = {"prepared_stride": segment["stride"], "rows_per_piece": per_piece, "group": group}
            set_words(code, arguments, PRODUCT, words)
            code.call(parallel, control, segment["prepare"], (rows + per_piece - 1) // per_piece)
            before.value = segment["prepare"]
        strips = (segment["outputs"] + (STRIP - 1)) // STRIP
        share = share_of(code, target, strips, threads, rows)
        shares = code.select(share.equals(0), 0, threads)
        rest = strips - share * shares
        strips_per_piece = piece_of(code, target, rest, threads, rows)
        words = {"segment": at, "strips_per_piece": strips_per_piece, "share": share, "shares": shares}
        set_words(code, arguments, PRODUCT, words)
        code.call(soon_function(code.module, target), control)
        code.call(parallel, control, segment["multiply"], shares + (rest + strips_per_piece - 1) // strips_per_piece)


def _add_gate_rows(module: ir.Module, parallel: ir.Function) -> None:
    """gate_rows(control, both, out, rows, half, threads, activation)"""
    code = Code(module, "gate_rows", 7)
    control, both, out, rows, half, threads, activation = code.arguments
    per_piece = code.select(rows < threads * 4, (half // threads + 16) // 16 * 16, half)
    column_pieces = (half + per_piece - 1) // per_piece
    words = {"both": both, "out": out, "rows": rows, "half": half, "columns_per_piece": per_piece,
             "column_pieces": column_pieces, "activation": activation}  # fmt: skip
    set_words(code, control + 8 * ARGUMENTS, GATE, words)
    code.call(parallel, control, code.address_of(module.globals["gate"]), rows * column_pieces)
    code.finish()

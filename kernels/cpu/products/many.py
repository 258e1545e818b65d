"""Quantised products of many rows on vectors.

Codes are unpacked to words of 16 bits: for some rows into registers, or once for all rows into memory that the nearer
caches hold. An activation is a word too, so that one instruction adds two products to each of 16 sums of 32 bits:

    for each 1,024 inputs or fewer    unpack: 16 vectors of words for a block of 32 inputs and a strip, facts beside
        for each 8 rows (AVX2: 4)     minima x sums of activations
            for each two groups       dot products of their words, then scale x dot

A dot product is exact in 32 bits (below 2^7 x 2^15 x 32). It is 65,536 x its upper word + its lower one, and the same
instruction multiplies either by the scale and adds it to a sum of 32 bits:

    dot           | upper word | lower word |        dots begin at 2^15, lest a negative lower word should borrow
    low  +=       |     0      |   scale    |        carried to `high` before it can overflow (`carry_blocks`)
    high +=       |   scale    |     0      |        a total is 65,536 x high + low, a double

Minima are multiplied by two digits of the sums of activations (`activations.py`). All of it is exact, so the bits are
those of `linear.py` for few rows and of the matrix unit.

Where words are added beside products, and twice as many (`Target.adds_beside`), half of the inputs are multiplied in
pairs, which takes half as many products (Winograd, "A new algorithm for inner product", 1968):

    x0 w0 + x1 w1  =  (x0 + w1) (x1 + w0) - x0 x1 - w0 w1

Sums fit 16 bits, as activations leave 255 of them; products may not fit 32, but their sum is exact modulo 2^32, and a
dot product does fit. Dots begin with the - x0 x1 of a row (`activations.py`); w0 w1, scaled, is the same for all rows
and is taken from their totals.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from stemma.kernels.cpu.machine.dialect import FLOATS16, I32, I64, INTS16, Code, Value, Variable
from stemma.kernels.cpu.products.mapped import TURN_FROM
from stemma.kernels.cpu.products.strips import (
    DOUBLES16,
    STRIP,
    UNKNOWN,
    WORDS,
    Part,
    finish,
    scaled,
)
from stemma.kernels.cpu.products.tiles import MAPPED, Tile, tile_of
from stemma.kernels.cpu.products.word_blocks import FACT_BYTES, STRIP_BYTES, VECTORS, Blocks, in_both_words
from stemma.kernels.cpu.rows.activations import DIGIT_BITS, PAIR, is_paired

FROM, UNPACK_FROM = 4, 128
"""Rows from which a row is words; from which codes are unpacked into memory for all rows, sooner where they are turned
(`mapped.py`). Fewer rows unpack a strip into registers, for 8 rows or 4."""
STRIPS, ROWS = 2, 8
"""Strips that are unpacked into memory at once, at most; rows that are multiplied at once."""
CHUNK = 32
"""Blocks whose sums fit 32 bits, and that are unpacked at once."""
AT_ONCE = 8
"""Of them, that the text of the inner loop holds: with more, LLVM makes a tree of a chain of sums and runs out of
registers."""
DOTS = 8
"""Groups whose dot products wait to be scaled, of all rows and strips that are multiplied at once."""
TOTAL_BYTES = STRIPS * 128
WORDS_AT = 1 << 17
FACTS_AT = WORDS_AT + CHUNK * STRIPS * STRIP_BYTES
SQUARES_AT = FACTS_AT + CHUNK * STRIPS * FACT_BYTES
TOTALS_AT = SQUARES_AT + STRIPS * 128
"""Where in a thread's scratch unpacked codes and their facts stand, what weights that are multiplied with each other
come to, and the totals of all rows."""
HALF, WORD, LARGEST_INT = 1 << 15, 1 << 16, (1 << 31) - 1


def largest_scale(tile: Tile) -> int:
    """Of a weight's 16 bits, or of what the codes leave of them."""
    return 2 * HALF // ((1 << tile.form.bits) - 1) + 1 if tile.form.has_minima else HALF - 1


def carry_blocks(tile: Tile) -> int:
    """Blocks whose lower words, scaled, fit a sum of 32 bits beside what a carry, or minima, leave there."""
    left = 2 * WORD if tile.form.has_minima else WORD - 1
    return min(CHUNK, (LARGEST_INT - left) // (HALF * largest_scale(tile) * tile.num_groups))


@dataclass(frozen=True, slots=True)
class _Rows:
    """Some rows, one of the strips, and their sums: low, high. first: the number of the first row."""

    addresses: list[Value]
    first: Value
    nth: int
    sums: list[tuple[Variable, Variable]]


def sweep_words(code: Code, part: Part, scratch: Value) -> None:
    """All rows against all strips of the part; rows are prepared as words."""
    if part.target.adds_beside:
        _keep_squares(code, part)
    count = part.rows[1] - part.rows[0]
    if _stays_packed(part):
        _sweep(code, part, scratch, 0)
        return
    with code.either(count < (TURN_FROM if part.kind == MAPPED else UNPACK_FROM)) as (some, many):
        with some:
            _sweep(code, part, scratch, 0)
        with many:
            # a second strip's words leave the first-level cache too small, which is what bounds products in pairs
            _sweep(code, part, scratch, 1 if part.target.adds_beside else STRIPS)


def _stays_packed(part: Part) -> bool:
    """Whether codes are unpacked into registers for any number of rows: those of 4 bits take so few operations that
    they find room beside products in pairs, and leave the first-level cache to rows."""
    form = tile_of(part.kind).form
    return part.target.adds_beside and form.bits == 4 and form.has_minima


def _sweep(code: Code, part: Part, scratch: Value, num_unpacked: int) -> None:
    """num_unpacked: strips that are unpacked into memory at once; 0: one is multiplied as it is packed."""
    at_once = max(num_unpacked, 1)
    number = (part.job["features"] + 31) // 32
    with code.loop(*part.strips, at_once) as index:
        strips = [part.strip(code, code.minimum(index + i, part.strips[1] - 1)) for i in range(at_once)]
        if part.target.adds_beside:
            for nth in range(at_once):
                place = _squares_of(code, part, code.minimum(index + nth, part.strips[1] - 1))
                code.store(code.load(DOUBLES16, place, 64), scratch + (SQUARES_AT + 128 * nth), 64)
        with code.loop(0, number, CHUNK) as first:
            count = code.minimum(number - first, CHUNK)
            blocks = Blocks(part, strips, first, count, scratch)
            if num_unpacked:
                blocks = replace(blocks, words=scratch + WORDS_AT, facts=scratch + FACTS_AT)
                _unpack(code, blocks)
            _multiply(code, blocks, index)


def _unpack(code: Code, to: Blocks) -> None:
    with code.loop(0, to.count) as block:
        for nth in range(len(to.strips)):
            place = to.words_at(block, nth)
            words = to.read_words(code, block, nth)
            for j, word in enumerate(words):
                code.store(word, place + 64 * j, 64)
            for group, fact in enumerate(to.facts_of(code, block, nth)):
                for i, scale in enumerate(in_both_words(fact)):
                    code.store(scale, to.facts_at(block, nth) + (128 * group + 64 * i), 64)
    if to.tile.form.has_minima:
        with code.loop(0, to.pairs) as pair:
            for nth in range(len(to.strips)):
                code.store(to.read_minima(code, pair, nth), to.facts_at(pair, nth) + 256, 64)


def _keep_squares(code: Code, part: Part) -> None:
    """What weights that are multiplied with each other come to in a row's total, of strips that are multiplied for the
    first time. Threads that meet in a strip write the same."""
    zero = code.constant(I64, 0)
    with code.loop(*part.strips) as index:
        place = _squares_of(code, part, index)
        largest = code.reduce(code.load(DOUBLES16, place, 64), code.maximum)
        with code.when(largest.equals(UNKNOWN)):
            strip, total = part.strip(code, index), code.variable(code.constant(DOUBLES16, 0.0))
            blocks = Blocks(part, [strip], zero, strip.blocks, zero)
            with code.loop(0, strip.blocks) as block:
                words = blocks.read_words(code, block, 0)
                per_group = VECTORS // blocks.tile.num_groups
                for group, scale in enumerate(blocks.facts_of(code, block, 0)):
                    dot = code.constant(INTS16, 0)
                    for j in range(group * per_group, (group + 1) * per_group, 2):
                        if is_paired(j):
                            dot = part.target.dot_words(code, dot, words[j], words[j + 1])
                    total.value = code.fma(dot.to(DOUBLES16), scale.to(DOUBLES16), total.value)
            code.store(total.value, place, 64)


def _squares_of(code: Code, part: Part, index: Value) -> Value:
    """Where they are kept."""
    return part.segment["squares"] + part.place(code, index) * 128


def _multiply(code: Code, blocks: Blocks, index: Value) -> None:
    """All rows against some blocks. Rows beyond the last one are the last one again; nobody reads their totals."""
    part, row = blocks.part, code.variable(0)
    job, count = part.job, part.rows[1] - part.rows[0]
    wide = part.target.max_rows == 8
    is_last = blocks.first + blocks.count >= (job["features"] + 31) // 32
    for at_once, least in [(ROWS, ROWS // 2 + 1), (ROWS // 2, 1)] if wide else [(ROWS // 2, 1)]:
        with code.repeat(lambda least=least: row.value + least <= count):  # type: ignore[misc]
            numbers = [code.minimum(row.value + i, count - 1) for i in range(at_once)]
            addresses = [job["prepared"] + number * job["prepared_stride"] for number in numbers]
            for nth in range(len(blocks.strips)):
                if nth == len(blocks.strips) - 1:
                    with code.when(is_last):
                        _ask_for_outputs(code, blocks, index, numbers)
                zero = code.constant(INTS16, 0)
                sums = [(code.variable(zero), code.variable(zero)) for _ in range(at_once)]
                _multiply_rows(code, blocks, _Rows(addresses, row.value, nth, sums))
            with code.when(is_last):
                _finish(code, blocks, index, (row.value, code.minimum(row.value + at_once, count)))
            row.value = row.value + at_once


def _multiply_rows(code: Code, blocks: Blocks, rows: _Rows) -> None:
    if blocks.tile.form.has_minima:
        _add_minima(code, blocks, rows)
    with code.loop(0, blocks.count, carry_blocks(blocks.tile)) as start:
        with code.loop(start, code.minimum(start + carry_blocks(blocks.tile), blocks.count)) as block:
            _add_block(code, blocks, rows, block)
        for low, high in rows.sums:
            high.value = high.value + (low.value >> 16)
            low.value = low.value & (WORD - 1)
    places = blocks.scratch + TOTALS_AT + (rows.first * TOTAL_BYTES + 128 * rows.nth)
    for i, (low, high) in enumerate(rows.sums):
        word = code.constant(DOUBLES16, float(WORD))
        total = code.variable(code.fma(high.value.to(DOUBLES16), word, low.value.to(DOUBLES16)))
        with code.when(blocks.first > 0):
            total.value = code.load(DOUBLES16, places + TOTAL_BYTES * i, 64) + total.value
        code.store(total.value, places + TOTAL_BYTES * i, 64)


def _add_block(code: Code, blocks: Blocks, rows: _Rows, block: Value) -> None:
    words = [] if blocks.words is not None else blocks.read_words(code, block, 0)
    for group in range(blocks.tile.num_groups):
        dots = _dots(code, blocks, rows, (block, group), words)
        scales = blocks.scales(code, block, rows.nth, group)
        for both, dot in zip(rows.sums, dots, strict=True):
            halves = dot ^ HALF
            for total, scale in zip(both, scales, strict=True):
                total.value = blocks.part.target.dot_words(code, total.value, halves, scale)


def _dots(code: Code, blocks: Blocks, rows: _Rows, where: tuple[Value, int], words: list[Value]) -> list[Value]:
    """Of one group of a block, by row, plus HALF. words: the block's, if they are not in the scratch."""
    (block, group), per_group = where, VECTORS // blocks.tile.num_groups
    dots = [code.variable(start) for start in _starts(code, blocks, rows, where)]
    inputs = (blocks.first + block) * PAIR + 4 * per_group * group
    if blocks.words is None:
        for j in range(0, per_group, 2):
            both = words[group * per_group + j], words[group * per_group + j + 1]
            _add_dots(code, blocks.part, rows, dots, both, inputs + 4 * j, is_paired(j))
    else:
        weights = blocks.words_at(block, rows.nth) + 64 * per_group * group
        with code.loop(0, per_group, AT_ONCE) as vector:
            for j in range(0, AT_ONCE, 2):
                places = weights + vector * 64 + 64 * j
                both = code.load(INTS16, places, 64), code.load(INTS16, places + 64, 64)
                _add_dots(code, blocks.part, rows, dots, both, inputs + vector * 4 + 4 * j, is_paired(j))
    return [dot.value for dot in dots]


def _starts(code: Code, blocks: Blocks, rows: _Rows, where: tuple[Value, int]) -> list[Value]:
    """What dots of each row begin with: HALF, less the products of activations with each other."""
    if not blocks.part.target.adds_beside:
        return [code.constant(INTS16, HALF) for _ in rows.addresses]
    (block, group), pairs = where, blocks.strips[0].pairs
    at = pairs * (2 * PAIR + 24) + 64
    if blocks.tile.num_groups == 2:
        at = at + pairs * 8 + (blocks.first + block) * 8 + 4 * group
    else:
        at = at + (blocks.first + block) * 4
    return [code.broadcast(I32, row + at, 16) for row in rows.addresses]


def _add_dots(
    code: Code, part: Part, rows: _Rows, dots: list[Variable], words: tuple[Value, Value], inputs: Value, paired: bool
) -> None:  # fmt: skip
    """Four inputs of all rows. words: weights of the first and the third, of the second and the fourth."""
    even, odd = words
    for row, dot in zip(rows.addresses, dots, strict=True):
        x, y = (code.broadcast(I32, row + inputs + 4 * which, 16) for which in (0, 1))
        if paired and part.target.adds_beside:
            first, second = odd.bits(WORDS) + x.bits(WORDS), even.bits(WORDS) + y.bits(WORDS)
            dot.value = part.target.dot_words(code, dot.value, first, second)
        else:
            dot.value = part.target.dot_words(code, part.target.dot_words(code, dot.value, even, x), odd, y)


def _add_minima(code: Code, blocks: Blocks, rows: _Rows) -> None:
    """Sums begin with them: their digits' products, put where words belong."""
    pairs = blocks.strips[0].pairs
    start = pairs * (2 * PAIR) + 64
    start = start + (pairs * 8 + blocks.first * 8 if blocks.tile.num_groups == 2 else blocks.first * 4)
    with code.loop(0, blocks.pairs) as pair:
        minima = blocks.minima(code, pair, rows.nth)
        for row, both in zip(rows.addresses, rows.sums, strict=True):
            for digit, total in enumerate(both):
                x = code.broadcast(I32, row + start + (pair * 8 + 4 * digit), 16)
                total.value = blocks.part.target.dot_words(code, total.value, minima, x)
    step = 16 - DIGIT_BITS
    for low, high in rows.sums:
        lower, upper = low.value, high.value
        low.value = (lower & (WORD - 1)) + ((upper & ((1 << step) - 1)) << DIGIT_BITS)
        high.value = (lower >> 16) + (upper >> step)


def _columns(code: Code, part: Part, index: Value) -> Value:
    """Where in a row of outputs what this strip gives is stored."""
    gated = part.job["gate"].differs(0).widen_unsigned(I64)
    return (part.segment["first_output"] + index.unsigned_shift_right(gated) * STRIP) * 4


def _ask_for_outputs(code: Code, blocks: Blocks, index: Value, numbers: list[Value]) -> None:
    """Of some rows, which lie far from each other."""
    job = blocks.part.job
    outputs = job["out"] + _columns(code, blocks.part, index)
    for number in numbers:
        for nth in range(len(blocks.strips)):
            code.prefetch_to_write(outputs + (blocks.part.rows[0] + number) * (job["out_features"] * 4) + 64 * nth)


def _finish(code: Code, blocks: Blocks, index: Value, rows: tuple[Value, Value]) -> None:
    part = blocks.part
    scales = part.job["prepared"] + blocks.strips[0].pairs * (2 * PAIR)
    with code.loop(*rows) as row, code.loop(0, len(blocks.strips)) as nth:
        strip = index + nth
        with code.when(strip < part.strips[1]):
            total = code.load(DOUBLES16, blocks.scratch + TOTALS_AT + (row * TOTAL_BYTES + nth * 128), 64)
            if part.target.adds_beside:
                total = total - code.load(DOUBLES16, blocks.scratch + SQUARES_AT + nth * 128, 64)
            unit = code.load(FLOATS16, part.segment["units"] + part.place(code, strip) * 64)
            waiting = part.results + (row * 128 + (strip & 1) * 64)
            result = scaled(code, total, scales + row * part.job["prepared_stride"], unit)
            finish(code, part, part.rows[0] + row, strip, result, waiting)

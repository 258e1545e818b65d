"""Quantised products of many rows on vectors.

Codes are unpacked to words of 16 bits; those of two strips once for all rows, into memory that the nearer caches hold.
An activation is a word too, so that one instruction adds two products to each of 16 sums of 32 bits:

    for each 1,024 inputs or fewer    unpack: 16 vectors of words for a block of 32 inputs and a strip, facts beside
        for each 4 rows               minima x sums of activations
            for each two groups       dot products of their words, then scale x dot

A dot product is exact in 32 bits (below 2^7 x 2^15 x 32). It is 65,536 x its upper word + its lower one, and the same
instruction multiplies either by the scale and adds it to a sum of 32 bits:

    dot           | upper word | lower word |        dots begin at 2^15, lest a negative lower word should borrow
    low  +=       |     0      |   scale    |        carried to `high` before it can overflow (`carry_blocks`)
    high +=       |   scale    |     0      |        a total is 65,536 x high + low, a double

Minima are multiplied by two digits of the sums of activations (`activations.py`). All of it is exact, so the bits are
those of `linear.py` for few rows and of the matrix unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from stemma.kernels.cpu.machine.dialect import FLOATS16, I32, I64, INTS16, Code, Value, Variable
from stemma.kernels.cpu.products.strips import (
    DOUBLES16,
    STRIP,
    WORDS,
    Part,
    Strip,
    asked_for,
    bytes_of,
    facts_of,
    finish,
    looked_up,
    scaled,
)
from stemma.kernels.cpu.products.tiles import MAPPED, Tile, tile_of
from stemma.kernels.cpu.rows.activations import DIGIT_BITS, PAIR

FROM, TURN_FROM, UNPACK_FROM = 4, 17, 128
"""Rows from which a row is words; from which codes are unpacked into memory, two strips for 4 rows, for all rows;
sooner where they are turned (`mapped.py`). Fewer rows unpack a strip into registers, for 8 rows or 4."""
STRIPS, ROWS = 2, 4
ROWS_AHEAD = 8
"""How far ahead a row's outputs are asked for, which lie far from each other."""
CHUNK = 32
"""Blocks whose sums fit 32 bits, and that are unpacked at once."""
VECTORS = 16
"""Of pairs of inputs in a block of 32."""
AT_ONCE = 8
"""Of them, that the text of the inner loop holds: with more, LLVM makes a tree of a chain of sums and runs out of
registers."""
STRIP_BYTES = 64 * VECTORS
FACT_BYTES = 320
"""For a block and a strip: scales of two groups in lower and in upper words; minima of two groups side by side."""
TOTAL_BYTES = STRIPS * 128
WORDS_AT = 1 << 17
FACTS_AT = WORDS_AT + CHUNK * STRIPS * STRIP_BYTES
TOTALS_AT = FACTS_AT + CHUNK * STRIPS * FACT_BYTES
"""Where in a thread's scratch unpacked codes, their facts, and the totals of all rows stand."""
HALF, WORD, LARGEST_INT = 1 << 15, 1 << 16, (1 << 31) - 1


def largest_scale(tile: Tile) -> int:
    """Of a weight's 16 bits, or of what the codes leave of them."""
    return 2 * HALF // ((1 << tile.form.bits) - 1) + 1 if tile.form.has_minima else HALF - 1


def carry_blocks(tile: Tile) -> int:
    """Blocks whose lower words, scaled, fit a sum of 32 bits beside what a carry, or minima, leave there."""
    left = 2 * WORD if tile.form.has_minima else WORD - 1
    return min(CHUNK, (LARGEST_INT - left) // (HALF * largest_scale(tile) * tile.num_groups))


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Blocks of strips that are multiplied at once: some as they are packed, or all that fit the scratch, unpacked.

    first, count: which blocks of the rows. words, facts: where in the scratch they are unpacked, or None.
    """

    part: Part
    strips: list[Strip]
    first: Value
    count: Value
    words: Value | None = None
    facts: Value | None = None

    @property
    def tile(self) -> Tile:
        return tile_of(self.part.kind)

    @property
    def pairs(self) -> Value:
        """Pairs of minima: of two blocks, or of the groups of one."""
        return self.count if self.tile.num_groups == 2 else (self.count + 1) >> 1

    def facts_at(self, block: Value, nth: int) -> Value:
        assert self.facts is not None
        return self.facts + (block * (STRIPS * FACT_BYTES) + nth * FACT_BYTES)

    def scales(self, code: Code, block: Value, nth: int, group: int) -> tuple[Value, Value]:
        """In lower and in upper words."""
        if self.facts is not None:
            place = self.facts_at(block, nth) + 128 * group
            return code.load(INTS16, place, 64), code.load(INTS16, place + 64, 64)
        return self.read_scales(code, block, nth, group)

    def read_scales(self, code: Code, block: Value, nth: int, group: int) -> tuple[Value, Value]:
        """The same from what is packed."""
        lower = facts_of(code, self.tile, self.strips[nth], self.first + block)[0][group].widen_unsigned(INTS16)
        return lower, lower << 16

    def minima(self, code: Code, pair: Value, nth: int) -> Value:
        """Two side by side, in words. Beyond the last block any do: activations are zero."""
        if self.facts is not None:
            return code.load(INTS16, self.facts_at(pair, nth) + 256, 64)
        return self.read_minima(code, pair, nth)

    def read_minima(self, code: Code, pair: Value, nth: int) -> Value:
        strip = self.strips[nth]
        if self.tile.num_groups == 2:
            low, high = facts_of(code, self.tile, strip, self.first + pair)[1]
        else:
            blocks = (code.minimum(self.first + pair * 2 + i, strip.blocks - 1) for i in (0, 1))
            low, high = (facts_of(code, self.tile, strip, block)[1][0] for block in blocks)
        return low.widen_unsigned(INTS16) | (high.widen_unsigned(INTS16) << 16)

    def read_words(self, code: Code, block: Value, nth: int) -> list[Value]:
        """A block's weights before they are scaled, in words of pairs of inputs (0, 2), (1, 3), (4, 6) ..."""
        form, target = self.tile.form, self.part.target
        offset = target.byte_offset if form.has_table or form.bits == 8 else form.offset
        place = asked_for(code, self.tile, self.strips[nth], self.first + block)
        codes = bytes_of(code, self.tile, place)
        if form.has_table:
            codes = looked_up(code, self.part, codes)
        words = [
            word for code_ in codes for word in (code_.bits(WORDS) & 255, code_.bits(WORDS).unsigned_shift_right(8))
        ]
        return [word - offset for word in words] if offset else words


@dataclass(frozen=True, slots=True)
class _Rows:
    """Some rows, some of the strips, and their sums: low, high. places: of totals."""

    addresses: list[Value]
    strips: range
    places: list[list[Value]]
    sums: list[list[list[Variable]]]


def sweep_words(code: Code, part: Part, scratch: Value) -> None:
    """All rows against all strips of the part; rows are prepared as words."""
    count = part.rows[1] - part.rows[0]
    with code.either(count < (TURN_FROM if part.kind == MAPPED else UNPACK_FROM)) as (some, many):
        with some:
            _sweep(code, part, scratch, 1)
        with many:
            _sweep(code, part, scratch, STRIPS)


def _sweep(code: Code, part: Part, scratch: Value, at_once: int) -> None:
    """Some strips at once: one as it is packed, two unpacked."""
    number = (part.job["features"] + 31) // 32
    totals = scratch + TOTALS_AT
    with code.loop(*part.strips, at_once) as index:
        strips = [part.strip(code, code.minimum(index + i, part.strips[1] - 1)) for i in range(at_once)]
        with code.loop(0, number, CHUNK) as first:
            count = code.minimum(number - first, CHUNK)
            blocks = _Blocks(part, strips, first, count)
            if at_once == STRIPS:
                blocks = replace(blocks, words=scratch + WORDS_AT, facts=scratch + FACTS_AT)
                _unpack(code, blocks)
            _multiply(code, blocks, totals)
        _finish(code, part, strips, index, totals)


def _unpack(code: Code, to: _Blocks) -> None:
    assert to.words is not None
    with code.loop(0, to.count) as block:
        for nth in range(STRIPS):
            place = to.words + (block * (STRIPS * STRIP_BYTES) + nth * STRIP_BYTES)
            for j, word in enumerate(to.read_words(code, block, nth)):
                code.store(word, place + 64 * j, 64)
            for group in range(to.tile.num_groups):
                for i, scale in enumerate(to.read_scales(code, block, nth, group)):
                    code.store(scale, to.facts_at(block, nth) + (128 * group + 64 * i), 64)
    if to.tile.form.has_minima:
        with code.loop(0, to.pairs) as pair:
            for nth in range(STRIPS):
                code.store(to.read_minima(code, pair, nth), to.facts_at(pair, nth) + 256, 64)


def _multiply(code: Code, blocks: _Blocks, totals: Value) -> None:
    """All rows against some blocks. Rows beyond the last one are the last one again; nobody reads their totals."""
    part, row = blocks.part, code.variable(0)
    job, count = part.job, part.rows[1] - part.rows[0]
    wide, unpacked = part.target.max_rows == 8, blocks.words is not None
    together = [range(STRIPS)] if wide else [range(nth, nth + 1) for nth in range(STRIPS)]
    for at_once, least in [(2 * ROWS, ROWS + 1), (ROWS, 1)] if wide and not unpacked else [(ROWS, 1)]:
        with code.repeat(lambda least=least: row.value + least <= count):  # type: ignore[misc]
            addresses = [
                job["prepared"] + code.minimum(row.value + i, count - 1) * job["prepared_stride"]
                for i in range(at_once)
            ]
            to = totals + row.value * TOTAL_BYTES
            for strips in together if unpacked else [range(1)]:
                places = [[to + (TOTAL_BYTES * i + 128 * nth) for nth in strips] for i in range(at_once)]
                zero = code.constant(INTS16, 0)
                sums = [[[code.variable(zero) for _ in (0, 1)] for _ in strips] for _ in range(at_once)]
                _multiply_rows(code, blocks, _Rows(addresses, strips, places, sums))
            row.value = row.value + at_once


def _multiply_rows(code: Code, blocks: _Blocks, rows: _Rows) -> None:
    if blocks.tile.form.has_minima:
        _add_minima(code, blocks, rows)
    with code.loop(0, blocks.count, carry_blocks(blocks.tile)) as start:
        with code.loop(start, code.minimum(start + carry_blocks(blocks.tile), blocks.count)) as block:
            _add_block(code, blocks, rows, block)
        for row_sums in rows.sums:
            for low, high in row_sums:
                high.value = high.value + (low.value >> 16)
                low.value = low.value & (WORD - 1)
    for row_sums, row_places in zip(rows.sums, rows.places, strict=True):
        for (low, high), place in zip(row_sums, row_places, strict=True):
            word = code.constant(DOUBLES16, float(WORD))
            total = code.variable(code.fma(high.value.to(DOUBLES16), word, low.value.to(DOUBLES16)))
            with code.when(blocks.first > 0):
                total.value = code.load(DOUBLES16, place, 64) + total.value
            code.store(total.value, place, 64)


def _add_block(code: Code, blocks: _Blocks, rows: _Rows, block: Value) -> None:
    words = [] if blocks.words is not None else blocks.read_words(code, block, 0)
    dot_words = blocks.part.target.dot_words
    for group in range(blocks.tile.num_groups):
        dots = _dots(code, blocks, rows, (block, group), words)
        for which, nth in enumerate(rows.strips):
            scales = blocks.scales(code, block, nth, group)
            for row_sums, row_dots in zip(rows.sums, dots, strict=True):
                dot = row_dots[which] ^ HALF
                for sums, scale in zip(row_sums[which], scales, strict=True):
                    sums.value = dot_words(code, sums.value, dot, scale)


def _dots(
    code: Code, blocks: _Blocks, rows: _Rows, where: tuple[Value, int], words: list[Value]
) -> list[list[Value]]:  # fmt: skip
    """Of one group of a block, by row and strip, plus HALF. words: the block's, if they are not in the scratch."""
    (block, group), per_group = where, VECTORS // blocks.tile.num_groups
    dots = [[code.variable(code.constant(INTS16, HALF)) for _ in rows.strips] for _ in rows.addresses]
    inputs = (blocks.first + block) * PAIR + 4 * per_group * group
    if blocks.words is None:
        for j, word in enumerate(words[group * per_group : (group + 1) * per_group]):
            _add_dots(code, blocks.part, rows, dots, [word], inputs + 4 * j)
    else:
        weights = blocks.words + (block * (STRIPS * STRIP_BYTES) + 64 * per_group * group)
        with code.loop(0, per_group, AT_ONCE) as vector:
            for j in range(AT_ONCE):
                place = weights + vector * 64
                both = [code.load(INTS16, place + (nth * STRIP_BYTES + 64 * j), 64) for nth in rows.strips]
                _add_dots(code, blocks.part, rows, dots, both, inputs + vector * 4 + 4 * j)
    return [[dot.value for dot in row_dots] for row_dots in dots]


def _add_dots(
    code: Code, part: Part, rows: _Rows, dots: list[list[Variable]], words: list[Value], inputs: Value
) -> None:  # fmt: skip
    """A pair of inputs of all rows."""
    for row, row_dots in zip(rows.addresses, dots, strict=True):
        x = code.broadcast(I32, row + inputs, 16)
        for dot, word in zip(row_dots, words, strict=True):
            dot.value = part.target.dot_words(code, dot.value, word, x)


def _add_minima(code: Code, blocks: _Blocks, rows: _Rows) -> None:
    """Sums begin with them: their digits' products, put where words belong."""
    pairs = (blocks.part.job["features"] + (PAIR - 1)) // PAIR
    start = pairs * (2 * PAIR) + 64
    start = start + (pairs * 8 + blocks.first * 8 if blocks.tile.num_groups == 2 else blocks.first * 4)
    with code.loop(0, blocks.pairs) as pair:
        minima = [blocks.minima(code, pair, nth) for nth in rows.strips]
        for row, row_sums in zip(rows.addresses, rows.sums, strict=True):
            for digit in (0, 1):
                x = code.broadcast(I32, row + start + (pair * 8 + 4 * digit), 16)
                for minimum, sums in zip(minima, row_sums, strict=True):
                    sums[digit].value = blocks.part.target.dot_words(code, sums[digit].value, minimum, x)
    step = 16 - DIGIT_BITS
    for row_sums in rows.sums:
        for low, high in row_sums:
            lower, upper = low.value, high.value
            low.value = (lower & (WORD - 1)) + ((upper & ((1 << step) - 1)) << DIGIT_BITS)
            high.value = (lower >> 16) + (upper >> step)


def _finish(code: Code, part: Part, strips: Sequence[Strip], index: Value, totals: Value) -> None:
    units = [code.load(FLOATS16, strip.units) for strip in strips]
    scales = part.job["prepared"] + strips[0].pairs * (2 * PAIR)
    count = part.rows[1] - part.rows[0]
    job, columns = part.job, part.job["out_features"] * 4
    gated = job["gate"].differs(0).widen_unsigned(I64)
    column = part.segment["first_output"] + index.unsigned_shift_right(gated) * STRIP
    outputs = job["out"] + (part.rows[0] + ROWS_AHEAD) * columns + column * 4
    with code.loop(0, count) as row:
        for nth in range(len(strips)):
            code.prefetch(outputs + row * columns + 64 * nth)
        at = scales + row * part.job["prepared_stride"]
        for nth, unit in enumerate(units):
            with code.when(index + nth < part.strips[1]):
                total = code.load(DOUBLES16, totals + (row * TOTAL_BYTES + 128 * nth), 64)
                waiting = part.results + (row * 128 + ((index + nth) & 1) * 64)
                finish(code, part, part.rows[0] + row, index + nth, scaled(code, total, at, unit), waiting)

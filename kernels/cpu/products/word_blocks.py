"""Blocks of packed weights as words of 16 bits: read where they are packed, or where they lie unpacked in a thread's
scratch, with their scales and minima beside them. `many.py` multiplies them.
"""

from __future__ import annotations

from dataclasses import dataclass

from stemma.kernels.cpu.machine.dialect import INTS16, Code, Value
from stemma.kernels.cpu.products.strips import WORDS, Part, Strip, asked_for, bytes_of, facts_of, looked_up
from stemma.kernels.cpu.products.tiles import Tile, tile_of

VECTORS = 16
"""Of pairs of inputs in a block of 32."""
STRIP_BYTES = 64 * VECTORS
FACT_BYTES = 320
"""For a block and a strip: scales of two groups in lower and in upper words; minima of two groups side by side."""
SIGN = 128
"""What is added to signed bytes: where it is, they differ in one bit."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of strips that are multiplied at once: some as they are packed, or all that fit the scratch, unpacked.

    first, count: which blocks of the rows. words, facts: where in the scratch they are unpacked, or None.
    """

    part: Part
    strips: list[Strip]
    first: Value
    count: Value
    scratch: Value
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
        return self.facts + (block * (len(self.strips) * FACT_BYTES) + nth * FACT_BYTES)

    def words_at(self, block: Value, nth: int) -> Value:
        assert self.words is not None
        return self.words + (block * (len(self.strips) * STRIP_BYTES) + nth * STRIP_BYTES)

    def facts_of(self, code: Code, block: Value, nth: int) -> list[Value]:
        """Scales of a block's groups as they are packed, 16 bits each."""
        return facts_of(code, self.tile, self.strips[nth], self.first + block)[0]

    def scales(self, code: Code, block: Value, nth: int, group: int) -> tuple[Value, Value]:
        """In lower and in upper words."""
        if self.facts is None:
            return in_both_words(self.facts_of(code, block, nth)[group])
        place = self.facts_at(block, nth) + 128 * group
        return code.load(INTS16, place, 64), code.load(INTS16, place + 64, 64)

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
        if offset == SIGN:
            # what turns a file's codes adds it, so that for those nothing is done
            signed = [(code_ ^ -SIGN).bits(WORDS) for code_ in codes]
            return [word for both in signed for word in ((both << 8) >> 8, both >> 8)]
        pairs = [code_.bits(WORDS) for code_ in codes]
        words = [word for both in pairs for word in (both & 255, both.unsigned_shift_right(8))]
        return [word - offset for word in words] if offset else words


def in_both_words(scale: Value) -> tuple[Value, Value]:
    """16 bits of each output, in lower and in upper words."""
    lower = scale.widen_unsigned(INTS16)
    return lower, lower << 16

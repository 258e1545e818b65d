"""How the codes of a form (`kernels/codes.py`) lie in a tile of 16 outputs x 32 inputs: planes of 4, 2 and 1 bits that
make up a code, the lowest bits first. No machine code is written here.

    vector j       inputs 4j .. 4j+3 of 16 outputs, a byte each; j = 0 .. 7
    4 bits         4 vectors: j in the low half of a byte, j + 4 in the high half
    2 bits         2 vectors: j = 0 .. 3 in the first, from the lowest bits up, j = 4 .. 7 in the second
    1 bit          1 vector: j is bit j of a byte
    8 bits         8 vectors

Facts of a tile: the scale of each output, for each group of inputs, then their minima; 16 bits each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from stemma.kernels.codes import FORMS, Form

Array = npt.NDArray[Any]


class Cut(NamedTuple):
    """Bits of the codes of one vector: which vector of the tile holds them, where, and where in a code they belong."""

    vector: int
    from_bit: int
    to_bit: int
    num_bits: int


@dataclass(frozen=True, slots=True)
class Tile:
    """The tile of a form."""

    form: Form

    @property
    def weight_bytes(self) -> int:
        return 64 * self.form.bits

    @property
    def num_groups(self) -> int:
        """Groups of inputs with a scale of their own."""
        return 32 // self.form.group

    @property
    def fact_bytes(self) -> int:
        return 32 * self.num_groups * (2 if self.form.has_minima else 1)

    @property
    def num_digits(self) -> int:
        """Bytes of the integer that a weight is: 16 bits with a minimum, else a code times 16 bits."""
        return 2 if self.form.has_minima else 3

    @property
    def is_small(self) -> bool:
        """Whether the codes that are multiplied are below 128."""
        return self.form.bits < 8 and not self.form.has_table

    def cuts(self, j: int) -> list[Cut]:
        """What vector j is put together of."""
        cuts, first, bit = [], 0, 0
        for num_bits in self._planes():
            per_vector = 8 // num_bits
            if num_bits == 4:
                cuts.append(Cut(first + j % 4, j // 4 * 4, bit, 4))
            else:
                cuts.append(Cut(first + j // per_vector, j % per_vector * num_bits, bit, num_bits))
            first, bit = first + num_bits, bit + num_bits
        return cuts

    def rows(self, codes: Array) -> Array:
        """What one output contributes: codes (outputs, blocks, 32) -> (outputs, blocks, 4 * bits) bytes, of which each
        four in turn belong to one vector."""
        if self.form.bits == 8:
            return codes
        vectors = codes.view(np.uint32)  # (outputs, blocks, 8): byte m of number j is input 4j + m
        whole = np.zeros((*vectors.shape[:2], self.form.bits), dtype=np.uint32)
        for j in range(8):
            for cut in self.cuts(j):
                bits = (vectors[..., j] >> cut.to_bit) & np.uint32(0x01010101 * ((1 << cut.num_bits) - 1))
                whole[..., cut.vector] |= bits << cut.from_bit
        return whole.view(np.uint8)

    def _planes(self) -> list[int]:
        return [size for size in (4, 2, 1) if self.form.bits & size]


@cache
def tile_of(kind: str) -> Tile:
    """The tile of the form of this name."""
    return Tile(FORMS[kind])

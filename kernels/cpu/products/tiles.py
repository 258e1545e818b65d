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

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from stemma.kernels.codes import FORMS, Form


class Cut(NamedTuple):
    """Bits of the codes of one vector: which vector of the tile holds them, where, and where in a code they belong."""

    vector: int
    from_bit: int
    to_bit: int
    num_bits: int


@dataclass(frozen=True, slots=True)
class Tile:
    """The tile of a form. file_bytes: of 32 inputs in a file, where products read it as it is (`mapped.py`)."""

    form: Form
    file_bytes: int = 0

    @property
    def weight_bytes(self) -> int:
        return 16 * self.file_bytes or 64 * self.form.bits

    @property
    def num_groups(self) -> int:
        """Groups of inputs with a scale of their own."""
        return 32 // self.form.group

    @property
    def fact_bytes(self) -> int:
        return 0 if self.file_bytes else 32 * self.num_groups * (2 if self.form.has_minima else 1)

    @property
    def num_digits(self) -> int:
        """Bytes of the integer that a weight is: 16 bits with a minimum, else a code times 16 bits."""
        return 2 if self.form.has_minima else 3

    @property
    def largest_code(self) -> int:
        """Of those that are multiplied: what a table has is signed, and has 128 added."""
        return 255 if self.form.has_table else (1 << self.form.bits) - 1

    def planes(self) -> list[int]:
        """Bits of each plane, that of the lowest bits of codes first."""
        return [size for size in (8, 4, 2, 1) if self.form.bits & size]

    @staticmethod
    def places(num_bits: int) -> list[list[int]]:
        """For each place in the bytes of a plane's vectors, from the lowest bits up: which vector of inputs has it in
        each of them."""
        if num_bits == 4:
            return [[0, 1, 2, 3], [4, 5, 6, 7]]
        num_places = 8 // num_bits
        return [[vector * num_places + place for vector in range(num_bits)] for place in range(num_places)]

    def cuts(self, j: int) -> list[Cut]:
        """What vector j is put together of."""
        cuts, bit = [], 0
        for num_bits in self.planes():
            for place, vectors in enumerate(self.places(num_bits)):
                if j in vectors:
                    cuts.append(Cut(bit + vectors.index(j), place * num_bits, bit, num_bits))
            bit += num_bits
        return cuts


MAPPED = "q8_mapped"
"""The kind of Q8_0 that stays in its file."""
TILES: Mapping[str, Tile] = MappingProxyType(
    {name: Tile(form) for name, form in FORMS.items()} | {MAPPED: Tile(FORMS["q8"], 34)}
)
"""By kind: the forms, packed, and what is read as it lies in the file."""


def tile_of(kind: str) -> Tile:
    """The tile of this kind of packed weights."""
    return TILES[kind]

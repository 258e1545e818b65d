"""Open addressing: rows of a table by the three numbers they begin with, so that equal ones have one id. Kernels.

`index` has a power of two of slots, each with the number of a row, or -1. Who adds a row sees that some stay free.
"""

from __future__ import annotations

from stemma.fsm.kernels.columns import KEY, LOW_BITS, stack_of, state_of
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.tables import Int64s


@helper
def hash_three(first: int, second: int, third: int) -> int:
    value = int(first) * 0x9E3779B1 & LOW_BITS  # what is read from an array may have 32 bits
    value = (value ^ int(second)) * 0x85EBCA6B & LOW_BITS
    value = (value ^ int(third)) * 0xC2B2AE35 & LOW_BITS
    return value ^ (value >> 15)


@helper
def hash_item(item: int) -> int:
    return hash_three(state_of(item) & LOW_BITS, stack_of(item), 0)


@helper
def slot_of(rows: Int64s, index: Int64s, first: int, second: int, third: int) -> int:
    """The slot of the row that begins with these three numbers; if there is none, the free slot where it belongs."""
    mask = len(index) - 1
    slot = hash_three(first, second, third) & mask
    while index[slot] >= 0:
        row = index[slot]
        if rows[row, KEY.first] == first and rows[row, KEY.second] == second and rows[row, KEY.third] == third:
            break
        slot = (slot + 1) & mask
    return slot

"""How far two lists of tokens say the same."""

from __future__ import annotations

from collections.abc import Sequence


def num_equal(left: Sequence[int], right: Sequence[int]) -> int:
    """Tokens with which both begin."""
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count

"""How far two lists of tokens say the same."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stemma.runtime.core.agreement import num_equal

TOKENS = st.lists(st.integers(0, 2), max_size=6)


@given(TOKENS, TOKENS)
def test_it_is_the_longest_common_beginning(left, right):
    count = num_equal(left, right)
    assert left[:count] == right[:count]
    assert left[count : count + 1] != right[count : count + 1] or count == len(left) == len(right)

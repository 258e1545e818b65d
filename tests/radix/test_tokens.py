"""Packed tokens compare as their lists do."""

import hypothesis.strategies as st
from hypothesis import given

from stemma.radix.reuse import NUM_BINS, age_bin, bin_start
from stemma.radix.tokens import common_prefix, pack, token_at, unpack

token = st.integers(-(2**31), 2**31 - 1)
texts = st.lists(token, max_size=80)


@given(texts, texts, texts, texts)
def test_common_prefix(same: list[int], left: list[int], right: list[int], before: list[int]) -> None:
    edge, query = same + left, before + same + right
    expected = next(
        (index for index, (ours, theirs) in enumerate(zip(edge, query[len(before) :], strict=False)) if ours != theirs),
        min(len(edge), len(query) - len(before)),
    )
    assert common_prefix(pack(edge), pack(query), len(before)) == expected


@given(st.lists(token, min_size=1))
def test_packing(tokens: list[int]) -> None:
    assert unpack(pack(tokens)) == tokens
    assert token_at(pack(tokens), len(tokens) - 1) == tokens[-1]


@given(st.integers(0, 10**6))
def test_age_bins_cover_all_ages(age: int) -> None:
    index = age_bin(age)
    assert bin_start(index) <= age
    assert index == NUM_BINS - 1 or age < bin_start(index + 1)

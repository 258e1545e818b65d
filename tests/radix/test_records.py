"""Bytes that are packed into pieces: found again whatever came and went, and little is kept in vain."""

import random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from stemma.radix.records import Records


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 30)), max_size=80),
    st.integers(0, 3),
    st.sampled_from((1, 2**20, 2**26, 2**30)),
)
def test_they_are_a_dictionary(ways: list[tuple[int, int]], most_recent: int, step: int) -> None:
    """Numbers that are multiples of 2**30 have the same hash, so all of them are in one run."""
    records, kept = Records(most_recent), dict[int, bytes]()
    for number, length in ways:
        number *= step
        if number in kept:
            assert records.pop(number) == kept.pop(number)
        else:
            kept[number] = bytes([length]) * length
            records.put(number, kept[number])
        assert len(records) == len(kept)
        assert records.get(number) == kept.get(number)
        records.check()
    assert dict(records.items()) == kept
    assert all(records.has(number * step) == (number * step in kept) for number in range(41))


@pytest.mark.parametrize("order", ["oldest first", "newest first", "any"])
def test_pieces_go_when_what_is_in_them_goes(order: str) -> None:
    draws, records, kept = random.Random(3), Records(0), dict[int, bytes]()
    for number in range(12_000):
        if number > 2000:
            chosen = {"oldest first": 0, "newest first": -1, "any": draws.randrange(2000)}[order]
            gone = list(kept)[chosen] if number % 4 == 0 or order == "newest first" else next(iter(kept))
            assert records.pop(gone) == kept.pop(gone)
        kept[number] = draws.randbytes(draws.choice((10, 200, 3000, 5000)))
        records.put(number, kept[number])
    records.check()
    assert dict(records.items()) == kept
    num_bytes = sum(len(record) + 12 for record in kept.values() if len(record) < 5000)
    assert sum(map(len, records._pieces)) < 1.5 * num_bytes + 2**17
    for number in list(kept):
        records.pop(number)
    assert len(records) == 0
    assert sum(map(len, records._pieces)) <= 2**16
    records.check()

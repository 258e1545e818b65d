"""A record is read back under its own key, and nothing else is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stemma.runtime.tiers.records import HEADER, KEY_BYTES, fingerprint, key_of, read_head, seal, unseal

keys = st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES)


@given(keys, st.binary(max_size=300))
def test_what_was_sealed_is_read_back(key, payload):
    record = seal(key, payload)
    found = unseal(key, record)
    assert found is not None
    assert bytes(found) == payload
    assert read_head(record).num_bytes == len(record) == HEADER.size + len(payload)


@given(keys, keys, st.binary(max_size=300))
def test_a_record_under_another_key_is_a_miss(key, other, payload):
    assert (unseal(other, seal(key, payload)) is None) == (key != other)


@given(keys, st.binary(min_size=1, max_size=300), st.data())
def test_any_flipped_bit_is_a_miss(key, payload, data):
    record = bytearray(seal(key, payload))
    bit = data.draw(st.integers(0, 8 * len(record) - 1))
    record[bit // 8] ^= 1 << bit % 8
    assert unseal(key, bytes(record)) is None


@given(keys, st.binary(max_size=300), st.data())
def test_any_other_length_is_a_miss(key, payload, data):
    record = seal(key, payload)
    assert unseal(key, record[: data.draw(st.integers(0, len(record) - 1))]) is None
    assert unseal(key, record + data.draw(st.binary(min_size=1, max_size=9))) is None


@given(st.binary(max_size=400))
def test_whatever_else_stands_there_is_a_miss(data):
    assert unseal(bytes(KEY_BYTES), data) is None


def test_keys_of_two_engines_are_never_the_same():
    block = bytes(16)
    assert key_of(fingerprint(b"a"), block) != key_of(fingerprint(b"b"), block)
    assert key_of(fingerprint(b"a"), block) == key_of(fingerprint(b"a"), block)

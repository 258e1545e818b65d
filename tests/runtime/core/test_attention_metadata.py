"""Where a step's tokens stand: against the picture in `kernels/ops.py`, place by place."""

from __future__ import annotations

from array import array
from types import SimpleNamespace

from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.kernels.ops import SharedPrefix
from stemma.runtime.core.attention_metadata import MIN_SHARED_TOKENS, make_attention_metadata
from stemma.runtime.core.batch import Batch
from tests.runtime.core.making import row, sequence


def batch_of(*rows: tuple[list[int], int, int]) -> Batch:
    """Rows of (block table, start, number of tokens)."""
    batch = Batch()
    for blocks, start, num_tokens in rows:
        item = sequence([0])
        item.lease = SimpleNamespace(blocks=array("i", blocks))
        batch.add(row(item, start, [0] * num_tokens))
    return batch


def test_the_picture_of_the_protocol():
    """Ten tokens over blocks of four in the table [7, 2, 5], the last three of them new."""
    metadata = make_attention_metadata(batch_of(([7, 2, 5], 7, 3)), 4)
    assert metadata.positions.tolist() == [7, 8, 9]
    assert metadata.slots.tolist() == [11, 20, 21]
    assert metadata.query_starts.tolist() == [0, 3]
    assert metadata.context_lens.tolist() == [10]
    assert metadata.block_tables.tolist() == [[7, 2, 5]]


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_each_token_has_its_place(data):
    size = data.draw(st.sampled_from([1, 3, 4, 16]))
    rows = []
    for _ in range(data.draw(st.integers(1, 5))):
        start, num_tokens = data.draw(st.integers(0, 40)), data.draw(st.integers(1, 20))
        least = -(-(start + num_tokens) // size)
        blocks = data.draw(st.lists(st.integers(0, 999), min_size=least, max_size=least + 3, unique=True))
        rows.append((blocks, start, num_tokens))
    metadata = make_attention_metadata(batch_of(*rows), size)
    for number, (blocks, start, num_tokens) in enumerate(rows):
        first, end = metadata.query_starts[number : number + 2]
        places = list(range(start, start + num_tokens))
        assert metadata.positions[first:end].tolist() == places
        assert metadata.slots[first:end].tolist() == [blocks[at // size] * size + at % size for at in places]
        assert metadata.context_lens[number] == start + num_tokens
        table = metadata.block_tables[number].tolist()
        assert table[: len(blocks)] == blocks
        assert not any(table[len(blocks) :])
    assert metadata.query_starts[-1] == len(metadata.positions) == len(metadata.slots)


SIZE = 16
LEAST = MIN_SHARED_TOKENS // SIZE


def decoding(*tables: list[int]) -> Batch:
    """Rows that compute the token behind all of their blocks but the last."""
    return batch_of(*((blocks, (len(blocks) - 1) * SIZE, 1) for blocks in tables))


def test_neighbours_with_the_same_first_blocks_share_a_pass():
    common = list(range(100, 100 + LEAST))
    batch = decoding([*common, 1], [*common, 2], [*common, 3], [4] * (LEAST + 1))
    assert make_attention_metadata(batch, SIZE).shared_prefixes == (SharedPrefix(0, 3, LEAST),)


def test_a_common_beginning_that_is_short_gets_no_pass():
    common = list(range(100, 100 + LEAST - 1))
    assert make_attention_metadata(decoding([*common, 1, 2], [*common, 3, 4]), SIZE).shared_prefixes == ()


def test_a_block_that_is_being_filled_is_not_shared():
    """Two prompts whose first blocks are the same, of which one still computes tokens of them."""
    common = list(range(100, 100 + LEAST))
    batch = batch_of(([*common, 1], LEAST * SIZE, 1), ([*common, 2], LEAST * SIZE - 1, 2))
    assert make_attention_metadata(batch, SIZE).shared_prefixes == ()


def test_a_pass_is_as_long_as_it_saves_the_most_reads_of_blocks():
    """A third row that shares a block less joins the first two; one that shares a fifth of their blocks does not."""
    path = list(range(100, 140))
    batch = decoding([*path[: LEAST + 1], 1], [*path[: LEAST + 1], 2], [*path[:LEAST], 3])
    assert make_attention_metadata(batch, SIZE).shared_prefixes == (SharedPrefix(0, 3, LEAST),)
    batch = decoding([*path, 1], [*path, 2], *([*path[:LEAST], 10 + number] for number in range(10)))
    assert make_attention_metadata(batch, SIZE).shared_prefixes == (SharedPrefix(0, 2, 40), SharedPrefix(2, 12, LEAST))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_what_is_shared_is_shared_by_all_of_them(data):
    depths = data.draw(st.lists(st.integers(0, 2 * LEAST), min_size=1, max_size=8))
    path = list(range(1, 2 * LEAST + 1))
    rows = []
    for number, depth in enumerate(depths):
        own = [1000 * (number + 1) + at for at in range(2)]
        blocks = [*path[:depth], *own]
        start = data.draw(st.integers(max(0, depth * SIZE - 20), (depth + 1) * SIZE))
        rows.append((blocks, start, 1))
    seen: set[int] = set()
    for first, last, num_blocks in make_attention_metadata(batch_of(*rows), SIZE).shared_prefixes:
        assert last - first >= 2
        assert num_blocks >= LEAST
        members = set(range(first, last))
        assert not members & seen
        seen |= members
        assert len({tuple(rows[number][0][:num_blocks]) for number in members}) == 1
        assert all(rows[number][1] >= num_blocks * SIZE for number in members)

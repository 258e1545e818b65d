"""The made-up traffic is what its page says."""

from __future__ import annotations

from collections import Counter

import pytest

from stemma.runtime.errors import InvalidRequest
from stemma.scale.simulation.synthetic import synthetic
from stemma.scale.simulation.trace import BAILIAN_BLOCK, NOBODY

RECORDS = synthetic(7, 3000, 10.0)


def test_a_seed_is_one_trace_and_another_seed_another():
    assert synthetic(7, 3000, 10.0) == RECORDS
    assert synthetic(8, 3000, 10.0) != RECORDS


def test_an_id_stands_behind_one_other_only():
    before: dict[int, int] = {}
    for record in RECORDS:
        for parent, block in zip((NOBODY, *record.ids), record.ids, strict=False):
            assert before.setdefault(block, parent) == parent


def test_chats_grow_by_their_answers_and_come_in_order():
    assert [record.at for record in RECORDS] == sorted(record.at for record in RECORDS)
    by_chat = {record.chat: record for record in RECORDS}
    later = [record for record in RECORDS if record.parent != NOBODY]
    assert len(later) > 1000
    for record in later:
        parent = by_chat[record.parent]
        full = parent.input_len // BAILIAN_BLOCK
        assert record.input_len > parent.input_len + parent.output_len
        assert record.ids[:full] == parent.ids[:full]
        assert (record.turn, record.kind) == (parent.turn + 1, parent.kind)


def test_some_beginnings_are_far_more_popular_than_others():
    counts = Counter(record.ids[0] for record in RECORDS if record.parent == NOBODY and record.kind == "text")
    shares = [count for _, count in counts.most_common()]
    assert shares[0] > 5 * shares[len(shares) // 2]


def test_all_kinds_are_there():
    assert set(Counter(record.kind for record in RECORDS)) == {"text", "agent", "search", "api"}


def test_no_requests_or_no_rate_is_refused():
    for number, rate in ((0, 1.0), (1, 0.0)):
        with pytest.raises(InvalidRequest):
            synthetic(1, number, rate)

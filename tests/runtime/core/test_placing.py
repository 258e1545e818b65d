"""Rows of a step: what of a sequence is computed, within which budgets."""

from __future__ import annotations

import pytest

from stemma.radix import PrefixCache
from stemma.runtime.core.batch import Batch
from stemma.runtime.core.limits import Limits
from stemma.runtime.core.order import ORDERS
from stemma.runtime.core.placing import Placing
from stemma.runtime.core.running import Running
from stemma.runtime.core.waiting import Waiting
from tests.runtime.core import making
from tests.runtime.core.making import sequence


def placing(num_blocks=16, guess=lambda tokens: [], **limits) -> Placing:
    made = Limits(**limits)
    return Placing(PrefixCache(num_blocks, 4), made, Running(), Waiting(ORDERS["fair"]), making.drafter(guess))


def put(made: Placing, prompt, num_computed, **options):
    item = making.running(made.cache, sequence(prompt, **options), num_computed)
    made.running.add(item)
    return item


def never(item, error):
    raise error


def test_a_prompt_is_cut_into_chunks_and_sampled_at_its_end():
    made = placing(max_chunk=5)
    item = put(made, range(12), 0)
    rows = []
    for start in (0, 5, 10):
        item.num_computed = start
        batch = Batch()
        made.begin(batch)
        made.begin_prompts(batch)
        assert made.place(batch, item)
        rows += batch.rows
        item.lease.extend(batch.rows[0].tokens)
    assert [(row.start, len(row.tokens), row.num_samples) for row in rows] == [(0, 5, 0), (5, 5, 0), (10, 2, 1)]


def test_a_step_holds_no_more_tokens_than_it_may():
    made = placing(max_batch_tokens=6, max_chunk=4)
    items = [put(made, range(n, n + 8), 0) for n in (0, 100)]
    batch = Batch()
    made.begin(batch)
    made.begin_prompts(batch)
    assert all(made.place(batch, item) for item in items)
    assert [len(row.tokens) for row in batch.rows] == [4, 2]
    assert batch.num_prompt_tokens == batch.num_tokens == 6


def test_those_who_decode_take_a_token_each_and_none_finds_room_where_there_is_none():
    made = placing(num_blocks=2)
    items = [put(made, [n, n + 1, n + 2], 3) for n in (0, 50)]
    for item in items:
        item.tokens.append(item.tokens[0] + 3)
    batch = Batch()
    made.begin(batch)
    assert made.place_decodes(batch, never)
    assert [(row.start, row.tokens) for row in batch.rows] == [(3, [3]), (3, [53])]
    for row in batch.rows:
        row.sequence.lease.extend(row.tokens)
        row.sequence.tokens.append(9)
        row.sequence.num_computed = 4
    batch = Batch()
    made.begin(batch)
    assert not made.place_decodes(batch, never)
    assert not batch.rows
    made.cache.check()


def test_only_who_has_drafts_or_no_room_left_asks_its_lease_for_more(monkeypatch):
    made = placing(guess=lambda tokens: [7] if tokens[0] == 50 and len(tokens) > 3 else [])
    items = [put(made, [n, n + 1], 2) for n in (0, 50, 90)]
    asked, tell = [], made.tell_lease
    monkeypatch.setattr(made, "tell_lease", lambda item: (asked.append(item), tell(item)))
    found = []
    for _ in range(3):  # a first row, one in the block's last place, one behind it
        asked.clear()
        for item in items:
            item.tokens.append(9)
        batch = Batch()
        made.begin(batch)
        assert made.place_decodes(batch, never)
        assert [row.sequence for row in batch.rows] == [*made.running.by_side()]
        found.append({row.sequence.tokens[0]: (row.sequence in asked, row.tokens) for row in batch.rows})
        for item in items:
            item.num_computed += 1
    assert found == [
        {0: (True, [9]), 50: (True, [9]), 90: (True, [9])},
        {0: (False, [9]), 50: (True, [9, 7]), 90: (False, [9])},
        {0: (True, [9]), 50: (True, [9, 7]), 90: (True, [9])},
    ]
    made.cache.check()


def test_drafts_are_left_out_where_they_find_no_room():
    made = placing(num_blocks=1, guess=lambda tokens: [7, 8, 9])
    item = put(made, [1, 2, 3], 2)
    batch = Batch()
    made.begin(batch)
    made.begin_prompts(batch)
    assert made.place(batch, item)
    (row,) = batch.rows
    assert (row.tokens[:1], row.num_samples) == ([3], 1 + row.num_drafts)
    assert len(row.tokens) + row.start <= 4


def test_the_pace_of_prompts_knows_how_many_of_a_step_are_drafts(monkeypatch):
    made, asked = placing(guess=lambda tokens: [7, 8, 9]), []
    item = put(made, [1, 2, 3], 3)
    item.tokens.append(4)
    monkeypatch.setattr(made.pace, "budget", lambda decodes, context, **how: asked.append((decodes, how)) or 8)
    batch = Batch()
    made.begin(batch)
    assert made.place_decodes(batch, never)
    made.begin_prompts(batch)
    ((decodes, how),) = asked
    assert decodes.num_decoded == 1 + batch.num_drafts > 1
    assert how["num_drafts"] == batch.num_drafts


@pytest.mark.parametrize("known", [2, 5])
def test_a_lease_hears_late_of_what_was_decoded(known):
    made = placing()
    item = put(made, [1, 2], 2)
    item.tokens += [3, 4, 5]
    item.lease.reserve(3)
    item.lease.extend(item.tokens[2:known])
    item.num_computed = 5
    made.tell_lease(item)
    assert item.lease.num_tokens == 5

"""Which positions of a row need logits, and what a batch still counts when a sequence has ended."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stemma.runtime.core.batch import Batch, RowResult
from stemma.runtime.core.sequence import FinishReason
from tests.runtime.core.making import row, sequence


@given(st.data())
def test_logits_are_those_of_the_samples_and_of_what_predicts_a_scored_token(data):
    num_prompt = data.draw(st.integers(1, 12))
    num_generated = data.draw(st.integers(0, 4))
    scored_from = data.draw(st.none() | st.integers(1, num_prompt + 1))
    options = {} if scored_from is None else {"prompt_logprobs": 0, "scored_from": scored_from}
    item = sequence(range(num_prompt), **options)
    item.tokens += [7] * num_generated
    start = data.draw(st.integers(0, len(item.tokens) - 1))
    end = data.draw(st.integers(start + 1, len(item.tokens)))
    num_samples = data.draw(st.integers(1, min(3, end - start))) if end == len(item.tokens) else 0
    made = row(item, start, item.tokens[start:end], num_samples=num_samples)

    sampled = range(end - num_samples, end)
    scored = [] if scored_from is None else [at for at in range(start, end) if scored_from <= at + 1 < num_prompt]
    first = min([*sampled, *scored], default=end)
    assert end - first <= made.num_logits <= end - min(first, max(num_prompt - 1, start))
    if not scored and (scored_from is None or start >= num_prompt):
        assert made.num_logits == num_samples


def test_what_ended_after_it_was_put_in_is_not_computed():
    batch, items = Batch(), [sequence(range(length)) for length in (3, 5, 2)]
    for item in items:
        batch.add(row(item, 0, item.tokens))
    assert batch.num_tokens == 10
    items[1].finish_reason = FinishReason.ABORT
    batch.drop_finished()
    assert [made.sequence for made in batch.rows] == [items[0], items[2]]
    assert batch.num_tokens == 5


def test_results_of_two_rows_are_two_lists():
    one, other = RowResult(), RowResult()
    one.tokens.append(1)
    assert (other.tokens, other.prompt_logprobs) == ([], ())


@given(st.lists(st.sampled_from(["decode", "prompt", "end", "scored", "drafts"]), min_size=1, max_size=6))
def test_a_step_is_single_if_no_row_is_asked_for_more_than_one_token(kinds):
    made = {
        "decode": lambda: row(sequence([1]), 0, [1]),
        "prompt": lambda: row(sequence(range(9)), 0, [0, 1, 2], num_samples=0),
        "end": lambda: row(sequence(range(3)), 0, [0, 1, 2], num_samples=1),
        "scored": lambda: row(sequence(range(9), prompt_logprobs=0), 0, [0, 1, 2], num_samples=0),
        "drafts": lambda: row(sequence([1]), 0, [1, 5], num_drafts=1, num_samples=2),
    }
    batch = Batch()
    for kind in kinds:
        batch.add(made[kind]())
    assert batch.is_single == ({"scored", "drafts"}.isdisjoint(kinds))
    batch.keep(batch.rows[:1])
    assert batch.is_single == (kinds[0] not in {"scored", "drafts"})

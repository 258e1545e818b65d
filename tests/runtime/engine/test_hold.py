"""Holds keep a path from eviction, yield when blocks run out, and go with their last reference."""

from __future__ import annotations

import gc
import time

import pytest

from stemma.runtime.errors import InvalidRequest, PinRefused, PoolExhausted

PROMPT = list(range(40))


def fill(engine, num_prompts=8):
    """Push everything that nobody holds out of a small pool."""
    for index in range(num_prompts):
        engine.generate([100 + index] * 60, max_tokens=4)


def test_a_held_path_survives_what_evicts_the_rest(make):
    engine = make(kv_tokens=256)
    hold = engine.hold()
    engine.submit(PROMPT, hold=hold, max_tokens=8, ignore_eos=True).result()
    assert engine.stats().cache.leased == 3
    fill(engine)
    assert engine.generate(PROMPT, max_tokens=1).usage.cached_tokens == len(PROMPT) - 1
    hold.release()
    fill(engine)
    assert engine.generate(PROMPT, max_tokens=1).usage.cached_tokens == 0


def test_what_was_generated_is_held_too(make):
    engine = make(kv_tokens=256)
    hold = engine.hold()
    first = engine.submit(PROMPT, hold=hold, max_tokens=20, ignore_eos=True).result()
    fill(engine)
    again = engine.generate([*PROMPT, *first.tokens], max_tokens=1)
    assert again.usage.cached_tokens >= len(PROMPT) + 19
    hold.release()


def test_a_fork_holds_what_the_first_lets_go(make):
    engine = make(kv_tokens=256)
    hold = engine.hold()
    engine.submit(PROMPT, hold=hold, max_tokens=1).result()
    fork = hold.fork()
    hold.release()
    fill(engine)
    assert engine.generate(PROMPT, max_tokens=1).usage.cached_tokens == len(PROMPT) - 1
    fork.release()
    assert engine.stats().cache.leased == 0


def test_a_hold_goes_with_its_last_reference(make):
    engine = make()
    hold = engine.hold()
    engine.submit(PROMPT, hold=hold, max_tokens=1).result()
    assert engine.stats().cache.leased > 0
    del hold
    gc.collect()
    assert engine.stats().cache.leased == 0


def test_a_hold_released_before_its_request_ends_keeps_nothing(make):
    engine = make()
    hold = engine.hold()
    generation = engine.submit(PROMPT, hold=hold, max_tokens=50, ignore_eos=True)
    hold.release()
    generation.result()
    assert engine.stats().cache.leased == 0


def test_holds_yield_to_a_request_that_needs_their_blocks(make):
    engine = make(kv_tokens=128)
    hold = engine.hold()
    engine.submit(PROMPT, hold=hold, max_tokens=40, ignore_eos=True).result()
    completion = engine.generate([7] * 60, max_tokens=60, ignore_eos=True)
    assert len(completion.tokens) == 60


def test_a_pin_does_not_yield_until_its_time_is_over(make):
    engine = make(kv_tokens=128, pin_share=1.0)
    hold = engine.hold(pinned_for=60.0)
    engine.submit(PROMPT, hold=hold, max_tokens=40, ignore_eos=True).result()
    with pytest.raises(PoolExhausted):
        engine.generate([7] * 60, max_tokens=60, ignore_eos=True)
    hold.release()
    short = engine.hold(pinned_for=0.01)
    engine.submit(PROMPT, hold=short, max_tokens=40, ignore_eos=True).result()
    time.sleep(0.02)
    assert len(engine.generate([7] * 60, max_tokens=60, ignore_eos=True).tokens) == 60


def test_a_pin_over_the_budget_is_refused_before_it_is_computed(make):
    engine = make(kv_tokens=256)
    first = engine.hold(pinned_for=60.0)
    engine.submit(PROMPT, hold=first, max_tokens=0).result()
    assert (first.num_tokens, first.num_blocks, engine.stats().cache.pinned) == (40, 3, 3)
    steps = engine.stats().metrics.num_steps
    with pytest.raises(PinRefused, match="budget"):
        engine.submit([9] * 90, hold=engine.hold(pinned_for=60.0), max_tokens=0).result()
    assert engine.stats().metrics.num_steps == steps
    first.release()
    engine.submit([9] * 90, hold=engine.hold(pinned_for=60.0), max_tokens=0).result()
    none = make(kv_tokens=256, pin_share=0.0)
    with pytest.raises(PinRefused):
        none.submit([1], hold=none.hold(pinned_for=60.0), max_tokens=0).result()
    engine.with_cache(lambda cache: cache.check())


def test_a_pin_that_others_overtook_costs_its_request_and_no_block(make):
    engine = make(kv_tokens=256)
    holds = [engine.hold(pinned_for=60.0) for _ in range(2)]
    both = [engine.submit([index] * 60, hold=hold, max_tokens=30, ignore_eos=True) for index, hold in enumerate(holds)]
    ends = []
    for generation in both:
        try:
            ends.append(len(generation.result().tokens))
        except PinRefused:
            ends.append(None)
    assert sorted(ends, key=str) == [30, None]
    assert engine.stats().cache.leased == engine.stats().cache.pinned == 6
    for hold in holds:
        hold.release()


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), "60", None])
def test_a_pin_lasts_for_a_number_of_seconds(make, seconds):
    with pytest.raises(InvalidRequest) as refused:
        make().hold(pinned_for=seconds)
    assert refused.value.param == "pinned_for"


@pytest.mark.parametrize(
    ("hints", "kept"), [(("unknown", "never"), 0), (("soon", "unknown"), 0), (("never", "soon"), 1)]
)
def test_a_hint_says_which_of_two_goes_first(make, hints, kept):
    engine = make(kv_tokens=128)
    prompts = [PROMPT, [8] * 40]
    for prompt, hint in zip(prompts, hints, strict=True):
        engine.generate(prompt, max_tokens=1, next_use=hint)
    engine.generate([9] * 60, max_tokens=1)
    whole = [engine.with_cache(lambda cache, prompt=prompt: cache.match(prompt).hit_len) == 40 for prompt in prompts]
    assert whole == [kept == 0, kept == 1]


def test_a_path_that_was_given_up_is_kept_longer_than_what_nobody_wanted(make):
    """Its caller still has the hold: it will come back."""
    engine = make(kv_tokens=208)
    hold = engine.hold()
    engine.submit(PROMPT, hold=hold, max_tokens=1).result()
    assert engine.with_cache(lambda cache: cache.give_up_one())
    for first in (70, 80):
        engine.generate([first] * 40, max_tokens=1)
    engine.generate([90] * 60, max_tokens=1)
    assert engine.generate(PROMPT, max_tokens=1).usage.cached_tokens == 39
    assert hold.num_tokens == 0


def test_scoring_the_end_of_a_prompt_looks_the_rest_up(make):
    engine = make()
    whole = engine.generate([*PROMPT, 1, 2, 3], max_tokens=0, prompt_logprobs=0)
    assert whole.usage.cached_tokens == 0
    tail = engine.generate([*PROMPT, 1, 2, 3], max_tokens=0, prompt_logprobs=0, scored_from=40)
    assert tail.usage.cached_tokens == 39
    assert [item.token for item in tail.prompt_logprobs] == [1, 2, 3]
    for one, other in zip(tail.prompt_logprobs, whole.prompt_logprobs[-3:], strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-9)


def test_scoring_from_the_middle_is_the_same_in_chunks(make):
    engine, chunked = make(), make(max_chunk=7, prefix_cache=False)
    options = {"max_tokens": 3, "prompt_logprobs": 1, "scored_from": 17, "ignore_eos": True}
    one, other = engine.generate(PROMPT, **options), chunked.generate(PROMPT, **options)
    assert [item.token for item in one.prompt_logprobs] == PROMPT[17:]
    assert one.tokens == other.tokens
    for left, right in zip(one.prompt_logprobs, other.prompt_logprobs, strict=True):
        assert left.logprob == pytest.approx(right.logprob, abs=1e-9)


def test_scored_from_must_lie_in_the_prompt(make):
    with pytest.raises(InvalidRequest) as refused:
        make().generate(PROMPT, prompt_logprobs=0, scored_from=41)
    assert refused.value.param == "scored_from"

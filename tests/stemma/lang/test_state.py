"""States: what they say, what they reuse, how they are copied, and that nothing leaks."""

from __future__ import annotations

import asyncio

import pytest

from stemma.lang.states.state import State
from stemma.runtime.errors import InvalidRequest, StateError

LONG = "A long shared instruction that every branch begins with, word for word. " * 4


async def test_one_verb_three_ways(llm):
    with State(llm, max_tokens=6, ignore_eos=True) as s:
        s.user("hi")
        awaited = await s.copy().gen()
        assert s.copy().gen().result() == awaited
        parts = [part async for part in s.copy().gen()]
        assert "".join(part.text for part in parts) == parts[-1].so_far == awaited
        assert [part.so_far for part in s.copy().gen()][-1] == awaited
        gen = s.copy().gen()
        assert await gen == await gen == gen.result() == gen.completion.text


def test_what_was_generated_is_a_hit_in_the_next_turn(llm):
    s = State(llm, max_tokens=10, ignore_eos=True)
    s.system(LONG).user("one")
    s.gen().result()
    num_known = len(s.tokens)
    second = s.user("two").gen()
    second.result()
    assert second.usage.cached_tokens >= num_known - 1


def test_tokens_are_the_prompt_and_the_generated_ones(llm):
    s = State(llm, max_tokens=5, ignore_eos=True)
    prompt = s.user("hi").assistant("Well").tokens
    gen = s.gen()
    text = gen.result()
    assert s.tokens == prompt + gen.completion.tokens
    assert str(s) == "Well" + text
    assert [message.role for message in s.messages] == ["user", "assistant"]


def test_plain_text_goes_on_without_a_template(llm):
    s = State(llm).text("abc")
    assert s.tokens == tuple(b"abc")
    gen = s.gen(max_tokens=4, ignore_eos=True)
    gen.result()
    assert s.text("d").tokens == (*b"abc", *gen.completion.tokens, *b"d")


def test_a_state_with_nothing_said_begins_where_texts_begin(llm):
    gen = State(llm).gen(max_tokens=3, ignore_eos=True)
    gen.result()
    assert gen.usage.prompt_tokens == 1


def test_a_copy_goes_its_own_way(llm):
    s = State(llm, max_tokens=4, ignore_eos=True).user("hi")
    other = s.copy()
    s.gen().result()
    assert other.tokens == State(llm).user("hi").tokens
    other.user("more")
    assert len(s.messages) == 2


def test_a_state_is_used_for_one_thing_at_a_time(llm):
    s = State(llm, max_tokens=4).user("hi")
    gen = s.gen()
    for use in (lambda: s.user("x"), s.gen, s.copy, lambda: s.text("x"), lambda: s.select(["a", "b"])):
        with pytest.raises(StateError, match="under way"):
            use()
    gen.result()
    s.user("now it goes on")


def test_gens_of_several_states_run_side_by_side_in_plain_python(llm):
    s = State(llm, max_tokens=5, ignore_eos=True).system(LONG)
    gens = [s.copy().user(f"{index}").gen() for index in range(8)]
    texts = [gen.result() for gen in gens]
    alone = [s.copy().user(f"{index}").gen().result() for index in range(8)]
    assert texts == alone


def test_leaving_a_stream_cancels_and_leaves_the_state_as_it_was(llm):
    s = State(llm, max_tokens=500, ignore_eos=True).user("hi")
    before = s.tokens
    gen = s.gen()
    for _ in gen:
        break
    with pytest.raises(StateError):
        gen.result()
    assert s.tokens == before
    assert s.gen(max_tokens=2).result() is not None


async def test_a_cancelled_task_cancels_its_request(llm):
    s = State(llm, max_tokens=1000, ignore_eos=True).user("hi")

    async def work():
        await s.gen()

    task = asyncio.create_task(work())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert llm.stats().num_running == 0
    assert s.gen(max_tokens=2).result() is not None


def test_a_dropped_gen_is_cancelled(llm):
    s = State(llm, max_tokens=1500, ignore_eos=True).user("hi")
    s.gen()
    del s
    assert llm.stats().num_running + llm.stats().num_waiting == 0


def test_an_error_leaves_the_state_usable(llm):
    s = State(llm).user("hi")
    with pytest.raises(InvalidRequest):
        s.gen(max_tokens=10**6)
    assert s.gen(max_tokens=2).result() is not None


def test_a_failed_prompt_is_reported_where_it_is_awaited(make):
    s = State(make(kv_tokens=64)).user("hi" * 100)
    with pytest.raises(InvalidRequest, match="pool"):
        s.gen(max_tokens=2).result()


def test_a_stop_string_is_not_part_of_the_state(llm):
    s = State(llm, max_tokens=40, ignore_eos=True).text("abc")
    whole = s.copy().gen().result()
    stop = next(char for char in whole[3:] if char not in whole[:3] and ord(char) < 128)
    cut = s.gen(stop=[stop]).result()
    assert cut == whole[: whole.index(stop)]
    assert llm.tokenizer.decode(s.tokens) == "abc" + cut


def test_state_options_go_to_every_gen_and_to_copies(llm):
    s = State(llm, max_tokens=3, ignore_eos=True, namespace="tenant").user("hi")
    gen = s.copy().gen()
    gen.result()
    assert len(gen.completion.tokens) == 3
    other = State(llm, max_tokens=3).user("hi").gen()
    other.result()
    assert other.usage.cached_tokens == 0


# select ----------------------------------------------------------------
def test_select_takes_the_likeliest_per_token_and_extends_the_state(llm):
    s = State(llm).user("hi")
    options = ["alpha", "b", "gamma ray"]
    context = s.copy().assistant().tokens
    expected = {}
    for option in options:
        scored = llm.generate([*context, *option.encode()], max_tokens=0, prompt_logprobs=0)
        own = scored.prompt_logprobs[-len(option) :]
        expected[option] = sum(item.logprob for item in own) / len(own)
    gen = s.select(options)
    assert gen.result() == max(expected, key=expected.__getitem__)
    assert gen.scores == pytest.approx(expected)
    assert s.tokens == (*context, *gen.result().encode())


def test_unconditional_subtracts_what_an_option_is_worth_alone(llm):
    s = State(llm).user("hi")
    options = ["alpha", "beta"]
    plain, less = s.copy().select(options), s.copy().select(options, by="unconditional")
    plain.result(), less.result()
    for option in options:
        alone = llm.generate([258, *option.encode()], max_tokens=0, prompt_logprobs=0).prompt_logprobs
        prior = sum(item.logprob for item in alone) / len(alone)
        assert less.scores[option] == pytest.approx(plain.scores[option] - prior)


def test_select_computes_its_context_once(llm):
    s = State(llm).system(LONG).user("which?")
    s.prefill().result()
    gen = s.select(["one", "two", "three", "four"])
    gen.result()
    assert gen.usage.prefilled_tokens < 4 * 40
    assert gen.usage.cached_tokens > 3 * len(LONG)


@pytest.mark.parametrize("options", [[], ["a", "a"], ["a", ""], "ab"])
def test_select_needs_different_texts(llm, options):
    with pytest.raises(InvalidRequest):
        State(llm).user("hi").select(options)


# pins and holds ----------------------------------------------------------------
def evict(llm):
    for index in range(12):
        llm.generate([index] * 200, max_tokens=1)


def test_a_pinned_state_survives_eviction(make):
    llm = make(kv_tokens=1024)
    s = State(llm).system(LONG)
    with s.pinned(ttl=60):
        evict(llm)
        assert llm.generate(list(s.tokens), max_tokens=1).usage.prefilled_tokens == 1
    s.release()
    evict(llm)
    assert llm.generate(list(s.tokens), max_tokens=1).usage.cached_tokens == 0


async def test_a_pin_in_asyncio(make):
    llm = make(kv_tokens=1024)
    s = State(llm).system(LONG)
    async with s.pinned():
        evict(llm)
        assert llm.generate(list(s.tokens), max_tokens=1).usage.prefilled_tokens == 1


def test_a_state_keeps_its_path_until_it_goes(make):
    llm = make(kv_tokens=1024)
    s = State(llm, max_tokens=2, ignore_eos=True).system(LONG).user("hi")
    s.gen().result()
    evict(llm)
    again = s.copy().user("more").gen()
    again.result()
    assert again.usage.cached_tokens >= len(LONG)

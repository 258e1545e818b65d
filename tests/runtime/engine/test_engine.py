"""The engine from plain Python and from asyncio: options, streaming, cancellation, errors, the end."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from stemma.runtime.core.sampling import Sampling
from stemma.runtime.errors import EngineClosed, EngineFailed, InvalidRequest, PromptTooLong


def test_a_stream_adds_up_to_the_completion(make):
    generation = make().submit("hello", max_tokens=20)
    deltas = list(generation)
    completion = generation.result()
    assert "".join(delta.text for delta in deltas) == completion.text
    assert sum((delta.tokens for delta in deltas), ()) == completion.tokens
    assert completion.usage.completion_tokens == len(completion.tokens)
    assert 0 <= completion.timing.queue <= completion.timing.ttft <= completion.timing.total


def test_an_empty_prompt_begins_where_every_text_begins(make):
    completion = make().generate("", max_tokens=2)
    assert completion.usage.prompt_tokens == 1


def test_an_empty_list_of_tokens_is_refused(make):
    with pytest.raises(InvalidRequest, match="empty") as refused:
        make().submit([], max_tokens=2)
    assert refused.value.param == "prompt"


def test_a_prompt_longer_than_the_context_is_refused(make):
    with pytest.raises(PromptTooLong, match="context") as refused:
        make().generate([1] * 2048)
    assert refused.value.param == "prompt"


def test_a_prompt_longer_than_the_pool_is_refused(make):
    with pytest.raises(PromptTooLong, match="pool"):
        make(kv_tokens=64).generate([1] * 100)


def test_max_tokens_beyond_the_context_is_refused(make):
    with pytest.raises(PromptTooLong) as refused:
        make().generate("hi", max_tokens=2047)
    assert refused.value.param == "max_tokens"


@pytest.mark.parametrize(
    ("options", "param"),
    [
        ({"temperature": -1}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_k": -1}, "top_k"),
        ({"min_p": 2}, "min_p"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"logit_bias": {1: 101}}, "logit_bias"),
        ({"logit_bias": {260: 1}}, "logit_bias"),
        ({"stop": [""]}, "stop"),
        ({"stop_token_ids": [-1]}, "stop_token_ids"),
        ({"logprobs": 21}, "logprobs"),
        ({"prompt_logprobs": 21}, "prompt_logprobs"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"temprature": 1}, "temprature"),
        ({"sampling": Sampling(), "seed": 1}, "sampling"),
    ],
)
def test_what_cannot_be_honoured_is_refused(make, options, param):
    with pytest.raises(InvalidRequest) as refused:
        make().generate("hi", **options)
    assert refused.value.param == param


def test_tokens_outside_the_vocabulary_are_refused(make):
    with pytest.raises(InvalidRequest, match="300"):
        make().generate([1, 300])


def test_a_stop_string_split_over_tokens_ends_the_text_and_is_not_part_of_it(make):
    engine = make()
    letters = {"max_tokens": 30, "logit_bias": dict.fromkeys(b"abcdefghijklmnopqrstuvwxyz", 100.0)}
    whole = engine.generate("stop me", **letters).text
    stop = whole[7:11]
    generation = engine.submit("stop me", **letters, stop=[stop])
    streamed = "".join(delta.text for delta in generation)
    completion = generation.result()
    assert streamed == completion.text == whole[: whole.index(stop)]
    assert completion.finish_reason == "stop"


def test_a_stop_token_ends_the_text(make):
    engine = make()
    tokens = engine.generate("stop me", max_tokens=30).tokens
    completion = engine.generate("stop me", max_tokens=30, stop_token_ids=[tokens[5]])
    assert completion.tokens == tokens[: tokens.index(tokens[5]) + 1]
    assert completion.finish_reason == "stop"


def test_a_bias_forces_a_character_that_is_split_over_tokens(make):
    engine = make()
    first, *rest = "é".encode()
    generation = engine.submit("a", max_tokens=1, logit_bias={first: 100})
    assert [delta.text for delta in generation] == ["\N{REPLACEMENT CHARACTER}"]
    assert generation.result().tokens == (first,)
    assert rest


def test_logprobs_are_of_the_chosen_tokens(make):
    completion = make().generate("hello", max_tokens=5, logprobs=3)
    assert [item.token for item in completion.logprobs] == list(completion.tokens)
    for item in completion.logprobs:
        assert len(item.top) == 3
        assert item.top[0] == (item.token, pytest.approx(item.logprob))
        assert item.logprob <= 0


def test_prompt_logprobs_equal_what_generating_gives(make):
    engine = make()
    completion = engine.generate([1, 2, 3], max_tokens=6, logprobs=0)
    scored = engine.generate([1, 2, 3, *completion.tokens], max_tokens=0, prompt_logprobs=2)
    assert scored.tokens == ()
    assert len(scored.prompt_logprobs) == 8
    for scored_item, item in zip(scored.prompt_logprobs[2:], completion.logprobs, strict=True):
        assert scored_item.token == item.token
        assert scored_item.logprob == pytest.approx(item.logprob, abs=1e-6)


def test_penalties_change_what_repeats(make):
    engine = make()
    plain = engine.generate("aaaa", max_tokens=40).tokens
    free = engine.generate("aaaa", max_tokens=40, frequency_penalty=2.0, presence_penalty=2.0).tokens
    assert len(set(free)) > len(set(plain))


def test_samples_have_seeds_of_their_own_and_share_the_prompt(make):
    engine = make()
    samples = engine.sample("Once upon a time", 4, max_tokens=16, temperature=1.0, seed=5)
    assert len({item.tokens for item in samples}) == 4
    assert sum(item.usage.cached_tokens for item in samples) == 3 * 15
    again = engine.sample("Once upon a time", 4, max_tokens=16, temperature=1.0, seed=5)
    assert [item.tokens for item in again] == [item.tokens for item in samples]


def test_a_cancelled_request_ends_with_what_it_has(make):
    engine = make()
    generation = engine.submit("hello", max_tokens=1500, ignore_eos=True)
    next(iter(generation))
    generation.cancel()
    completion = generation.result()
    assert completion.finish_reason == "abort"
    assert completion.tokens


def test_leaving_an_iteration_cancels(make):
    generation = make().submit("hello", max_tokens=1500, ignore_eos=True)
    for _ in generation:
        break
    assert generation.result().finish_reason == "abort"


def test_a_refused_prompt_in_a_list_starts_nothing(make):
    engine = make()
    with pytest.raises(PromptTooLong):
        engine.generate([[1] * 10, [1] * 2048])
    assert engine.stats().metrics.num_steps == 0


async def test_awaiting_and_streaming_from_asyncio(make):
    engine = make()
    expected = engine.generate("hello", max_tokens=12)
    completions = await asyncio.gather(*(engine.submit("hello", max_tokens=12) for _ in range(5)))
    assert {item.tokens for item in completions} == {expected.tokens}
    text = "".join([delta.text async for delta in engine.submit("hello", max_tokens=12)])
    assert text == expected.text


async def test_cancelling_the_task_cancels_the_request(make):
    engine = make()
    generation = engine.submit("hello", max_tokens=1500, ignore_eos=True)

    async def wait():
        return await generation

    task = asyncio.create_task(wait())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await asyncio.to_thread(generation.result, 30)).finish_reason == "abort"


def test_submitting_from_many_threads(make):
    engine = make()
    expected = engine.generate("hello", max_tokens=8).tokens
    results = []

    def work():
        results.append(engine.generate("hello", max_tokens=8).tokens)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 8


def test_a_program_that_forgets_to_close_ends_well():
    script = (
        "from stemma.kernels.select import select_ops\n"
        "from stemma.runtime.engine import Engine\n"
        "from stemma.runtime.model.tiny import tiny\n"
        "llm = Engine.of(tiny(select_ops()), kv_tokens=4096)\n"
        "llm.generate('hello', max_tokens=2)\n"
        "llm.submit('hello', max_tokens=1500)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_closing_fails_what_runs_and_refuses_what_comes(loaded):
    from stemma.runtime.engine import Engine

    engine = Engine.of(loaded, kv_tokens=4096)
    generation = engine.submit("hello", max_tokens=1500, ignore_eos=True)
    engine.close()
    with pytest.raises(EngineClosed):
        generation.result()
    with pytest.raises(EngineClosed):
        engine.submit("hello")
    engine.close()


def test_an_internal_error_reaches_every_caller(loaded, monkeypatch):
    from stemma.runtime.engine import Engine

    engine = Engine.of(loaded, kv_tokens=4096)

    def broken(*_):
        raise RuntimeError("the device fell off")

    monkeypatch.setattr(engine._loop.runner, "forward", broken)
    with pytest.raises(EngineFailed, match="fell off"):
        engine.generate("hello")
    with pytest.raises(EngineClosed):
        engine.generate("hello")
    engine.close()


def test_progress_is_a_bar_or_a_function(make, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as on a terminal
    engine, seen = make(), []
    prompts = [[1], [2], [3]]
    engine.generate(prompts, max_tokens=2, progress=lambda what, share: seen.append((what, round(share, 2))))
    assert seen == [("generating", 0.33), ("generating", 0.67), ("generating", 1.0)]
    assert len(engine.generate(prompts, max_tokens=2, progress=True)) == 3
    assert "generating" in capsys.readouterr().err


def test_two_statistics_are_two_moments(make):
    engine = make()
    engine.generate("hello", max_tokens=2)
    before = engine.stats()
    engine.generate("hello there", max_tokens=5)
    after = engine.stats()
    assert after.metrics.usage.completion_tokens - before.metrics.usage.completion_tokens == 5
    assert sum(after.metrics.total.counts) - sum(before.metrics.total.counts) == 1
    assert after.metrics.num_finished["length"] - before.metrics.num_finished["length"] == 1


def test_who_does_not_run_any_more_is_counted_among_those_that_have_ended(make):
    engine = make()
    generation = engine.submit("hello", max_tokens=1500, ignore_eos=True)
    next(iter(generation))
    _, stats = engine._loop.call(lambda: (engine._loop._abort(generation), engine._loop._moment())).result()
    assert stats.num_running == 0
    assert stats.metrics.num_finished == {"abort": 1}
    assert generation.result().finish_reason == "abort"

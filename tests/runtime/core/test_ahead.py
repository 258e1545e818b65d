"""One step behind the device: the tokens, the ends, the cache and the errors of who waits for every step; and where
nothing hangs on them, no step waits for the tokens of the one before."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.regex import Regex
from stemma.runtime.core.ahead import MOST_JUMPING
from stemma.runtime.engine import Engine
from stemma.runtime.errors import EngineFailed, RequestFailed, StemmaError
from stemma.runtime.model.tiny import tiny
from tests.runtime.engine.schedules import SIZES
from tests.runtime.lagging import Lagging

PATIENCE = 20.0
FORM = JSONSchema({"type": "object", "properties": {"name": {"enum": ["abc", "abd"]}, "is_right": {"type": "boolean"}}})
FORMS = {"none": None, "json": FORM, "word": Regex("[a-c]{2,7}!"), "forced": Regex("hello world, (yes|no)[a-z]")}
OPTIONS = st.fixed_dictionaries(
    {"max_tokens": st.integers(3, 14)},
    optional={
        "temperature": st.just(1.0),
        "frequency_penalty": st.just(0.7),
        "repetition_penalty": st.just(1.3),
        "min_tokens": st.just(3),
        "stop": st.just(["a", "e", "\x10"]),
        "logprobs": st.just(2),
        "prompt_logprobs": st.just(1),
        "priority": st.integers(0, 1),
    },
)
ASKED = st.tuples(st.text("ab", min_size=1, max_size=30), OPTIONS, st.sampled_from(sorted(FORMS)))
REQUESTS = st.lists(ASKED, min_size=1, max_size=6)


def whole(engine):
    """All blocks have come back."""
    stats = engine.stats()
    assert stats.num_running == stats.num_waiting == 0
    assert stats.cache.leased == 0
    assert stats.cache.free + stats.cache.cached == stats.cache.total
    engine.with_cache(lambda cache: cache.check())


def answers(engine, requests):
    handles = [engine.submit(text, grammar=FORMS[form], seed=5, **options) for text, options, form in requests]
    return [told(handle) for handle in handles]


def told(handle):
    try:
        done = handle.result(PATIENCE)
    except StemmaError as error:
        return type(error), str(error)
    return done.tokens, done.text, done.finish_reason, [each.token for each in done.logprobs], len(done.prompt_logprobs)


@pytest.fixture(scope="module")
def lagging():
    return tiny(Lagging())


@settings(max_examples=12, deadline=None)
@given(
    requests=REQUESTS,
    sizes=SIZES,
    drafts=st.sampled_from([("none",), ("tree", "prompt", "grammar")]),
    policy=st.sampled_from(["fair", "fcfs"]),
)
def test_any_mixture_has_the_tokens_of_steps_that_are_waited_for(tiny_loaded, lagging, requests, sizes, drafts, policy):
    """Small pools, in which sequences are preempted; twice, the second time behind what is cached."""
    sizes = {**sizes, "kv_tokens": sizes["kv_tokens"] + 16}
    with Engine.of(tiny_loaded, kv_tokens=4096, prefix_cache=False, drafts_from=("none",)) as engine:
        expected = answers(engine, requests)
    with Engine.of(lagging, **sizes, schedule_policy=policy, drafts_from=drafts) as engine:
        for _ in range(2):
            assert answers(engine, requests) == expected
        whole(engine)


def submitted_together(engine, prompts, **options):
    """Before the same step."""
    states = engine._submitter.states([engine._requests.make(each, options) for each in prompts], options)
    engine._loop.submit(states)
    return [state.generation for state in states]


def test_the_device_never_waits_for_the_host_while_16_streams_decode(lagging):
    ops = lagging.model.ops
    with Engine.of(lagging, kv_tokens=4096, drafts_from=("none",)) as engine:
        before, ops.num_waits = len(ops.events), 0
        handles = submitted_together(
            engine, [f"stream {index} of many" for index in range(16)], max_tokens=40, ignore_eos=True
        )
        for handle in handles:
            handle.result(PATIENCE)
        whole(engine)
    events = ops.events[before:]
    assert events.count("launch") == events.count("sample") == events.count("read") == 40
    assert ops.num_waits == 1  # the last: then there is nothing to go on with
    assert events[:7] == ["launch", "sample", "launch", "read", "sample", "launch", "read"]


@pytest.mark.parametrize(
    ("asked", "num_waits"), [({"logprobs": 1, "max_tokens": 12}, 1), ({"prompt_logprobs": 1, "max_tokens": 1}, 1)]
)
def test_what_comes_with_tokens_holds_up_nothing(lagging, asked, num_waits):
    """Log-probabilities come with them. Scores of a prompt are read before its first token is sampled."""
    ops = lagging.model.ops
    with Engine.of(lagging, kv_tokens=4096, drafts_from=("none",)) as engine:
        before, ops.num_waits = ops.events.count("read"), 0
        engine.generate("some text", ignore_eos=True, **asked)
    assert ops.num_waits == num_waits
    assert ops.events.count("read") - before == asked["max_tokens"]


def test_drafts_are_made_as_without_running_ahead_of_them(lagging):
    ops = lagging.model.ops
    with Engine.of(lagging, kv_tokens=4096, drafts_from=("prompt",)) as engine:
        before, ops.num_waits = ops.events.count("read"), 0
        done = engine.generate("abababababababab", max_tokens=40, logit_bias={97: 100.0})
    assert done.num_accepted > 0
    num_steps = ops.events.count("read") - before
    assert num_steps < 40
    assert 1 < ops.num_waits < num_steps


def test_who_has_all_of_his_tokens_has_no_row_more(lagging):
    with Engine.of(lagging, kv_tokens=4096, drafts_from=("none",)) as engine:
        short = submitted_together(engine, ["a"], max_tokens=3, ignore_eos=True)
        long = submitted_together(engine, ["b"], max_tokens=30, ignore_eos=True)
        usages = [handle.result(PATIENCE).usage for handle in (*short, *long)]
        num_computed = sum(each.prefilled_tokens + each.completion_tokens - 1 for each in usages)
        assert engine.stats().metrics.num_step_tokens == num_computed


@pytest.mark.parametrize("where", ["first", "later"])
def test_who_goes_away_while_his_step_is_under_way_takes_nothing_along(lagging, where):
    """His blocks are given to others at once; what his row still writes comes before what they write."""
    with Engine.of(lagging, kv_tokens=96, block_size=4, drafts_from=("none",)) as engine:
        alone = [engine.generate(text, max_tokens=10).tokens for text in ("one text", "two text")]
        engine.with_cache(lambda cache: cache.clear())
        for _ in range(6):
            left = engine.submit("who goes", max_tokens=60)
            if where == "later":
                next(iter(left))
            left.cancel()
            stayed = submitted_together(engine, ["one text", "two text"], max_tokens=10)
            assert [handle.result(PATIENCE).tokens for handle in stayed] == alone
        whole(engine)


def test_a_conversation_goes_on_from_what_a_step_ahead_has_left(lagging, tiny_loaded):
    """The answer ends in a step behind which its row was launched once more: nothing of that is in the tree."""

    def talk(engine):
        text, said = "a question", []
        for _ in range(4):
            done = engine.generate(text, max_tokens=20, stop=["a", "e", "i"], temperature=1.0, seed=3)
            said.append((done.tokens, done.finish_reason, done.usage))
            text += done.text + " and then"
        whole(engine)
        return said

    with Engine.of(tiny_loaded, kv_tokens=512, drafts_from=("none",)) as engine:
        expected = talk(engine)
    with Engine.of(lagging, kv_tokens=512, drafts_from=("none",)) as engine:
        assert talk(engine) == expected


@pytest.mark.parametrize("stage", ["forward", "begin"])
def test_a_step_ahead_that_fails_with_one_in_it_goes_on_without_it(lagging, monkeypatch, stage):
    prompts = ["one", "two", "three"]
    with Engine.of(lagging, kv_tokens=512, drafts_from=("none",)) as engine:
        expected = [engine.generate(text, max_tokens=12).tokens for text in prompts]
        owner = engine._loop.runner if stage == "forward" else engine._loop.sampler
        real = getattr(owner, stage)

        def broken(batch, *rest):
            if any(row.sequence.num_prompt == bad and row.start >= bad + 4 for row in batch.rows):
                raise OSError("not with this one")
            return real(batch, *rest)

        bad = len(engine.tokenize("three") if hasattr(engine, "tokenize") else "three")
        monkeypatch.setattr(owner, stage, broken)
        first, second, third = submitted_together(engine, prompts, max_tokens=12)
        assert [first.result(PATIENCE).tokens, second.result(PATIENCE).tokens] == expected[:2]
        with pytest.raises(RequestFailed, match="not with this one"):
            third.result(PATIENCE)
        whole(engine)


def test_what_a_device_says_when_it_is_waited_for_is_heard_by_everybody(lagging, monkeypatch):
    engine = Engine.of(lagging, kv_tokens=512, drafts_from=("none",))
    real = engine._loop.sampler.begin

    def begin(batch, output):
        results = real(batch, output)

        def late():
            results()
            raise OSError("an illegal memory access")

        return late if batch.rows[0].start > 10 else results

    monkeypatch.setattr(engine._loop.sampler, "begin", begin)
    for handle in submitted_together(engine, ["one", "two"], max_tokens=40):
        with pytest.raises(EngineFailed, match="an illegal memory access"):
            handle.result(PATIENCE)
    engine.close()


def test_grammars_that_force_much_are_waited_for(lagging):
    ops = lagging.model.ops
    with Engine.of(lagging, kv_tokens=512, drafts_from=("none",)) as engine:
        engine._loop.call(lambda: setattr(engine._loop._steps, "_jumping", 2 * MOST_JUMPING)).result(PATIENCE)
        before, ops.num_waits = ops.events.count("read"), 0
        engine.generate("x", grammar=Regex("([ab]hello)+"), max_tokens=12)
        assert ops.num_waits == ops.events.count("read") - before > 1

"""One request's trouble is its own: whatever is raised where something is done for one sequence of four, the others say
what they say alone, its caller hears why, and every block comes back.

Where to raise is not listed here: a run without faults is watched, and each call that the engine makes with something
of the victim's (its sequence, lease, matcher, text, rows, ...) is a place.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter

import pytest

from stemma.fsm.regex import Regex
from stemma.runtime.core.batch import Batch
from stemma.runtime.core.runner import Runner
from stemma.runtime.engine import Engine
from stemma.runtime.errors import EngineClosed, EngineFailed, RequestFailed, StemmaError
from stemma.runtime.model.tiny import tiny
from tests.runtime.lagging import Lagging

PATIENCE = 30.0
"""Seconds after which a caller counts as forgotten."""

STAGES = ("stemma.radix", "stemma.fsm", "stemma.runtime")
INSIDE = ("stemma.radix", "stemma.fsm")
"""What these call in themselves is their own affair."""
QUEUES = tuple(f"stemma.runtime.core.{name}" for name in ("waiting", "waiting_tree", "order", "running", "deadlines"))
"""As lists do, they put things in order and look at plain numbers and tokens."""
CONTAINERS = {
    "schedule",
    "commit",
    "note_computed",
    "_would_draft",
    "_add",
    "_settle",
    "fail",
    "_fulfil",
    "compute",
    "_admit",
    "_place_or_fail",
}
"""Where trouble is caught, and not made: what these call is tried, not they themselves."""
READS = {"_unknown", "_is_read", "_side", "<lambda>", "is_in_prompt", "is_finished", "common_prefix", "_num_likely"}
"""Keys of sorting and the like, which look at plain numbers and nothing else."""

VICTIMS = {
    "guided": (
        {"stop": ["~~~"], "max_tokens": 12, "temperature": 1.0, "seed": 1, "finish_in_time": True},
        Regex('"[a-z]{2,9}": (true|false)'),
    ),
    "scored": (
        {"logprobs": 2, "prompt_logprobs": 1, "frequency_penalty": 1.0, "logit_bias": {40: 1.0}, "max_tokens": 6},
        None,
    ),
    "forced": ({"max_tokens": 30}, Regex("hello world, (yes|no)[a-z]")),
}
OTHERS = (
    ("the quick brown fox", {"max_tokens": 6}, None),
    ("the quick brown dog jumps", {"max_tokens": 8, "temperature": 0.8, "seed": 3, "logprobs": 1}, None),
    ("number: ", {"max_tokens": 8}, Regex("[0-9]{2}-, and")),
)
PROMPT = "the quick brown cat sat on the mat"


class Injected(Exception):
    """The fault."""


class Ward:
    """An engine with four requests, and a watch on the calls that its loop makes for the last of them."""

    def __init__(self, engine: Engine, kind: str) -> None:
        self.engine = engine
        self.loop = engine._loop
        options, grammar = VICTIMS[kind]
        self.asked = [*OTHERS, (PROMPT, options, grammar)]
        self.alone = [engine.submit(prompt, grammar=form, **given).result(PATIENCE).tokens
                      for prompt, given, form in self.asked]  # fmt: skip

    def submit(self, watch=None):
        """All four between the same two steps; the generations, the victim's last."""
        self.engine.with_cache(lambda cache: cache.clear())
        states = [state for prompt, given, form in self.asked for state in self.engine._submitter.states(
            [self.engine._requests.make(prompt, given)], {"grammar": form})]  # fmt: skip
        hold = self.engine.hold()
        states[-1].sequence.retained = hold.retained
        if watch is not None:
            watch.state = states[-1]
            self.loop.call(lambda: sys.settrace(watch)).result(PATIENCE)
        self.loop.submit(states)
        return [state.generation for state in states], hold

    def check(self, generations, hold):
        """The others are as alone, nothing is left behind. Returns what the victim's caller hears."""
        told = heard(generations[-1])
        for generation, expected in zip(generations[:-1], self.alone, strict=False):
            assert generation.result(PATIENCE).tokens == expected
        self.loop.call(lambda: sys.settrace(None)).result(PATIENCE)
        hold.release()
        stats = self.engine.stats()
        self.engine.with_cache(lambda cache: cache.check())
        assert stats.cache.leased == 0
        assert stats.num_running == stats.num_waiting == 0
        assert not self.loop._states
        return told


class Watch:
    """A trace function: counts the calls made with something of the victim's, and raises at one of them."""

    def __init__(self, place=None) -> None:
        self.place = place  # (function, caller, which of these calls)
        self.has_raised = False
        self.state = None
        self.seen: Counter[tuple[str, str]] = Counter()

    def __call__(self, frame, event, argument):
        code, caller = frame.f_code, frame.f_back
        if caller is None or not frame.f_globals["__name__"].startswith(STAGES):
            return
        if caller.f_globals["__name__"].startswith(INSIDE) or caller.f_code.co_name in READS:
            return
        if code.co_name in CONTAINERS | READS:
            return
        if frame.f_globals["__name__"] in QUEUES or caller.f_globals["__name__"] in QUEUES:
            return
        names = code.co_varnames[: code.co_argcount]
        if not any(self._is_victims(frame.f_locals.get(name)) for name in names):
            return
        place = (code.co_qualname, caller.f_code.co_qualname)
        self.seen[place] += 1
        if self.place == (*place, self.seen[place]):
            self.has_raised = True
            raise Injected(self.place)

    def _is_victims(self, value) -> bool:
        state = self.state
        sequence = state.sequence
        own = (state, sequence, sequence.request, sequence.request.prompt, sequence.matcher, state.text,
               state.text._detokenizer, state.generation, sequence.retained, sequence.lease)  # fmt: skip
        if value is not None and any(value is each for each in own):
            return True
        return getattr(value, "sequence", None) is sequence


def heard(generation):
    """What its caller hears: the completion, or the error."""
    try:
        return generation.result(PATIENCE)
    except StemmaError as error:
        return error


ROOMY = {"kv_tokens": 4096}
TIGHT = {"kv_tokens": 96, "block_size": 4, "max_chunk": 8}
"""Chunks, waiting, and preemption."""


@pytest.mark.parametrize(
    ("kind", "pool", "is_ahead"),
    [
        ("guided", ROOMY, False),
        ("scored", ROOMY, False),
        ("forced", ROOMY, False),
        ("guided", TIGHT, False),
        ("guided", ROOMY, True),
    ],
)
def test_what_is_raised_for_one_sequence_is_heard_by_its_caller_alone(tiny_loaded, kind, pool, is_ahead):
    with Engine.of(tiny(Lagging()) if is_ahead else tiny_loaded, **pool) as engine:
        ward, watch = Ward(engine, kind), Watch()
        assert ward.check(*ward.submit(watch)).tokens == ward.alone[-1]
        places = [(*place, 1) for place in watch.seen]
        if kind == "forced":  # the last ones too: at the end of the sequence
            places += [(*place, count) for place, count in watch.seen.items() if count > 1]
        num_failed = 0
        for place in places:
            watch = Watch(place)
            told = ward.check(*ward.submit(watch))
            if isinstance(told, RequestFailed):
                assert isinstance(told.__cause__, Injected)
                num_failed += 1
            else:  # a step that fails once is computed again
                assert told.tokens == ward.alone[-1], place
        assert num_failed > 40


@pytest.mark.parametrize("stage", ["forward", "sample"])
@pytest.mark.parametrize("kind", VICTIMS)
def test_a_step_that_fails_with_one_sequence_in_it_goes_on_without_it(tiny_loaded, monkeypatch, kind, stage):
    with Engine.of(tiny_loaded, **ROOMY) as engine:
        ward = Ward(engine, kind)
        owner = engine._loop.runner if stage == "forward" else engine._loop.sampler
        real, victims = getattr(owner, stage), set()

        def broken(batch: Batch, *rest):
            if any(id(row.sequence) in victims for row in batch.rows):
                raise Injected(stage)
            return real(batch, *rest)

        def note(states):
            victims.add(id(states[-1].sequence))
            submit(states)

        submit = engine._loop.submit
        monkeypatch.setattr(owner, stage, broken)
        monkeypatch.setattr(engine._loop, "submit", note)
        told = ward.check(*ward.submit())
        assert isinstance(told, RequestFailed)
        assert isinstance(told.__cause__, Injected)


def test_a_step_that_fails_for_everybody_is_heard_by_everybody(tiny_loaded, monkeypatch):
    """By who runs, who waits, who is being added; and by who looks in or comes later."""
    engine = Engine.of(tiny_loaded, kv_tokens=512, max_running=2, max_batch_tokens=64)
    real, late = engine._loop.runner.forward, []

    def broken(batch):
        if not late:
            late.append(engine.submit("late", max_tokens=4))
            late.append(engine._loop.call(lambda: "never"))
            return real(batch)
        raise MemoryError("the device is full")

    monkeypatch.setattr(engine._loop.runner, "forward", broken)
    generations = engine.submit_all(["one", "two", "three", "four"], max_tokens=20)
    for generation in generations:
        assert isinstance(heard(generation), EngineFailed)
        assert isinstance(heard(generation).__cause__, MemoryError)
    assert isinstance(heard(late[0]), EngineFailed)
    assert late[1].result(PATIENCE) == "never"
    with pytest.raises(EngineClosed, match="the device is full"):
        engine.stats()
    with pytest.raises(EngineClosed, match="the device is full"):
        engine.generate("later")
    engine.close()


def test_a_cache_that_is_found_broken_ends_the_engine(tiny_loaded, monkeypatch):
    engine = Engine.of(tiny_loaded, **ROOMY)
    cache = engine._loop.scheduler.cache

    def lose_a_block(tokens, *rest, **options):
        cache._store.pool.take(1)
        raise Injected

    monkeypatch.setattr(cache, "acquire_uncounted", lose_a_block)
    told = heard(engine.submit("hello"))
    assert isinstance(told, EngineFailed)
    assert isinstance(told.__cause__, AssertionError)
    engine.close()


@pytest.mark.parametrize("what", ["on_device", "take_turn"])
def test_a_loop_that_cannot_begin_says_why(monkeypatch, what):
    loaded = tiny(Lagging())
    owner = loaded.model.ops if what == "on_device" else Runner
    real = getattr(owner, what)

    def broken(*rest):
        if threading.current_thread().name == "stemma-engine":
            raise Injected("fell off")
        return real(*rest)

    monkeypatch.setattr(owner, what, broken)
    engine = Engine.of(loaded, **ROOMY)
    with pytest.raises((EngineFailed, EngineClosed), match="fell off"):  # by who came before it was found, or behind
        engine.submit("hello").result(PATIENCE)
    engine.close()


def test_what_a_callers_own_function_raises_is_the_callers(tiny_loaded):
    with Engine.of(tiny_loaded, **ROOMY) as engine:
        with pytest.raises(SystemExit):
            engine.with_cache(lambda cache: sys.exit(3))
        engine._loop.post(lambda: 1 / 0)
        assert engine.generate("hello", max_tokens=2).tokens


def test_a_look_into_the_engine_may_look_again(tiny_loaded):
    with Engine.of(tiny_loaded, **ROOMY) as engine:
        assert (
            engine._loop.call(lambda: engine.with_cache(lambda cache: engine.stats().num_running)).result(PATIENCE) == 0
        )

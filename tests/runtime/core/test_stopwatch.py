"""Where the time of steps goes: laps, and what requests hear of them."""

from __future__ import annotations

import pytest

import stemma
from stemma.runtime.core.stopwatch import Phases, Stopwatch
from stemma.runtime.engine import Engine


def test_every_moment_of_a_step_is_some_phases():
    times = iter([10.0, 11.0, 14.0, 15.0, 20.0, 22.0])
    watch = Stopwatch(lambda: next(times))
    assert watch.start() == 10.0
    assert watch.lap("schedule") == 1.0
    assert watch.lap("forward") == 3.0
    assert watch.lap("sample") == 1.0
    before = watch.phases
    assert watch.start() == 20.0  # what passed between two steps is nobody's
    watch.lap("forward")
    assert watch.phases == Phases(schedule=1.0, forward=5.0, sample=1.0)
    assert watch.phases.since(before) == Phases(forward=2.0)
    assert watch.phases.total == 7.0


def test_what_is_done_aside_is_no_part_of_the_lap_around_it():
    times = iter([0.0, 1.0, 3.0, 4.0, 4.5, 5.0])
    watch = Stopwatch(lambda: next(times))
    watch.start()
    assert watch.aside("jumps", max, 1, 7) == 7
    with pytest.raises(ZeroDivisionError):
        watch.aside("drafts", lambda: 1 // 0)
    assert watch.lap("commit") == 2.5
    assert watch.phases == Phases(commit=2.5, jumps=2.0, drafts=0.5)


def test_jumps_and_drafts_have_times_of_their_own(tiny_loaded):
    with Engine.of(tiny_loaded, kv_tokens=4096) as engine:
        free = engine.generate("hello", max_tokens=12, drafts=False).timing
        jumped = engine.generate("hello", max_tokens=12, grammar=stemma.Regex("[ab]forced[cd]")).timing
        for _ in range(3):
            again = engine.generate("hello, hello", max_tokens=30).timing
        told = engine.stats().metrics.phases
    assert free.prefill.jumps + free.decode.jumps == 0
    assert jumped.prefill.jumps + jumped.decode.jumps > 0
    assert again.prefill.drafts + again.decode.drafts > 0
    assert told.jumps > 0
    assert told.drafts > 0


def test_a_request_hears_what_its_time_was_spent_on(tiny_loaded):
    with Engine.of(tiny_loaded, kv_tokens=4096) as engine:
        free = engine.generate("hello", max_tokens=6).timing
        guided = engine.generate("hello", max_tokens=6, grammar=stemma.Regex("[a-z]{2,6}")).timing
    for timing in (free, guided):
        assert timing.prefill.forward > 0
        assert timing.decode.forward > 0
        assert timing.prefill.total + timing.decode.total <= timing.total
    assert free.prefill.masks + free.decode.masks == 0
    assert guided.decode.masks > 0


def test_steps_are_counted_by_what_they_compute(tiny_loaded):
    with Engine.of(tiny_loaded, kv_tokens=4096, max_chunk=3) as engine:
        engine.generate("hello", max_tokens=4)
        work = engine.stats().metrics.steps_of
    prefill, decode = work["prefill"], work["decode"]
    assert (prefill.steps, prefill.tokens, prefill.seen) == (2, 5, 1 + 2 + 3 + 4 + 5)
    assert (decode.steps, decode.tokens, decode.seen) == (3, 3, 6 + 7 + 8)
    assert work["mixed"].steps == 0

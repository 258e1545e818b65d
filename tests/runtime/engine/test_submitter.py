"""What a call asks enters the loop whole or not at all, by the entrance that was chosen last."""

from __future__ import annotations

import pytest

from stemma.fsm.regex import Regex
from stemma.runtime.errors import InvalidRequest

SAMPLED = {"temperature": 1.0, "seed": 3, "max_tokens": 12}


class Door:
    """An entrance that notes who came in by it, on their way to the loop."""

    def __init__(self, loop):
        self.loop, self.calls, self.cancelled = loop, [], []

    def submit(self, states):
        self.calls.append([list(state.sequence.request.prompt) for state in states])
        self.loop.submit(states)

    def cancel(self, generation):
        self.cancelled.append(generation)
        self.loop.cancel(generation)


@pytest.fixture
def watched(make):
    """An engine, and the door by which its requests go."""
    doors = []

    def through(loop):
        doors.append(Door(loop))
        return doors[0]

    engine = make()
    engine.enter_by(through)
    return engine, doors[0]


def test_all_of_a_call_enter_at_once(watched):
    engine, door = watched
    for generation in [*engine.submit_all([[97], [98], [99]], max_tokens=2), engine.submit([100], max_tokens=2)]:
        generation.result()
    assert door.calls == [[[97], [98], [99]], [[100]]]


def test_none_enters_where_one_is_refused(watched):
    engine, door = watched
    with pytest.raises(InvalidRequest):
        engine.submit_all(["a", [999]], max_tokens=2)
    with pytest.raises(InvalidRequest):
        engine.submit_all(["a", "b"], max_tokens=2, grammar=Regex("(?P<"))
    assert door.calls == []


def test_who_cancels_does_so_by_the_entrance_too(watched):
    engine, door = watched
    generation = engine.submit("a", max_tokens=1000, ignore_eos=True)
    generation.cancel()
    assert generation.result().finish_reason == "abort"
    assert door.cancelled == [generation]


def test_samples_are_requests_with_seeds_in_a_row(make):
    engine = make()
    together = [each.result().tokens for each in engine.submit_samples("abc", 3, **SAMPLED)]
    assert together == [engine.generate("abc", **{**SAMPLED, "seed": 3 + index}).tokens for index in range(3)]
    assert len(set(together)) == 3
    for count in (0, -1, 1.5, None):
        with pytest.raises(InvalidRequest) as refused:
            engine.submit_samples("abc", count)
        assert refused.value.param == "n"


def test_a_hold_is_the_engine_s_own(make):
    engine, other = make(), make()
    for hold in (other.hold(), "hold"):
        with pytest.raises(InvalidRequest) as refused:
            engine.submit("abc", hold=hold)
        assert refused.value.param == "hold"
    hold = engine.hold()
    engine.submit("abcdef", hold=hold, max_tokens=4).result()
    assert hold.num_tokens > 0
    hold.release()

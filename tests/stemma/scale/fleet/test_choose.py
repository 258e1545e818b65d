"""Where requests go, in fleets of a few replicas."""

from __future__ import annotations

import random

import pytest

from stemma.radix import BlocksStored
from stemma.scale.fleet import Chooser, Index, Load, NoReplica, hashes_of

PROMPT = list(range(1600))
HASHES = hashes_of(PROMPT, "", 16)


def idle(at: float = 0.0) -> Load:
    return Load(0, 0, 0.0, 16, at=at)


def chooser_with(**held: int) -> Chooser:
    """Each replica named holds so many of the prompt's blocks; a token costs a millisecond everywhere."""
    index = Index()
    for replica, count in held.items():
        index.apply(replica, BlocksStored(b"", HASHES[:count], [], 16, ""))
    chooser = Chooser(index, 16)
    for replica in held:
        for tokens in (100, 1000, 2000):
            chooser.learn(replica, tokens, 0.001 * tokens)
    return chooser


def test_a_prompt_goes_where_most_of_it_is():
    chooser = chooser_with(a=20, b=90, c=0)
    choice = chooser.choose(HASHES, 1600, {name: idle() for name in "abc"}, now=0.0)
    assert (choice.replica, choice.expected_hit_tokens) == ("b", 1440)
    assert "1440" in choice.why


def test_a_hot_prefix_is_computed_elsewhere_when_its_replica_is_overloaded_and_only_then():
    loads = {name: idle() for name in "abc"}
    busy = Load(300, 3, 0.2, 16)
    assert chooser_with(a=90, b=0, c=0).choose(HASHES, 1600, loads | {"a": busy}, now=0.0).replica == "a"
    overloaded = Load(9000, 16, 0.9, 16)
    assert chooser_with(a=90, b=0, c=0).choose(HASHES, 1600, loads | {"a": overloaded}, now=0.0).replica != "a"


def test_replicas_that_drain_or_are_gone_are_not_chosen():
    chooser = chooser_with(a=100, b=90, c=0)
    draining = {"a": idle()._replace(draining=True), "c": idle()}
    assert chooser.choose(HASHES, 1600, draining, now=0.0).replica == "c"
    with pytest.raises(NoReplica, match="start one"):
        chooser.choose(HASHES, 1600, {"a": idle()._replace(draining=True)}, now=0.0)
    with pytest.raises(NoReplica):
        chooser.choose(HASHES, 1600, {}, now=0.0)


def test_what_was_sent_since_a_replica_told_its_load_counts_until_it_tells_again():
    chooser = chooser_with(a=0, b=0)
    loads = {name: idle() for name in "ab"}
    first = chooser.choose([], 1000, loads, now=1.0).replica
    second = chooser.choose([], 1000, loads, now=1.1).replica
    assert first != second
    told = {first: idle(at=2.0), second: idle(at=0.0)}
    assert chooser.choose([], 1000, told, now=2.0).replica == first


def test_a_prompt_that_has_begun_waits_no_more():
    chooser = chooser_with(a=0, b=0)
    loads = {name: idle() for name in "ab"}
    first = chooser.choose(HASHES[:50], 1000, loads, now=1.0)
    chooser.began(first)
    again = chooser.choose(HASHES, 1600, loads, now=1.1)
    assert (again.replica, again.expected_hit_tokens) == (first.replica, 800)


def test_a_session_stays_though_another_replica_is_a_little_better():
    chooser = chooser_with(a=0, b=0)
    home = chooser.choose(HASHES, 1600, {name: idle() for name in "ab"}, "chat", now=0.0).replica
    loads = {name: idle(at=1.0) for name in "ab"}
    loads[home] = Load(500, 3, 0.1, 16, at=1.0)
    assert chooser.choose(HASHES, 1600, loads, "chat", now=1.0).replica == home
    loads[home] = Load(50_000, 16, 0.9, 16, at=1.0)
    assert chooser.choose(HASHES, 1600, loads, "chat", now=1.0).replica != home


@pytest.mark.parametrize("is_mixed", [True, False])
@pytest.mark.parametrize("num_shared", [0, 48])
def test_new_families_are_spread_over_idle_replicas_and_stay_where_they_are(is_mixed, num_shared):
    """One client, one request at a time: families follow each other, or take turns."""
    for seed in range(6):
        chance = random.Random(seed)
        names = [f"replica {chance.random()}" for _ in range(2)]
        index = Index()
        chooser = Chooser(index, 16, seed=seed)
        for name in names:
            chooser.learn(name, 1000, 1.0)
        shared = [chance.randrange(1000) for _ in range(num_shared)]
        families = [shared + [chance.randrange(1000) for _ in range(600)] for _ in range(6)]
        asked = [number for _ in range(5) for number in range(6)] if is_mixed else sorted([*range(6)] * 5)
        homes = dict[int, set[str]]()
        for step, number in enumerate(asked):
            prompt = families[number] + [chance.randrange(1000) for _ in range(20)]
            hashes = hashes_of(prompt, "", 16)
            choice = chooser.choose(hashes, len(prompt), {name: idle(at=step) for name in names}, now=step)
            chooser.began(choice)
            if number in homes:
                assert choice.expected_hit_tokens >= len(families[number]) - 16
            homes.setdefault(number, set()).add(choice.replica)
            index.apply(choice.replica, BlocksStored(b"", hashes, prompt, 16, ""))
        assert sorted(map(len, homes.values())) == [1] * 6
        assert sum(home == {names[0]} for home in homes.values()) == 3


def test_with_nothing_recent_known_both_of_two_replicas_get_their_share():
    chooser = Chooser(Index(), 16)
    loads = {name: idle() for name in "abcd"}
    chosen = [chooser.choose(HASHES, 1600, loads, now=1000.0 + step) for step in range(40)]
    assert {choice.replica for choice in chosen} == set("abcd")
    assert all("two" in choice.why for choice in chosen)


def test_a_replica_that_is_dropped_holds_nothing():
    chooser = chooser_with(a=90, b=0)
    chooser.drop("a")
    assert chooser.choose(HASHES, 1600, {"a": idle(), "b": idle()}, now=0.0).expected_hit_tokens == 0

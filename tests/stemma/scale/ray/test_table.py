"""Which replica is chosen, by what is cached, how busy each is, whose state is needed, and what is known at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from stemma.radix.events import BlocksStored, Event
from stemma.scale.fleet import hashes_of
from stemma.scale.fleet.choose import STALE
from stemma.scale.ray.asked import Asked, Place
from stemma.scale.ray.table import Seen, Table, keep, of_deployment

SIZE = 4
PROMPT = list(range(40))
HASHES = hashes_of(PROMPT, "", SIZE)
LONG = list(range(100))
ADDRESS = {"endpoint": "e", "replay": "r"}


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Followers:
    """Stands for what follows events: a test says what is heard."""

    def __init__(self) -> None:
        self.hear: dict[str, Callable[[Event], None]] = {}
        self.closed: list[str] = []

    def __call__(self, name: str, address: Mapping[str, str], heard: Callable[[Event], None]) -> Closing:
        self.hear[name] = heard
        return Closing(self, name)


class Closing:
    def __init__(self, followers: Followers, name: str) -> None:
        self.followers, self.name = followers, name

    def close(self) -> None:
        self.followers.closed.append(self.name)


def stats(**more: Any) -> dict[str, Any]:
    told = {"waiting_tokens": 0, "running": 0, "kv_share": 0.0, "capacity": 8, "draining": False, "beat": 0}
    return {**told, "steps": 0, "prompt_tokens": 0, "prompt_seconds": 0.0, **more}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def followers() -> Followers:
    return Followers()


@pytest.fixture
def table(clock: Clock, followers: Followers) -> Table:
    made = Table(SIZE, followers, clock=clock, seed=1)
    made.update([seen("a"), seen("b")])
    return made


def seen(name: str, **told: Any) -> Seen:
    return Seen(name, "ab".find(name), ADDRESS, stats(**told))


def stored(tokens: list[int]) -> BlocksStored:
    return BlocksStored(b"", hashes_of(tokens, "", SIZE), tokens, SIZE, "")


def asked(tokens: list[int] = PROMPT, **more: Any) -> Asked:
    return Asked(hashes_of(tokens, "", SIZE), len(tokens), **more)


def test_a_request_goes_to_where_its_prompt_is(table, followers):
    followers.hear["b"](stored(PROMPT))
    made = asked()
    assert [table.choose(asked(), ["a", "b"]) for _ in range(3)] == ["b"] * 3
    assert table.choose(made, ["a", "b"]) == "b"
    assert (made.chosen, made.hit) == ("b", len(PROMPT) - 1)


def test_what_waits_there_is_weighed_against_it_until_it_is_begun(table, followers, clock):
    followers.hear["b"](stored(PROMPT))
    clock.now += 1
    waiting = [asked([1000 * number + token for token in range(400)]) for number in range(1, 4)]
    assert {table.choose(each, ["b"]) for each in waiting} == {"b"}
    assert table.choose(asked(), ["a", "b"]) == "a"
    for each in waiting:
        each.begun()
    assert table.choose(asked(), ["a", "b"]) == "b"


def test_what_a_replica_says_of_itself_takes_the_place_of_what_was_sent_before(table, followers, clock):
    followers.hear["b"](stored(PROMPT))
    table.choose(asked([1000 + token for token in range(400)]), ["b"])
    clock.now += 1
    table.update([seen("a"), seen("b", beat=1)])
    assert table.choose(asked(), ["a", "b"]) == "b"
    clock.now += 1
    table.update([seen("a"), seen("b", beat=2, waiting_tokens=500)])
    assert table.choose(asked(), ["a", "b"]) == "a"


def test_with_old_news_what_is_cached_still_counts(table, followers, clock):
    followers.hear["b"](stored(PROMPT))
    clock.now += 2 * STALE
    assert [table.choose(asked(), ["a", "b"]) for _ in range(8)] == ["b"] * 8


def test_with_no_news_at_all_the_less_busy_of_two_is_taken(table, clock):
    clock.now += 2 * STALE
    chosen = Counter(table.choose(asked([number] * 40), ["a", "b"]) for number in range(40))
    assert abs(chosen["a"] - chosen["b"]) <= 2


def test_what_is_kept_for_a_caller_is_asked_of_one_replica_of_the_same_rank(table):
    homes = {caller: table.choose(Asked(home=caller), ["a", "b"]) for caller in map(str, range(20))}
    assert set(homes.values()) == {"a", "b"}
    table.update([Seen("new", 0, ADDRESS, stats()), seen("b")])
    later = {caller: table.choose(Asked(home=caller), ["new", "b"]) for caller in homes}
    assert later == {caller: "new" if home == "a" else home for caller, home in homes.items()}


@pytest.mark.parametrize(("to", "chosen"), [("a", "a"), ("1", "b"), ("c", None)])
def test_a_request_may_name_its_replica_or_its_rank(table, to, chosen):
    made = Asked(to=to)
    assert table.choose(made, ["a", "b"]) == chosen
    assert made.is_refused == (chosen is None)


def test_a_replica_that_is_gone_is_forgotten_and_followed_no_more(table, followers):
    followers.hear["b"](stored(PROMPT))
    table.update([seen("a")])
    assert followers.closed == ["b"]
    assert table.index.match(HASHES) == {}
    table.update([seen("a"), seen("b")])
    followers.hear["b"](stored(PROMPT))
    assert table.choose(asked(), ["a", "b"]) == "b"


def test_sessions_stay(table, followers):
    made = asked(session="s")
    first = table.choose(made, ["a", "b"])
    made.begun()
    for _ in range(5):
        later = asked([9] * 8, session="s")
        assert table.choose(later, ["a", "b"]) == first
        later.begun()


def computing(name: str, **told: Any) -> Seen:
    return seen(name, **told)._replace(place=Place(name, 1, "key"))


def test_a_prompt_is_lent_to_who_has_most_of_it_until_its_answer_begins(table, followers):
    table.update([computing("a"), computing("b")])
    followers.hear["b"](stored(LONG[:80]))
    made = asked(LONG)
    table.lend(made)
    assert made.place == Place("b", 1, "key")
    for number in range(1, 4):
        table.lend(asked([1000 * number + token for token in range(400)]))
    made.begun()
    later = asked(LONG)
    table.lend(later)
    assert later.place is not None


def test_what_waits_where_prompts_are_computed_is_weighed(table, followers, clock):
    followers.hear["b"](stored(LONG[:80]))
    clock.now += 1
    table.update([computing("a", beat=1), computing("b", beat=1, waiting_tokens=500)])
    made = asked(LONG)
    table.lend(made)
    assert made.place == Place("a", 1, "key")


def test_little_is_lent_to_nobody_and_nobody_is_missed_once(table, caplog):
    table.update([computing("a")])
    short, known = asked(PROMPT), asked(LONG)
    known.sent("x", 80, "")
    for each in (short, known):
        table.lend(each)
        assert each.place is None
    assert not caplog.records
    table.update([seen("a")])
    for _ in range(2):
        table.lend(asked(LONG))
    assert len(caplog.records) == 1
    assert "those that decode do" in caplog.text


def test_a_table_is_found_by_its_deployment(table):
    keep("app", "Prefill", table)
    assert of_deployment("app", "Prefill") is table
    assert of_deployment("other", "Prefill") is None


def test_nobody_who_takes_requests_is_no_choice(table, clock):
    table.update([seen("a", draining=True), seen("b", draining=True)])
    assert table.choose(asked(), ["a", "b"]) is None

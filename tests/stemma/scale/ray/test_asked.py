"""What a router is told stays where it was said."""

from __future__ import annotations

import pickle

from stemma.scale.ray.asked import Asked, Place


def test_nothing_that_it_was_routed_by_travels():
    asked = Asked([b"h" * 16] * 1000, 16_000, session="s", home="team", to="r")
    data = pickle.dumps(asked)
    assert len(data) < 200
    assert (pickle.loads(data).hashes, pickle.loads(data).prompt_len, pickle.loads(data).to) == ((), 0, None)


def test_a_replica_is_told_where_the_prompt_is_computed():
    told: list[str] = []
    asked = Asked()
    asked.sent("a", 0, "", lambda: told.append("a"))
    asked.lent(Place("host", 1, "key"), lambda: told.append("lent"))
    assert pickle.loads(pickle.dumps(asked)).place == ("host", 1, "key")
    asked.begun()
    assert told == ["a", "lent"]
    asked.sent("b", 0, "")
    assert asked.place is None


def test_who_has_it_in_the_end_is_known():
    asked = Asked()
    asked.sent("a", 48, "costs least")
    asked.taken("a")
    assert (asked.chosen, asked.hit, asked.why) == ("a", 48, "costs least")
    asked.taken("b")
    assert (asked.chosen, asked.hit, asked.why) == ("b", 0, "a took no more")


def test_what_was_sent_is_begun_once_wherever_it_was_sent_last():
    told: list[str] = []
    asked = Asked()
    asked.begun()
    asked.sent("a", 0, "", lambda: told.append("a"))
    asked.sent("b", 3, "why", lambda: told.append("b"))
    assert told == ["a"]
    asked.begun()
    asked.begun()
    assert (told, asked.chosen, asked.hit) == (["a", "b"], "b", 3)

"""What a router sent of late counts until the replica's own word replaces it."""

from __future__ import annotations

from stemma.scale.fleet import hashes_of
from stemma.scale.fleet.sent import REMEMBERED, Sent

HASHES = hashes_of(list(range(40)), "", 4)


def test_what_was_sent_extends_what_is_held_where_it_follows_without_a_gap():
    sent = Sent()
    sent.add("a", 0.0, 24, HASHES[4:])
    sent.add("b", 0.0, 8, HASHES[:2])
    assert sent.extend({"a": 4}, HASHES) == {"a": 10, "b": 2}
    assert sent.extend({"a": 3}, HASHES) == {"a": 3, "b": 2}
    assert sent.extend({"b": 1}, HASHES) == {"b": 2}


def test_another_text_is_not_expected():
    sent = Sent()
    sent.add("a", 0.0, 40, HASHES)
    assert sent.extend({}, hashes_of(list(range(1, 41)), "", 4)) == {}


def test_it_is_forgotten_in_time_and_with_its_replica():
    sent = Sent()
    sent.pass_time(100.0)
    sent.add("a", 100.0, 40, HASHES)
    sent.add("b", 100.0, 40, HASHES)
    sent.drop("b")
    assert sent.extend({}, HASHES) == {"a": 10}
    sent.pass_time(100.1 + REMEMBERED)
    assert sent.extend({}, HASHES) == {"a": 10}
    sent.pass_time(100.2 + 2 * REMEMBERED)
    assert sent.extend({}, HASHES) == {}


def test_tokens_sent_before_a_load_was_told_are_in_it():
    sent = Sent()
    for now in (1.0, 2.0, 3.0):
        sent.add("a", now, 10, [])
    assert sent.since("a", 2.0) == (1, 10)
    assert sent.since("b", 2.0) == (0, 0)
    assert sent.count("a") == 1

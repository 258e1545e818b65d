"""Explanations name the place where the cache stops matching, and why."""

from __future__ import annotations

import stemma
from stemma.lang.states.state import State
from stemma.radix import Reason
from tests.stemma.server.live import live_server

LONG = "A long shared instruction that every branch begins with, word for word. " * 4


def check(backend) -> None:
    assert State(backend).system("Be kind.").explain().found.reason is Reason.NEVER_SEEN
    State(backend).system("Be terse.").prefill().result()
    assert str(State(backend).system("Be terse.").explain()).startswith("all ")
    other = State(backend).system("Be verbose.").explain()
    assert other.found.reason is Reason.DIVERGED
    assert other.before.endswith("Be ")
    assert other.after.startswith("verbose")
    assert other.expected == ("t",)
    assert "goes on with 't'" in str(other)
    elsewhere = State(backend, namespace="other").system("Be terse.").explain()
    assert elsewhere.found.hit_len == 0


def test_a_state_explains_itself(make):
    check(make())


def test_a_state_on_a_server_explains_itself(make):
    with live_server(make()) as live, stemma.connect(live.url) as remote:
        check(remote)


def test_what_was_evicted(make):
    llm = make(kv_tokens=1024)
    s = State(llm).system(LONG)
    s.prefill().result()
    assert s.explain().found.reason is Reason.COMPLETE
    s.release()
    for index in range(12):
        llm.generate([index] * 200, max_tokens=1)
    found = s.explain()
    assert found.found.reason is Reason.EVICTED
    assert "evicted" in str(found)

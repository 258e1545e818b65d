"""What is computed while nobody asks: one thing at a time, given up when a request comes."""

from __future__ import annotations

from typing import Any

from stemma.runtime.engine import Generation, RequestOptions
from stemma.runtime.errors import EngineClosed, PromptTooLong
from stemma.server.generation.idle import WHEN_IDLE, IdleWork

HERE = RequestOptions(namespace="", lora=None)


class Engine:
    """Notes what it is asked, and what is cancelled."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[int], dict[str, Any]]] = []
        self.cancelled: list[Generation] = []
        self.error: Exception | None = None

    def submit(self, tokens: list[int], **options: Any) -> Generation:
        if self.error is not None:
            raise self.error
        self.asked.append((tokens, options))
        return Generation(self.cancelled.append)


def test_it_asks_for_nothing_but_the_prompt() -> None:
    engine = Engine()
    idle = IdleWork(engine)
    idle.compute(idle.ticket(), [1, 2], RequestOptions(namespace="me", lora="sql"))
    assert engine.asked == [([1, 2], {"max_tokens": 0, "namespace": "me", "lora": "sql", "priority": WHEN_IDLE})]
    assert engine.cancelled == []


def test_a_request_ends_it() -> None:
    engine = Engine()
    idle = IdleWork(engine)
    idle.compute(idle.ticket(), [1, 2], HERE)
    idle.give_way()
    assert len(engine.cancelled) == 1
    idle.give_way()
    assert len(engine.cancelled) == 1


def test_there_is_one_at_a_time() -> None:
    engine = Engine()
    idle = IdleWork(engine)
    for _ in range(3):
        idle.compute(idle.ticket(), [1, 2], HERE)
    assert (len(engine.asked), len(engine.cancelled)) == (3, 2)


def test_what_was_prepared_before_a_request_came_is_not_begun() -> None:
    engine = Engine()
    idle = IdleWork(engine)
    ticket = idle.ticket()
    idle.give_way()
    idle.compute(ticket, [1, 2], HERE)
    assert engine.asked == []


def test_what_does_not_fit_is_left_out() -> None:
    engine = Engine()
    idle = IdleWork(engine)
    for engine.error in (PromptTooLong("too long", "prompt"), EngineClosed("closed")):
        idle.compute(idle.ticket(), [1, 2], HERE)
    idle.give_way()
    assert engine.cancelled == []

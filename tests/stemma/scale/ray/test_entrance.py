"""Requests whose replica dies: asked of another one before a word was said, ended with an error afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

pytest.importorskip("ray.serve", reason="ray[serve] is not installed: pip install 'stemma-llm[scale]'")

from ray.exceptions import ActorDiedError
from ray.serve.exceptions import RayServeException

from stemma.scale.ray.asked import Asked
from stemma.scale.ray.entrance import TRIES, Entrance
from stemma.scale.ray.leaving import Door
from stemma.scale.spec import ScaleConfig, Spec

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
WORDS = {"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True}
END = {"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False}
Messages = list[dict[str, Any]]


class Stream:
    """Stands for what a handle gives: an answer in batches, which can be cancelled."""

    def __init__(self, batches: list[Messages | Exception]) -> None:
        self._batches = iter(batches)
        self.is_cancelled = False

    async def __anext__(self) -> Messages:
        batch = next(self._batches, None)
        if batch is None:
            raise StopAsyncIteration
        if isinstance(batch, Exception):
            raise batch
        return batch

    def cancel(self) -> None:
        self.is_cancelled = True


class Never(Stream):
    """A request that finds no replica, or whose replica says nothing."""

    async def __anext__(self) -> Messages:
        await asyncio.Event().wait()
        raise AssertionError


class Handle:
    """Gives these streams, one a request, as if the router had chosen a replica for each."""

    def __init__(self, streams: list[Stream], chosen: str | None = "r") -> None:
        self.streams, self.asked, self.chosen, self.begun = streams, list[Asked](), chosen, list[Asked]()

    def remote(self, scope: Any, body: bytes, asked: Asked) -> Stream:
        if self.chosen is not None:
            asked.sent(self.chosen, 0, "", lambda: self.begun.append(asked))
        self.asked.append(asked)
        return self.streams[len(self.asked) - 1]


class Reader:
    def read(self, call: Any) -> Asked:
        return Asked()


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.fixture
def ask(door: Door) -> Callable[[Handle], Any]:
    async def asked(handle: Handle) -> httpx.Response:
        entrance: Any = Entrance.__new__(Entrance)
        entrance._door = door
        entrance._spec, entrance._reader, entrance._answer = Spec(scale=ScaleConfig(wait_seconds=0.3)), Reader(), handle
        transport = httpx.ASGITransport(entrance.application)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.post("/v1/chat/completions", json={})

    return asked


def died() -> ActorDiedError:
    return ActorDiedError()


async def test_another_replica_is_asked_before_a_word_was_said(ask):
    handle = Handle([Stream([died()]), Stream([[START], died()]), Stream([[START, WORDS], [END]])])
    answer = await ask(handle)
    assert (answer.status_code, answer.text) == (200, "data: {}\n\ndata: [DONE]\n\n")
    assert len(handle.asked) == 3
    assert handle.begun == handle.asked
    assert all(stream.is_cancelled for stream in handle.streams)


async def test_an_answer_that_was_begun_ends_with_an_error(ask):
    handle = Handle([Stream([[START, WORDS], died()]), Stream([])])
    answer = await ask(handle)
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["error"]["message"] == "the replica that answered is gone; ask again"
    assert len(handle.asked) == 1


async def test_who_meets_only_dying_replicas_is_told_to_come_back(ask):
    answer = await ask(Handle([Stream([died()]) for _ in range(TRIES)]))
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_who_finds_no_replica_is_told_to_come_back(ask):
    stream = Never([])
    answer = await ask(Handle([stream], chosen=None))
    assert (answer.status_code, stream.is_cancelled) == (503, True)


async def test_who_has_a_replica_waits_for_its_answer(ask):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(ask(Handle([Never([])])), 1.0)


async def test_what_serve_refuses_is_refused(ask):
    assert (await ask(Handle([Stream([RayServeException("no")])]))).status_code == 503


async def test_nobody_comes_in_any_more_once_all_leave(ask, door):
    door.shut()
    handle = Handle([])
    answer = await ask(handle)
    assert (answer.status_code, answer.headers["retry-after"], handle.asked) == (503, "1", [])
    assert answer.json()["error"]["message"] == "the server is shutting down"


class Endless(Stream):
    """Says something, and never ends."""

    async def __anext__(self) -> Messages:
        batch = next(self._batches, None)
        return batch if batch is not None else await Never([]).__anext__()  # type: ignore[return-value]


async def test_what_does_not_end_by_itself_is_ended_with_an_error_when_all_leave(ask, door):
    stream = Endless([[START, WORDS]])
    asking = asyncio.create_task(ask(Handle([stream])))
    await asyncio.sleep(0.05)
    door.is_over.set()
    answer = await asking
    events = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["error"]["message"] == "the server is shutting down"
    assert stream.is_cancelled

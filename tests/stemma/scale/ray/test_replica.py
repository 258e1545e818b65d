"""What a replica answers, several messages at once, and what becomes of an answer that nobody wants any more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray.serve", reason="ray[serve] is not installed: pip install 'stemma-llm[scale]'")

from starlette.types import ASGIApp, Receive, Scope, Send

from stemma.runtime.engine import Engine
from stemma.runtime.model import LoadedModel
from stemma.scale.ray import replica as under_test
from stemma.scale.ray.asked import Asked
from stemma.scale.ray.replica import Replica
from stemma.scale.spec import ScaleConfig, Spec
from stemma.server.prompts.readings import Readings

SCOPE = {"type": "http", "method": "POST", "path": "/", "headers": []}


class Alone(Replica):
    """Whose end nobody awaits."""

    def __del__(self) -> None:  # type: ignore[override]
        return


def replica_of(application: ASGIApp | None = None, engine: Engine | None = None, name: str = "r") -> Any:
    """One without Serve around it."""
    made: Any = Alone.__new__(Alone)
    made._app, made._engine, made._pieces = application, engine, {}
    made._readings = Readings(None)  # type: ignore[arg-type]
    made._spec = Spec(scale=ScaleConfig(handover_bytes=1 << 20))
    made._context = SimpleNamespace(deployment="Replica", app_name="stemma", replica_tag=name)
    return made


def answers(application: ASGIApp) -> AsyncIterator[list[dict[str, Any]]]:
    stream: AsyncIterator[list[dict[str, Any]]] = replica_of(application).answer(SCOPE, b"asked", Asked())
    return stream


async def test_messages_that_are_there_at_once_travel_together():
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        said = await receive()
        for part in (b"1", said["body"]):
            await send({"type": "http.response.body", "body": part})
        await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b"2"})

    batches = [[message["body"] for message in batch] async for batch in answers(application)]
    assert batches == [[b"1", b"asked"], [b"2"]]


async def test_who_stops_listening_is_a_client_that_went_away():
    heard: list[str] = []

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "http.response.body", "body": b"1"})
        heard.append((await receive())["type"])

    async with aclosing(answers(application)) as stream:  # type: ignore[type-var]
        await anext(stream)
        assert heard == []
    assert heard == ["http.disconnect"]


async def test_an_application_that_fails_fails_its_caller():
    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.body", "body": b"1"})
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _ = [batch async for batch in answers(application)]


async def test_what_is_hot_is_handed_over_in_pieces(tiny_loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch):
    prompts = [[number, *range(63)] for number in range(3)]
    with Engine.of(tiny_loaded, kv_tokens=2048) as one, Engine.of(tiny_loaded, kv_tokens=2048) as other:
        leaves, stays = replica_of(engine=one, name="leaves"), replica_of(engine=other)
        pieces: list[int] = []

        async def take_over(name: str, piece: bytes, is_last: bool, asked: Asked) -> int:
            pieces.append(len(piece))
            taken: int = await stays.take_over(name, piece, is_last, asked)
            return taken

        handle = SimpleNamespace(take_over=SimpleNamespace(remote=take_over))
        monkeypatch.setattr(under_test.serve, "get_deployment_handle", lambda deployment, app_name: handle)
        monkeypatch.setattr(under_test, "PIECE", 10_000)
        for prompt in prompts:
            one.generate(prompt, max_tokens=1)
        await leaves._hand_over()
        assert len(pieces) > 1
        assert [other.explain(prompt).hit_len for prompt in prompts] == [64] * 3
        assert stays._pieces == {}


@pytest.mark.parametrize("goes_on", [True, False])
async def test_a_replica_hands_over_only_where_others_stay(goes_on, monkeypatch):
    made, handed = replica_of(), []

    async def hand_over() -> None:
        handed.append("all")

    made._hand_over, made._giving, made._end_taking, made._end_spans = hand_over, None, None, None
    made._telling = made._engine = SimpleNamespace(close=lambda: None)
    made._app = SimpleNamespace(state=SimpleNamespace(service=made._telling))
    monkeypatch.setattr(under_test, "is_going_on", lambda application: goes_on and application == "stemma")
    await Replica.__del__(made)
    assert bool(handed) is goes_on


async def test_when_all_leave_endless_streams_and_background_answers_end():
    told: list[str] = []

    async def ended() -> None:
        told.append("ended")

    made = replica_of()
    service = SimpleNamespace(
        stopping=asyncio.Event(), runs=SimpleNamespace(ended=ended), cut_short=lambda: told.append("cut short")
    )
    made._app = SimpleNamespace(state=SimpleNamespace(service=service))
    await made.leave()
    await made.cut_short()
    assert service.stopping.is_set()
    assert told == ["ended", "cut short"]


def test_of_too_much_the_part_that_was_used_last_is_handed_over(tiny_loaded: LoadedModel, tmp_path):
    prompts = [[number, *range(63)] for number in range(8)]
    with Engine.of(tiny_loaded, kv_tokens=2048) as one, Engine.of(tiny_loaded, kv_tokens=2048) as other:
        for prompt in [*prompts, prompts[0]]:
            one.generate(prompt, max_tokens=1)
        whole = one.save_cache(tmp_path / "all").num_bytes
        made = one.save_cache(tmp_path / "hot", max_bytes=whole // 2 + (64 << 10), only_hot=True)
        assert made.num_bytes <= whole // 2 + (64 << 10)
        other.load_cache(tmp_path / "hot")
        kept = [other.explain(prompt).hit_len == 64 for prompt in prompts]
    assert kept[0]
    assert kept[-1]
    assert not kept[1]

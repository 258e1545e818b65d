"""An answer that another replica may take over as long as nothing of it was said, and that ends well afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stemma.scale.ray.saying import Reply
from stemma.server.anthropic.errors import ANTHROPIC
from stemma.server.http.dialect import OPENAI, Dialect
from stemma.server.http.errors import unavailable
from stemma.server.openai.endpoints import RESPONSES

GONE = "the replica is gone"


class Wire:
    """What a client gets."""

    def __init__(self, dialect: Dialect = OPENAI) -> None:
        self.sent: list[dict[str, Any]] = []
        self.reply = Reply(self.send, dialect, "r1")
        self.reply.replica = "a"

    async def send(self, message: Any) -> None:
        self.sent.append(message)

    @property
    def text(self) -> str:
        return b"".join(message.get("body", b"") for message in self.sent).decode()


def start(status: int = 200, kind: str = "text/event-stream; charset=utf-8") -> dict[str, Any]:
    headers = [(b"content-type", kind.encode()), (b"x-request-id", b"r1")]
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(data: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def test_nothing_is_sent_before_there_is_something_to_say():
    wire = Wire()
    await wire.reply.pass_on(start())
    assert wire.sent == []
    await wire.reply.pass_on(body(b"data: 1\n\n"))
    assert [message["type"] for message in wire.sent] == ["http.response.start", "http.response.body"]
    assert dict(wire.sent[0]["headers"]) == {
        b"content-type": b"text/event-stream; charset=utf-8", b"x-stemma-replica": b"a"
    }  # fmt: skip
    assert wire.reply.has_said


async def test_a_heartbeat_says_nothing_and_another_replica_goes_on_behind_it():
    wire = Wire()
    await wire.reply.pass_on(start())
    await wire.reply.pass_on(body(OPENAI.form.heartbeat))
    assert not wire.reply.has_said
    for message in (start(), body(b"data: 1\n\n"), body(b"", more=False), body(b"data: too late\n\n")):
        await wire.reply.pass_on(message)
    assert wire.text == OPENAI.form.heartbeat.decode() + "data: 1\n\n"
    assert [message["type"] for message in wire.sent].count("http.response.start") == 1


async def test_a_refusal_behind_a_heartbeat_is_an_event():
    wire = Wire()
    for message in (start(), body(OPENAI.form.heartbeat), start(429, "application/json"), body(b"{}", more=False)):
        await wire.reply.pass_on(message)
    assert "ask again" in wire.text
    assert wire.text.endswith("data: [DONE]\n\n")
    assert not wire.sent[-1]["more_body"]


@pytest.mark.parametrize(
    ("dialect", "kind", "of_error"),
    [
        (OPENAI, "text/event-stream", lambda event: event["error"]["message"]),
        (RESPONSES, "text/event-stream", lambda event: (event["type"], event["error"]["message"])[1]),
        (ANTHROPIC, "text/event-stream", lambda event: (event["type"], event["error"]["message"])[1]),
    ],
)
async def test_a_stream_that_breaks_off_ends_with_an_error_of_its_api(dialect, kind, of_error):
    wire = Wire(dialect)
    await wire.reply.pass_on(start(kind=kind))
    await wire.reply.pass_on(body(b"data: {}\n\n"))
    await wire.reply.break_off(unavailable(GONE))
    event = wire.sent[-1]["body"].decode().removesuffix("data: [DONE]\n\n").rpartition("data: ")[2]
    assert of_error(json.loads(event)) == GONE
    assert not wire.sent[-1]["more_body"]


async def test_an_answer_that_is_no_stream_is_cut():
    wire = Wire()
    await wire.reply.pass_on(start(kind="application/json"))
    await wire.reply.pass_on(body(b"{"))
    with pytest.raises(ConnectionError, match="cut off"):
        await wire.reply.break_off(unavailable(GONE))


async def test_what_was_not_begun_is_refused_with_a_status():
    wire = Wire(ANTHROPIC)
    await wire.reply.refuse(unavailable(GONE, 3))
    assert wire.sent[0]["status"] == 503
    assert dict(wire.sent[0]["headers"])[b"retry-after"] == b"3"
    assert json.loads(wire.text)["error"]["message"] == GONE

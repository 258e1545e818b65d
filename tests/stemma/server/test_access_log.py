"""A line for each request: for people, or as JSON; with what it cost and never with what it said."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from stemma.server.http import access_log
from stemma.server.http.access_log import JsonFormatter

SECRET = "the letters of a stranger"
CHAT = {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 4, "ignore_eos": True}


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What a process that writes JSON writes."""
    written = io.StringIO()
    loggers = [logging.getLogger(name) for name in ("stemma", "uvicorn", "stemma.access")]
    before = [(each.handlers, each.level, each.propagate) for each in loggers]
    access_log.set_up(as_json=True, tells_requests=False)
    for handler in loggers[0].handlers:
        handler.setStream(written)  # type: ignore[attr-defined]
    yield written
    for each, (handlers, level, propagates) in zip(loggers, before, strict=True):
        each.handlers, each.propagate = handlers, propagates
        each.setLevel(level)


async def test_a_request_is_a_line_of_json(client: Any, lines: io.StringIO) -> None:
    headers, asked = {"x-request-id": "mine/1"}, {**CHAT, "cache_salt": "nobody asked before"}
    answer = (await client.http.post("/v1/chat/completions", json=asked, headers=headers)).json()
    await client.stream("/v1/chat/completions", **asked)
    await client.post("/v1/completions", status=400, prompt=SECRET, max_tokens=-1)
    await client.get("/health")
    whole, streamed, wrong, health = (json.loads(line) for line in lines.getvalue().splitlines())
    assert (whole["request_id"], whole["answer_id"], whole["path"]) == ("mine/1", answer["id"], "/v1/chat/completions")
    assert (whole["status"], whole["model"], whole["finish_reasons"]) == (200, "tiny", ["length"])
    assert whole["tokens"]["completion"] == 4
    assert whole["tokens"]["cached"] + whole["tokens"]["prefilled"] == answer["usage"]["prompt_tokens"]
    assert streamed["tokens"]["cached"] > whole["tokens"]["cached"]
    assert 0 <= whole["seconds"]["queue"] <= whole["seconds"]["first_token"] <= whole["seconds"]["total"]
    assert (wrong["status"], wrong["tokens"], health["path"]) == (400, None, "/health")
    assert SECRET not in lines.getvalue()


def test_other_messages_are_lines_too() -> None:
    record = logging.LogRecord("stemma.server", logging.WARNING, "", 1, "two\nlines of %s", ("é",), None)
    told = json.loads(JsonFormatter().format(record))
    assert (told["level"], told["logger"], told["message"]) == ("warning", "stemma.server", "two\nlines of é")
    assert "\n" not in JsonFormatter().format(record)


async def test_for_people_it_is_a_line_of_text(client: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "stemma.access"):
        await client.http.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": "mine/2"})
    (line,) = [record.getMessage() for record in caplog.records if record.name == "stemma.access"]
    assert line.startswith("POST /v1/chat/completions 200 ")
    assert line.endswith(" mine/2")
    assert SECRET not in line

"""Each request is a span of OpenTelemetry, with its status, for whoever installs a provider."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, get_current_span

from stemma.server.http import endpoint


class Recorder(NonRecordingSpan):
    """A span that keeps what it is told."""

    def __init__(self, name: str, caller: Context, kind: SpanKind, attributes: dict[str, Any]) -> None:
        super().__init__(SpanContext(1, 1, is_remote=False))
        self.name = name
        self.caller = get_current_span(caller).get_span_context()
        self.kind = kind
        self.attributes = attributes
        self.has_ended = False

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value


class Tracer:
    """Opens such spans."""

    def __init__(self) -> None:
        self.spans: list[Recorder] = []

    @contextmanager
    def start_as_current_span(self, *told: Any) -> Iterator[Recorder]:
        self.spans.append(Recorder(*told))
        yield self.spans[-1]
        self.spans[-1].has_ended = True


async def test_each_request_is_a_span(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = Tracer()
    monkeypatch.setattr(endpoint, "tracer", tracer)
    await client.post("/v1/completions", prompt="x", max_tokens=1)
    await client.post("/v1/completions", status=400, nonsense=1)
    await client.stream("/v1/chat/completions", messages=[{"role": "user", "content": "x"}], max_tokens=2)
    names = [(span.name, span.attributes["http.response.status_code"]) for span in tracer.spans]
    assert names == [
        ("POST /v1/completions", 200),
        ("POST /v1/completions", 400),
        ("POST /v1/chat/completions", 200),
    ]
    assert all(span.has_ended and span.kind is SpanKind.SERVER for span in tracer.spans)


async def test_a_span_joins_its_callers_trace(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tracer = Tracer()
    monkeypatch.setattr(endpoint, "tracer", tracer)
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    await client.http.get("/v1/models", headers={"traceparent": f"00-{trace}-{span}-01", "x-request-id": "mine/1"})
    await client.http.get("/v1/models", headers={"traceparent": "nonsense"})
    joined, own = tracer.spans
    assert (f"{joined.caller.trace_id:032x}", f"{joined.caller.span_id:016x}") == (trace, span)
    assert not own.caller.is_valid
    assert joined.attributes == {
        "http.request.method": "GET", "http.route": "/v1/models", "http.request.header.x-request-id": "mine/1",
        "http.response.status_code": 200,
    }  # fmt: skip


async def test_every_answer_has_an_id(client: Any) -> None:
    """The client's, if it is a plain word: a header is no place for anything else."""
    body = {"prompt": "x", "max_tokens": 1}
    for sent, came in (("a-1", "a-1"), ("x" * 129, None), ("a b", None), (None, None)):
        headers = {} if sent is None else {"x-request-id": sent}
        for asked in (body, {**body, "stream": True}, {**body, "max_tokens": -1}):
            answer = await client.http.post("/v1/completions", json=asked, headers=headers)
            name = answer.headers["x-request-id"]
            assert name == came or (came is None and len(name) == 32)

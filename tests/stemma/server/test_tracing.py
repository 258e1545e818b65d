"""Each request is a span of OpenTelemetry, with its status, for whoever installs a provider."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.trace import NonRecordingSpan, SpanContext

from stemma.server.http import endpoint


class Recorder(NonRecordingSpan):
    """A span that keeps what it is told."""

    def __init__(self, name: str) -> None:
        super().__init__(SpanContext(1, 1, is_remote=False))
        self.name = name
        self.attributes: dict[str, Any] = {}
        self.has_ended = False

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value


class Tracer:
    """Opens such spans."""

    def __init__(self) -> None:
        self.spans: list[Recorder] = []

    @contextmanager
    def start_as_current_span(self, name: str) -> Iterator[Recorder]:
        self.spans.append(Recorder(name))
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
    assert all(span.has_ended for span in tracer.spans)

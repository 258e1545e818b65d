"""Each request is a span that joins its caller's trace, with its attributes and stages, and has an id."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from stemma.runtime.engine import Engine
from stemma.server import ServerConfig
from stemma.server.http import endpoint

SECRET = "something that nobody else shall read"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """What is told to whoever collects."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(endpoint, "tracer", provider.get_tracer("stemma.server"))
    yield exporter
    provider.shutdown()


def requests_of(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.kind is SpanKind.SERVER]


async def test_each_request_is_a_span(client: Any, spans: InMemorySpanExporter) -> None:
    await client.post("/v1/completions", prompt="x", max_tokens=1)
    await client.post("/v1/completions", status=400, nonsense=1)
    await client.stream("/v1/chat/completions", messages=[{"role": "user", "content": "x"}], max_tokens=2)
    names = [(span.name, span.attributes["http.response.status_code"]) for span in requests_of(spans)]
    assert names == [
        ("POST /v1/completions", 200),
        ("POST /v1/completions", 400),
        ("POST /v1/chat/completions", 200),
    ]
    assert all(span.status.status_code is StatusCode.UNSET for span in requests_of(spans))


async def test_a_span_joins_its_callers_trace(client: Any, spans: InMemorySpanExporter) -> None:
    trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    await client.http.get("/v1/models", headers={"traceparent": f"00-{trace}-{span}-01", "x-request-id": "mine/1"})
    await client.http.get("/v1/models", headers={"traceparent": "nonsense"})
    joined, own = requests_of(spans)
    assert joined.parent is not None
    assert (f"{joined.parent.trace_id:032x}", f"{joined.parent.span_id:016x}") == (trace, span)
    assert own.parent is None
    assert dict(joined.attributes or {}) == {
        "http.request.method": "GET", "http.route": "/v1/models", "http.request.header.x-request-id": "mine/1",
        "url.path": "/v1/models", "url.scheme": "http", "http.response.status_code": 200,
    }  # fmt: skip


async def test_a_generations_span_says_what_it_was_and_where_its_time_went(
    client: Any, spans: InMemorySpanExporter
) -> None:
    asked = {"messages": [{"role": "user", "content": SECRET}], "temperature": 0.5, "top_p": 0.9, "seed": 3}
    answer = await client.post(
        "/v1/chat/completions", model="tiny", max_tokens=3, ignore_eos=True, n=2, stop=[SECRET], **asked
    )
    (span,) = requests_of(spans)
    told = dict(span.attributes or {})
    wanted = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "stemma", "gen_ai.request.model": "tiny",
        "gen_ai.request.temperature": 0.5, "gen_ai.request.top_p": 0.9, "gen_ai.request.seed": 3,
        "gen_ai.request.max_tokens": 3, "gen_ai.request.choice.count": 2, "gen_ai.response.id": answer["id"],
        "gen_ai.response.model": "tiny", "gen_ai.response.finish_reasons": ("length", "length"),
        "gen_ai.usage.output_tokens": 6,
    }  # fmt: skip
    assert {name: told.get(name) for name in wanted} == wanted
    assert told["gen_ai.usage.input_tokens"] == 2 * answer["usage"]["prompt_tokens"]
    assert told["gen_ai.usage.cache_read.input_tokens"] == answer["usage"]["stemma"]["cached_tokens"]
    stages = [each for each in spans.get_finished_spans() if each is not span]
    assert [each.name for each in stages] == ["queue", "prefill", "decode"]
    assert all(each.parent is not None and each.parent.span_id == span.context.span_id for each in stages)
    times = [time for each in stages for time in (each.start_time, each.end_time)]
    assert times == sorted(times)
    assert span.start_time <= times[0]
    assert SECRET not in "".join(each.to_json() for each in spans.get_finished_spans())


@pytest.mark.parametrize(
    ("path", "body", "operation"),
    [
        ("/v1/completions", {"prompt": "x", "max_tokens": 2}, "text_completion"),
        ("/v1/responses", {"input": "x", "max_output_tokens": 2}, "chat"),
        ("/v1/embeddings", {"input": "x"}, "embeddings"),
        ("/generate", {"text": "x", "sampling_params": {"max_new_tokens": 2, "temperature": 0.25}}, "text_completion"),
        (
            "/api/chat",
            {"messages": [{"role": "user", "content": "x"}], "stream": False, "options": {"num_predict": 2}},
            "chat",
        ),
    ],
)
async def test_every_dialect_tells_it(
    client: Any, spans: InMemorySpanExporter, path: str, body: dict[str, Any], operation: str
) -> None:
    await client.post(path, model="tiny", **body) if "text" not in body else await client.post(path, **body)
    (span,) = requests_of(spans)
    told = dict(span.attributes or {})
    assert (told["gen_ai.operation.name"], told["gen_ai.response.model"]) == (operation, "tiny")
    assert told["gen_ai.usage.input_tokens"] > 0
    if "sampling_params" in body:
        assert told["gen_ai.request.temperature"] == 0.25


async def test_a_fault_of_the_servers_is_an_error_of_its_span(
    engine: Engine, serve_with: Any, spans: InMemorySpanExporter
) -> None:
    async with serve_with(engine, ServerConfig()) as client:
        await client.get("/nowhere", status=404)
        client.http._transport.app.state.service.stopping.set()
        await client.get("/health", status=503)
    (span,) = requests_of(spans)
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "503"


async def test_every_answer_has_an_id(client: Any) -> None:
    """The client's, if it is a plain word: a header is no place for anything else."""
    body = {"prompt": "x", "max_tokens": 1}
    for sent, came in (("a-1", "a-1"), ("x" * 129, None), ("a b", None), (None, None)):
        headers = {} if sent is None else {"x-request-id": sent}
        for asked in (body, {**body, "stream": True}, {**body, "max_tokens": -1}):
            answer = await client.http.post("/v1/completions", json=asked, headers=headers)
            name = answer.headers["x-request-id"]
            assert name == came or (came is None and len(name) == 32)

"""Spans to a collector, by OpenTelemetry's own exporter: OTLP over HTTP. What else it is told, it reads in OTEL_*."""

from __future__ import annotations

from collections.abc import Callable

from opentelemetry import trace

from stemma.runtime.errors import InvalidRequest
from stemma.version import VERSION

PATH = "/v1/traces"


def export_spans(endpoint: str) -> Callable[[], None]:
    """Have the spans of this process sent there from now on. Returns what sends the last ones and ends it.

    endpoint: of the collector, with or without the path for traces. Raises InvalidRequest without the packages.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise InvalidRequest("spans need OpenTelemetry's exporter: pip install 'stemma-llm[otel]'", "otlp") from error
    if not endpoint.startswith(("http://", "https://")):
        raise InvalidRequest(f"otlp is a collector's address, such as http://localhost:4318; not {endpoint!r}", "otlp")
    named = Resource.create({"service.name": "stemma", "service.version": VERSION})  # OTEL_SERVICE_NAME goes before it
    provider = TracerProvider(resource=named)
    where = endpoint if endpoint.rstrip("/").endswith(PATH) else endpoint.rstrip("/") + PATH
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=where)))
    trace.set_tracer_provider(provider)
    return provider.shutdown

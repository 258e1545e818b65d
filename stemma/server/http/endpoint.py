"""From an HTTP request to a typed RequestContext and back: key, body, errors, and the end when the client goes away."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Generic, TypeVar

from opentelemetry import propagate, trace
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from stemma.server.http import access_log, tracing
from stemma.server.http.decoding import BodyReader
from stemma.server.http.dialect import OPENAI, Dialect
from stemma.server.http.errors import ApiError, ClientGone, api_error, unavailable
from stemma.server.http.keys import Tenant
from stemma.server.http.record import RequestRecord
from stemma.server.http.replies import json_reply
from stemma.server.http.state import HttpState
from stemma.server.http.unused_fields import header as unused_header

Kept = TypeVar("Kept", bound=HttpState)
Body = TypeVar("Body")
T = TypeVar("T")

END_SECONDS = 1.0
"""How long the last words of a request that is cut off may take to be written."""

log = logging.getLogger("stemma.server")
tracer = trace.get_tracer("stemma.server")


@dataclass(slots=True)
class RequestContext(Generic[Kept, Body]):
    """One request at its handler, with what the server keeps.

    record: what is noted of it. reader: what the body was read by; handlers read parts of it that are read later.
    cleanup: closed when the answer was sent, failed, or nobody wants it any more.
    """

    service: Kept
    tenant: Tenant
    body: Body
    request: Request
    dialect: Dialect
    record: RequestRecord
    reader: BodyReader = field(default_factory=BodyReader)
    cleanup: ExitStack = field(default_factory=ExitStack)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A row of the server's table of paths.

    body: the type of the JSON body; None for no body; bytes for an upload, as it comes. is_open: needs no key.
    dialect: how errors and streams are written. header: only requests that have it are for this row; others are for the
    other row of this path. query: a struct of what may stand behind the path's `?`. media_type: of an answer that is no
    stream.
    """

    method: str
    path: str
    handler: Callable[[RequestContext[Any, Any]], Awaitable[Response]]
    summary: str
    body: type[Any] | None = None
    is_open: bool = False
    dialect: Dialect = OPENAI
    header: str | None = None
    query: type[Any] | None = None
    media_type: str = "application/json"


class EndpointApp:
    """An endpoint as an ASGI application."""

    def __init__(self, endpoint: Endpoint, service: HttpState) -> None:
        self._endpoint = endpoint
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, row = self._service, self._endpoint
        reader = BodyReader(service.config.strict_fields)
        headers = Headers(scope=scope)
        record = RequestRecord(request_id(headers.get("x-request-id")), row.method, row.path)
        told = [(header.encode(), record.id.encode()) for header in row.dialect.id_headers]

        async def counted_send(message: Any) -> None:
            if message["type"] == "http.response.start":
                record.status = message["status"]
                message = {**message, "headers": [*message["headers"], *told]}
                if reader.unused:
                    message["headers"].append(unused_header(reader.unused))
                    service.unused_fields.note(row.path, reader.unused)
            await send(message)

        service.counts.num_open += 1
        name, caller = f"{row.method} {row.path}", propagate.extract(headers)
        with tracer.start_as_current_span(name, caller, trace.SpanKind.SERVER, _attributes(record, scope)) as span:
            try:
                await self._answer(scope, receive, counted_send, reader, record)
            except ClientGone:
                service.counts.num_gone += 1
            except Exception as error:
                if record.status and service.is_over.is_set():  # a reader so slow that it could not even be told
                    service.counts.num_gone += 1
                    return
                if record.status:  # too late for another answer: the connection is cut
                    log.exception("%s failed while it was answered", row.path)
                    raise
                await error_reply(error, row, record.id)(scope, receive, counted_send)
            finally:
                service.counts.num_open -= 1
                record.seconds = time.monotonic() - record.began
                service.counts.ended(record)
                access_log.write(record)
                tracing.finish(span, record, tracer)
        if record.status == HTTPStatus.OK and row.body is not None:
            service.limiter.note_duration(record.seconds)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, reader: BodyReader, record: RequestRecord
    ) -> None:
        endpoint, service, headers = self._endpoint, self._service, Headers(scope=scope)
        tenant = Tenant("", is_admin=False)
        if not endpoint.is_open:
            tenant = service.keys.tenant(headers.get("authorization"), headers.get("x-api-key"))
        record.tenant = tenant.name
        config = service.config
        limit = config.max_files_bytes if endpoint.body is bytes else config.max_body_bytes
        data = await before_the_end(read_body(headers, receive, limit), service.is_over)
        body = None if endpoint.body is None else await _decoded(service, reader, data, endpoint.body)
        if trace.get_current_span().is_recording():
            record.asked = tracing.asked_of(body)
        with ExitStack() as cleanup:
            request = Request(scope)
            context = RequestContext(service, tenant, body, request, endpoint.dialect, record, reader, cleanup)

            async def respond() -> None:
                response = await endpoint.handler(context)
                await response(scope, _never, send)

            await until_gone(respond(), receive, service.is_over)


def _attributes(record: RequestRecord, scope: Scope) -> dict[str, str]:
    """What a span is told at its beginning, in OpenTelemetry's words."""
    return {
        "http.request.method": record.method,
        "http.route": record.path,
        "url.path": scope["path"],
        "url.scheme": scope.get("scheme", "http"),
        "http.request.header.x-request-id": record.id,
    }


REQUEST_ID = re.compile(r"[\w.:+=/-]{1,128}", re.ASCII)


def request_id(given: str | None) -> str:
    """What a request is called in headers and traces: as its client calls it, if that is a plain word."""
    return given if given is not None and REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


async def _decoded(service: HttpState, reader: BodyReader, data: bytes, kind: type[Any]) -> Any:
    if kind is bytes:
        return data
    if len(data) < 64 << 10:
        return reader.decode(data, kind)
    return await service.work(reader.decode, data, kind)


async def read_body(headers: Headers, receive: Receive, limit: int) -> bytes:
    """The whole body. Raises ApiError (413) as soon as it is known to be too long, or at once (415) for one that is
    compressed; ClientGone if it never comes."""
    encoding = headers.get("content-encoding") or "identity"
    if encoding.lower() != "identity":
        raise ApiError(
            415, f"a body's content-encoding may not be {encoding}: send it as it is", code="body_compressed"
        )
    declared = headers.get("content-length", "0")
    too_long = ApiError(413, f"the body is longer than {limit} bytes", code="body_too_large")
    if declared.isdigit() and int(declared) > limit:
        raise too_long
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise too_long
        if not message.get("more_body", False):
            return b"".join(parts)


async def until_gone(work: Coroutine[Any, Any, None], receive: Receive, is_over: asyncio.Event) -> None:
    """Do the work, or cancel it when the client goes or the server's time is over. Raises ClientGone, ApiError."""
    watch = asyncio.ensure_future(_disconnect(receive))

    async def work_or_leave() -> None:
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ClientGone
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    try:
        await before_the_end(work_or_leave(), is_over)
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)


async def before_the_end(work: Coroutine[Any, Any, T], is_over: asyncio.Event) -> T:
    """Do the work. What does not end by itself soon after the server's time is over ends with ApiError (503)."""
    task, end = asyncio.ensure_future(work), asyncio.ensure_future(_end(is_over))
    try:
        await asyncio.wait((task, end), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise unavailable("the server is shutting down")
        return await task
    finally:
        end.cancel()
        task.cancel()
        await asyncio.gather(task, end, return_exceptions=True)


async def _end(is_over: asyncio.Event) -> None:
    await is_over.wait()
    await asyncio.sleep(END_SECONDS)


async def _disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _never() -> Any:
    """Responses are not to look for the disconnect themselves."""
    await asyncio.Event().wait()


def error_reply(error: Exception, endpoint: Endpoint, name: str = "") -> Response:
    """The answer that is an error, in the endpoint's dialect. A fault of the server's own is logged. name: what the
    request is called, if it is one of HTTP's."""
    known = api_error(error)
    if known is None:
        log.exception("%s failed", endpoint.path, exc_info=error)
        known = ApiError(500, "the server failed; its log says why", "server_error")
    elif known.status == 500:
        log.error("%s failed", endpoint.path, exc_info=error)
    known.request_id = name
    return json_reply(endpoint.dialect.error(known), known.status, known.headers)

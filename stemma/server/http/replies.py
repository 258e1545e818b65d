"""Answers: JSON, and streams of server-sent events to readers of any speed."""

from __future__ import annotations

import asyncio
import logging
import time
import traceback
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any, NamedTuple

import msgspec
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from stemma.server.config import ServerConfig
from stemma.server.http.errors import ApiError, ClientGone, api_error

log = logging.getLogger("stemma.server")
SEPARATORS = [(char.encode(), b"\\u%04x" % ord(char)) for char in "\x85\u2028\u2029"]
"""Other separators are control characters, which JSON escapes anyway."""


class StreamForm(NamedTuple):
    """What a stream is made of. heartbeat: says nothing, and every reader skips it."""

    media_type: str
    heartbeat: bytes


EVENTS = StreamForm("text/event-stream", b": waiting\n\n")
LINES = StreamForm("application/x-ndjson", b" ")
"""JSON values, one a line; a space before one is part of no value."""


def json_reply(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A whole answer."""
    return Response(msgspec.json.encode(value), status, headers, "application/json")


def event(value: Any, name: str | None = None) -> bytes:
    """One server-sent event. Many clients end lines at every separator of Unicode, so those are escaped."""
    start = b"" if name is None else b"event: " + name.encode() + b"\n"
    return start + b"data: " + _on_one_line(value) + b"\n\n"


def typed_event(value: Mapping[str, Any]) -> bytes:
    """An event that is named by what its value says of its type."""
    return event(value, value["type"])


def line(value: Any) -> bytes:
    """One line of a stream of lines, with no other separator in it."""
    return _on_one_line(value) + b"\n"


def _on_one_line(value: Any) -> bytes:
    data = msgspec.json.encode(value)
    for separator, escaped in SEPARATORS:
        data = data.replace(separator, escaped)
    return data


def error_in_stream(error: Exception, request_id: str) -> ApiError:
    """What a stream tells of an error, which is logged here: its status says that all is well.

    The log has the kinds of the errors and where they were raised, and no message: that may quote the request. Raises
    a fault of the server's own again, which cuts the connection and is logged there.
    """
    known = api_error(error)
    if known is None:
        error.add_note(f"in the stream of {request_id!r}")
        raise error
    level = logging.ERROR if known.status >= 500 else logging.WARNING
    log.log(level, "the stream of %r ended with an error: %s", request_id, raised(error))
    return known


def raised(error: BaseException) -> str:
    """The kinds of an error and of its causes, the first one's place behind it."""
    kinds = [type(error).__name__]
    while error.__cause__ is not None:
        error = error.__cause__
        kinds.append(type(error).__name__)
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    return " because of ".join(kinds) + place


class EventReply(Response):
    """A stream of events. A reader that is slow gets fewer, larger ones; one that takes nothing for `write_seconds` is
    let go (ClientGone). While there is no event for `heartbeat_seconds`, a heartbeat says that the server is there, so
    that no proxy closes the connection of a request that waits."""

    def __init__(self, events: AsyncGenerator[bytes], config: ServerConfig, form: StreamForm = EVENTS) -> None:
        headers = {"cache-control": "no-cache", "x-accel-buffering": "no"}
        super().__init__(status_code=200, headers=headers, media_type=form.media_type)
        self._events = events
        self._heartbeat = form.heartbeat
        self._config = config
        self._sent_at = time.monotonic()
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        heart = asyncio.ensure_future(self._beat(send))
        try:
            # Closed here and now: left to the garbage collector, it would be closed in whatever thread that runs in.
            async with aclosing(self._events):
                async for data in self._events:
                    await self._send(send, data, more=True)
        finally:
            heart.cancel()
            await asyncio.gather(heart, return_exceptions=True)
        await self._send(send, b"", more=False)

    async def _beat(self, send: Send) -> None:
        while True:
            silence = time.monotonic() - self._sent_at
            if silence >= self._config.heartbeat_seconds:
                await self._send(send, self._heartbeat, more=True)
                silence = 0.0
            await asyncio.sleep(self._config.heartbeat_seconds - silence)

    async def _send(self, send: Send, data: bytes, *, more: bool) -> None:
        self._sent_at = time.monotonic()
        try:
            async with asyncio.timeout(self._config.write_seconds):
                await send({"type": "http.response.body", "body": data, "more_body": more})
        except TimeoutError as error:
            raise ClientGone from error

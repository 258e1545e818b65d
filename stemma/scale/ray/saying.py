"""An answer on its way to a client: what a replica says of it, as far as it can be said.

Nothing is sent before there is something to tell: until then another replica can answer instead.

    start | heartbeats | first words ...        the replica is gone: ask another one
                         first words ... | gone  an error event, and the stream's end
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.types import Message, Send

from stemma.scale.ray.reading import REPLICA_HEADER
from stemma.server.http.dialect import Dialect
from stemma.server.http.errors import ApiError, unavailable
from stemma.server.http.replies import json_reply


class Reply:
    """One answer. request_id: what it is called. replica: who says it now. has_said: more than that it is there."""

    def __init__(self, send: Send, dialect: Dialect, request_id: str) -> None:
        self._send = send
        self._dialect = dialect
        self._start: Message | None = None
        self._begun: Message | None = None
        self._has_ended = False
        self.request_id = request_id
        self.replica: str | None = None
        self.has_said = False

    async def pass_on(self, message: Message) -> None:
        """A message of ASGI's from a replica."""
        if self._has_ended:
            return
        if message["type"] == "http.response.start":
            self._start = message
            if self._begun is not None and message["status"] != self._begun["status"]:
                await self.break_off(unavailable("the request was refused when it was asked again; ask again"))
            return
        if self._begun is None:
            assert self._start is not None
            self._begun = self._start
            await self._send({**self._start, "headers": self._headers(self._start["headers"])})
        more = message.get("more_body", False)
        self.has_said = self.has_said or not (more and message["body"] == self._dialect.form.heartbeat)
        self._has_ended = not more
        await self._send(message)

    def _headers(self, said: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """A replica's, with its name; Serve's proxy says itself what the request is called."""
        told = [] if self.replica is None else [(REPLICA_HEADER.encode(), self.replica.encode())]
        return [*(pair for pair in said if pair[0] != b"x-request-id"), *told]

    async def refuse(self, error: ApiError) -> None:
        """The answer is an error; of a stream that has begun, an event."""
        if self._begun is not None:
            await self.break_off(error)
            return
        error.request_id = self.request_id
        names = [name for name in self._dialect.id_headers if name != "x-request-id"]
        headers = {**error.headers, **dict.fromkeys(names, self.request_id)}
        await json_reply(self._dialect.error(error), error.status, headers)({"type": "http"}, _never, self._send)

    async def break_off(self, error: ApiError) -> None:
        """End an answer in the middle. Raises ConnectionError, which cuts it, where it is no stream."""
        assert self._begun is not None
        self._has_ended = True
        kind = dict(self._begun["headers"]).get(b"content-type", b"")
        if not kind.startswith(self._dialect.form.media_type.encode()):
            raise ConnectionError(f"the answer to {self.request_id!r} was cut off: {error.message}")
        error.request_id = self.request_id
        last = self._dialect.event(_typed(self._dialect.error(error))) + self._dialect.end
        await self._send({"type": "http.response.body", "body": last, "more_body": False})


def _typed(value: dict[str, Any]) -> dict[str, Any]:
    """An error as an event that has a type, as streams of typed events need."""
    return value if "type" in value or not isinstance(value["error"], dict) else {"type": "error", **value}


async def _never() -> Message:
    raise AssertionError("an answer that is whole asks for nothing")

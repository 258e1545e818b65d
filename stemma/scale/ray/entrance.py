"""Where requests come in: their prompts are read, the router sends each to a replica, and answers go back as they come.

A replica that dies before it has said anything to a client is nobody's trouble: the request goes to another one. One
that dies in the middle of an answer ends that answer with an error event, in the words of the API it came by.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

from ray.exceptions import RayActorError, RayError
from ray.serve.exceptions import RayServeException
from ray.serve.handle import DeploymentHandle, DeploymentResponseGenerator
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from stemma.scale.ray.asked import Asked
from stemma.scale.ray.leaving import Door, Leaving
from stemma.scale.ray.reading import REPLICA_HEADER, Call, make_reader
from stemma.scale.ray.saying import Reply
from stemma.scale.spec import Spec
from stemma.server.application import dialect_of
from stemma.server.http.decoding import learn_types
from stemma.server.http.endpoint import before_the_end, read_body, request_id, until_gone
from stemma.server.http.errors import ApiError, ClientGone, unavailable

log = logging.getLogger("stemma.scale")
TRIES = 3
"""Replicas that may die of, or beside, one request before it is refused."""
LOOK_SECONDS = 0.25
"""How often it is looked whether a request has found a replica."""
REQUEST_ID = b"x-request-id"
TRAVELS = (
    "type",
    "asgi",
    "http_version",
    "method",
    "path",
    "raw_path",
    "query_string",
    "root_path",
    "scheme",
    "client",
)
"""What of ASGI's scope a replica is told as it is."""


class Entrance:
    """What Serve runs for those who come in by HTTP."""

    def __init__(self, replicas: DeploymentHandle, spec: Spec, prefill: DeploymentHandle | None = None) -> None:
        """prefill: those that compute prompts for the replicas. They are never called from here: the router of the
        replicas chooses one, and the replica asks it."""
        learn_types()
        if prefill is not None:
            prefill.options(stream=True, method_name="answer")  # from now on Serve tells who is there
        self._spec = spec
        self._reader = make_reader(spec)
        self._answer = replicas.options(stream=True, method_name="answer")
        self._door = Door()
        self._leaving = Leaving(self._door, [each for each in (self._answer, prefill) if each is not None])

    # What who ends the deployment asks ----------------------------------------------------------------
    async def leave(self, seconds: float) -> None:
        """See `Leaving.leave`."""
        await self._leaving.leave(seconds)

    async def hurry(self) -> None:
        """See `Leaving.hurry`."""
        self._leaving.hurry()

    # What clients ask ----------------------------------------------------------------

    def __serve_build_asgi_app__(self) -> ASGIApp:
        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            await self.application(scope, receive, send)

        return application  # a bound method is taken for ASGI's older form

    async def application(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The whole server, as ASGI has it."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        name = request_id(headers.get("x-request-id"))
        reply = Reply(send, dialect_of(Request(scope)), name)
        try:
            with self._door.enter():
                body = await before_the_end(read_body(headers, receive, self._most(scope["path"])), self._door.is_over)
                call = Call(scope["method"], scope["path"], headers, body)
                await until_gone(self._relay(_told(scope, name), call, reply), receive, self._door.is_over)
        except ClientGone:
            return
        except ApiError as error:
            await reply.refuse(error)

    def _most(self, path: str) -> int:
        """Bytes that a body may have."""
        server = self._spec.server
        return server.max_files_bytes if path.startswith("/v1/files") else server.max_body_bytes

    async def _relay(self, scope: dict[str, Any], call: Call, reply: Reply) -> None:
        """Have a replica answer, another one if that dies before it says anything. Raises ApiError."""
        for _ in range(TRIES):
            asked = await asyncio.to_thread(self._reader.read, call)
            try:
                async for messages in self._answers(scope, call.body, asked):
                    reply.replica = asked.chosen
                    for message in messages:
                        await reply.pass_on(message)
                return
            except RayActorError as error:
                log.warning("%s died while it answered %s: %s", asked.chosen, reply.request_id, type(error).__name__)
                if reply.has_said:
                    await reply.break_off(unavailable("the replica that answered is gone; ask again"))
                    return
            except (RayServeException, RayError) as error:
                if reply.has_said:
                    raise
                log.warning("%s was not answered", reply.request_id, exc_info=error)
                raise unavailable("no replica could answer; ask again") from error
        raise unavailable(f"{TRIES} replicas in turn were gone before they answered; ask again")

    async def _answers(self, scope: dict[str, Any], body: bytes, asked: Asked) -> AsyncIterator[list[dict[str, Any]]]:
        """What a replica says. Raises ApiError where none takes the request in time, and what Ray raises."""
        stream = self._answer.remote(scope, body, asked)
        try:
            first = asyncio.ensure_future(_next(stream))
            await self._routed(first, asked)
            messages = await first
            asked.begun()
            while messages is not None:
                yield messages
                messages = await _next(stream)
        finally:
            asked.begun()
            stream.cancel()

    async def _routed(self, first: asyncio.Future[Any], asked: Asked) -> None:
        """Wait until a request has been sent to a replica."""
        left = self._spec.scale.wait_seconds
        while not first.done():
            await asyncio.wait((first,), timeout=LOOK_SECONDS)
            left -= LOOK_SECONDS
            if first.done() or asked.chosen is not None:
                return
            if asked.is_refused or left <= 0:
                first.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await first
                if asked.is_refused:
                    raise ApiError(404, f"there is no replica {asked.to!r} now", param=REPLICA_HEADER)
                raise unavailable("no replica is there that could answer; ask again soon")


def _told(scope: Scope, name: str) -> dict[str, Any]:
    """What a replica is told of a request, by which all who answer it call it the same."""
    others = [pair for pair in scope["headers"] if pair[0] != REQUEST_ID]
    return {**{key: scope[key] for key in TRAVELS if key in scope}, "headers": [*others, (REQUEST_ID, name.encode())]}


async def _next(stream: DeploymentResponseGenerator[Any]) -> list[dict[str, Any]] | None:
    try:
        messages: list[dict[str, Any]] = await stream.__anext__()
        return messages
    except StopAsyncIteration:
        return None


async def _live(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return

"""A response with state: what it goes on from, and what is kept of it, so that an id that was told is found.

before the first event, or while a whole answer is made | before its last event, or the whole answer, is sent
the response, in progress, with its input               | what it came to, with its output
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stemma.runtime.engine import Generation
from stemma.server.generation.generations import completed
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import bad_request
from stemma.server.openai import kept
from stemma.server.openai.items import is_reference, kept_items
from stemma.server.openai.response_answer import ResponseAnswer
from stemma.server.openai.wire import ResponsesRequest, conversation_id
from stemma.server.store.records import Gone, NewObject, Value

LAST = ("response.completed", "response.incomplete", "response.failed")
RESTARTED = "the server was stopped before the answer was complete; ask again"


@dataclass(slots=True)
class Before:
    """What a response goes on from. last: the item in the store that it stands behind."""

    items: list[Value] = field(default_factory=list)
    last: int | None = None
    conversation: str | None = None


async def what_was_before(context: RequestContext[Service, Any], body: ResponsesRequest) -> Before:
    """The conversation so far, as `previous_response_id` or `conversation` name it; references in the input become
    what they stand for. Raises ApiError."""
    conversation = conversation_id(body)
    if conversation is not None and body.previous_response_id is not None:
        raise bad_request("give previous_response_id or conversation, not both", "previous_response_id")
    before = Before(conversation=conversation)
    if (name := conversation or body.previous_response_id) is not None:
        param = "conversation" if conversation else "previous_response_id"
        kind = "conversation" if conversation else "response"
        found, before.items = await kept.find_with_path(context, kind, name, param)
        if found.is_open:
            raise bad_request(f"the response {name!r} is not complete yet: wait for it", param, "response_in_progress")
        before.last = found.ends
    elif body.input is None:
        message = "input is missing: give it, or what to go on from by previous_response_id or conversation"
        raise bad_request(message, "input", "missing_required_parameter")
    if isinstance(body.input, list):
        body.input = await resolved(context, body.input, "input")
    return before


async def resolved(context: RequestContext[Service, Any], items: Sequence[Value], param: str) -> list[Value]:
    """Items, with what they refer to instead of references. Raises ApiError."""
    return [
        await _referred(context, value, f"{param}[{at}]") if is_reference(value) else value
        for at, value in enumerate(items)
    ]


async def _referred(context: RequestContext[Service, Any], value: Value, param: str) -> Value:
    name = value.get("id")
    if not isinstance(name, str):
        raise bad_request(f"{param}.id is the id of an item that is kept", f"{param}.id")
    store = kept.store_of(context.service, param, "send the item itself")
    found = await context.service.work(store.item, context.tenant.name, name)
    if found is None:
        raise bad_request(f"no item {name!r} is kept here: send the item itself", param, "not_found")
    return found


@dataclass(slots=True)
class Keeper:
    """Keeps one response, and tells its conversation of it. has_begun: whether it was told that there is one."""

    service: Service
    tenant: str
    before: Before
    body: ResponsesRequest
    _input: list[Value] = field(default_factory=list)
    _name: str = ""
    has_begun: bool = False
    _has_ended: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def does_nothing(self) -> bool:
        """Whether nothing is kept of this response."""
        return not self.body.store and self.before.conversation is None

    async def begin(self, response: Value) -> None:
        """The response is under way; cancelled, if its caller leaves meanwhile. Raises ApiError if what it goes on from
        was deleted."""
        self.has_begun = True
        self._input = kept_items(self.body.input or [])
        if self.body.store:
            try:
                await self.service.work(self._begin, response)
            except Gone:
                param = "conversation" if self.before.conversation else "previous_response_id"
                name = self.before.conversation or self.body.previous_response_id or ""
                kept.not_there(self.service.config, param.removeprefix("previous_").removesuffix("_id"), name, param)
            except asyncio.CancelledError:
                self.end_now({**response, "status": "cancelled"})
                raise

    def _begin(self, response: Value) -> None:
        self._name = response["id"]
        new = NewObject(
            "response", self._name, response["created_at"], response, expires=kept.expiry(self.service.config),
            is_open=True, after=self.before.last, items=self._input,
        )  # fmt: skip
        with self._lock:
            if not self._has_ended:
                kept.store_of(self.service).add(self.tenant, new)

    async def end(self, response: Value, events: Sequence[Value] = ()) -> None:
        """The response is what it is. events: how it came, for those who will ask."""
        await self.service.work(self.end_now, response, events)

    def end_now(self, response: Value, events: Sequence[Value] = ()) -> None:
        """The same, in this thread. What ends a second time has ended."""
        with self._lock:
            if not self._has_ended:
                self._has_ended = True
                self._end(response, [msgspec.json.encode(events)] if events else [])

    def _end(self, response: Value, log: list[bytes]) -> None:
        store, output = kept.store_of(self.service), response["output"]
        last: int | None = None
        if self.body.store:
            value = {**response, "output": []}
            done = store.finish(self.tenant, "response", self._name, value, output, log)
            last = None if done is None else done.ends
        if self.before.conversation is not None and response["status"] in ("completed", "incomplete"):
            items = [*self._input, *output]
            name, after = self.before.conversation, self.before.last
            store.append(self.tenant, "conversation", name, items, after=after, last=last)


async def kept_events(keeper: Keeper, answer: ResponseAnswer, events: AsyncGenerator[Value]) -> AsyncGenerator[Value]:
    """An answer's events, none of which tells of what is not kept."""
    log: list[Value] = []
    try:
        async with aclosing(events):
            async for event in events:
                if keeper.body.background:
                    log.append(event)
                if not keeper.has_begun:
                    await keeper.begin(event["response"])
                if event["type"] in LAST:
                    await keeper.end(event["response"], log)
                yield event
    except (asyncio.CancelledError, GeneratorExit):
        keeper.end_now(answer.cut_off("cancelled"), log)
        raise
    except Exception as error:
        keeper.end_now(answer.cut_off("failed", error), log)
        raise


async def kept_whole(keeper: Keeper, answer: ResponseAnswer, generations: Sequence[Generation]) -> Value:
    """The whole answer, when it is kept."""
    try:
        await keeper.begin(answer.cut_off("in_progress"))
        made = answer.whole(await completed(generations))
        await keeper.end(made)
    except asyncio.CancelledError:
        keeper.end_now(answer.cut_off("cancelled"))
        raise
    except Exception as error:
        keeper.end_now(answer.cut_off("failed", error))
        raise
    return made


def end_those_left(service: Service) -> None:
    """Responses that were under way when the last server on this store ended have failed."""
    if service.store is None:
        return
    failure = {"code": "server_error", "message": RESTARTED}
    for tenant, left in service.store.left_open("response"):
        service.store.finish(tenant, "response", left.id, {**left.value, "status": "failed", "error": failure}, [])

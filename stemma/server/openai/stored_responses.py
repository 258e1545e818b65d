"""Responses that are kept: looked at, followed while they run, cancelled, deleted, and what they went on from."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec
from starlette.responses import Response

from stemma.server.generation.chats import chat_prompt
from stemma.server.generation.generations import errors_of_prompt_named
from stemma.server.generation.runs import Run
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import ApiError, bad_request
from stemma.server.http.replies import EventReply, json_reply
from stemma.server.openai import kept
from stemma.server.openai.keeping import what_was_before
from stemma.server.openai.replay import events_of
from stemma.server.openai.response_input import as_chat
from stemma.server.openai.truncation import shortened
from stemma.server.openai.wire import CompactRequest, InputTokensRequest
from stemma.server.outputs.constraints import tool_use
from stemma.server.store.records import Kept, Value


async def retrieve(context: RequestContext[Service, None]) -> Response:
    """GET /v1/responses/{response_id}; with `stream=true` its events, those after `starting_after`."""
    query, name = context.request.query_params, context.request.path_params["response_id"]
    after = kept.number_of(query.get("starting_after"), "starting_after", -1)
    run = context.service.runs.find(context.tenant.name, name)
    if query.get("stream") != "true":
        return json_reply(await whole(context, name, run))
    if run is not None:
        return _events(context, run.follow(after), name)
    found = await kept.find(context, "response", name)
    if found.is_open:
        raise bad_request(f"{name!r} is streamed to who asked for it: ask for it when it is complete", "stream")
    log = await context.service.work(_log, context.service, found)
    told = log or events_of(await whole(context, name, None))
    return _events(context, _told([event for event in told if event["sequence_number"] > after]), name)


def _log(service: Service, found: Kept) -> list[Value]:
    """The events of a response as they came, if they are kept."""
    data = b"".join(kept.store_of(service).contents(found))
    return msgspec.json.decode(data) if data else []


async def _told(events: Sequence[Value]) -> AsyncGenerator[Value]:
    for event in events:
        yield event


def _events(context: RequestContext[Service, Any], events: AsyncGenerator[Value], name: str) -> Response:
    return EventReply(context.dialect.events(events, name), context.service.config)


async def whole(context: RequestContext[Service, Any], name: str, run: Run | None) -> Value:
    """A response as it stands. Raises ApiError (404)."""
    found = await kept.find(context, "response", name)
    if run is not None and run.events and found.is_open:
        latest = next((event for event in reversed(run.events) if "response" in event), None)
        return found.value if latest is None else latest["response"]
    output = await context.service.work(kept.store_of(context.service).path, found.ends, found.begins)
    return {**found.value, "output": output}


async def cancel(context: RequestContext[Service, None]) -> Response:
    """POST /v1/responses/{response_id}/cancel: one in the background ends now; one that has ended is as it is."""
    name = context.request.path_params["response_id"]
    found = await kept.find(context, "response", name)
    if not found.value.get("background"):
        raise bad_request(f"{name!r} is no answer in the background: to end one that is streamed, leave it", None)
    run = context.service.runs.find(context.tenant.name, name)
    if run is not None:
        await run.cancel()
    return json_reply(await whole(context, name, None))


async def delete(context: RequestContext[Service, None]) -> Response:
    """DELETE /v1/responses/{response_id}: one that is under way ends. What goes on from it keeps what it needs."""
    name = context.request.path_params["response_id"]
    await kept.find(context, "response", name)
    run = context.service.runs.find(context.tenant.name, name)
    if run is not None:
        await run.cancel()
    return await kept.delete(context, "response", name, "response")


async def input_items(context: RequestContext[Service, None]) -> Response:
    """GET /v1/responses/{response_id}/input_items: all that the model was shown, what was before included."""
    place = kept.place_of(context)
    found = await kept.find(context, "response", context.request.path_params["response_id"])
    items = await context.service.work(kept.store_of(context.service).path, found.begins)
    return json_reply(kept.page_of(items, place))


async def input_tokens(context: RequestContext[Service, InputTokensRequest]) -> Response:
    """POST /v1/responses/input_tokens: how long the prompt of such a response would be."""
    service, body = context.service, context.body
    before = await what_was_before(context, body)
    chat = as_chat(body, context.reader, before.items)
    namespace = context.tenant.namespace(body.cache_salt)
    service.check_model(body.model)
    if body.truncation == "auto":
        chat = await service.work(shortened, service, chat)
    with errors_of_prompt_named("input"):
        prompt = await service.work(chat_prompt, service, chat, tool_use(chat), namespace)
    return json_reply({"object": "response.input_tokens", "input_tokens": len(prompt.tokens)})


async def compact(context: RequestContext[Service, CompactRequest]) -> Response:
    """POST /v1/responses/compact: refused, and why that costs nothing."""
    message = (
        "conversations are not compacted here: go on by previous_response_id or conversation, where what was before is "
        "cached; if one becomes too long, set truncation to auto, or send a summary of yours in input"
    )
    raise ApiError(400, message, code="unsupported_operation")

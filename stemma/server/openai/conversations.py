"""/v1/conversations: lists of items that responses go on from, and that grow by what those are given and say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from stemma.server.generation.reporting import new_id, now
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import ApiError
from stemma.server.http.replies import json_reply
from stemma.server.openai import kept
from stemma.server.openai.items import kept_items
from stemma.server.openai.keeping import resolved
from stemma.server.openai.response_input import checked_items
from stemma.server.openai.wire import ConversationRequest, ItemsRequest, MetadataRequest
from stemma.server.store.records import Kept, NewObject, Value

KIND = "conversation"


async def create(context: RequestContext[Service, ConversationRequest]) -> Response:
    """POST /v1/conversations."""
    body, store = context.body, kept.store_of(context.service)
    value: Value = {
        "id": new_id("conv_") + context.service.kept_by, "object": KIND, "created_at": now(),
        "metadata": kept.checked_metadata(body.metadata),
    }  # fmt: skip
    items = await _checked(context, body.items or [])
    new = NewObject(KIND, value["id"], value["created_at"], value, items=items)
    await context.service.work(store.add, context.tenant.name, new)
    return json_reply(value)


async def retrieve(context: RequestContext[Service, None]) -> Response:
    """GET /v1/conversations/{conversation_id}."""
    return json_reply((await _find(context)).value)


async def update(context: RequestContext[Service, MetadataRequest]) -> Response:
    """POST /v1/conversations/{conversation_id}: its metadata."""
    return await kept.set_metadata(context, KIND, _name(context), context.body.metadata)


async def delete(context: RequestContext[Service, None]) -> Response:
    """DELETE /v1/conversations/{conversation_id}; responses in it stay."""
    return await kept.delete(context, KIND, _name(context), "conversation.deleted")


async def items(context: RequestContext[Service, None]) -> Response:
    """GET /v1/conversations/{conversation_id}/items."""
    place = kept.place_of(context)
    return json_reply(kept.page_of((await _with_items(context))[1], place))


async def add_items(context: RequestContext[Service, ItemsRequest]) -> Response:
    """POST /v1/conversations/{conversation_id}/items: more of them at its end."""
    found, before = await _with_items(context)
    there = {item["id"] for item in before}
    added = await _checked(context, context.body.items)
    for item in added:
        if item["id"] in there:  # ids are told apart within a conversation
            item["id"] = new_id(f"{item['id'].partition('_')[0]}_")
        there.add(item["id"])
    store = kept.store_of(context.service)
    done = await context.service.work(
        store.append, context.tenant.name, KIND, found.id, added, after=None, last=None
    )  # fmt: skip
    if done is None:  # deleted meanwhile
        kept.not_there(context.service.config, KIND, found.id)
    return json_reply(kept.page(added, has_more=False))


async def item(context: RequestContext[Service, None]) -> Response:
    """GET /v1/conversations/{conversation_id}/items/{item_id}."""
    name = context.request.path_params["item_id"]
    found = next((one for one in (await _with_items(context))[1] if one["id"] == name), None)
    if found is None:
        raise _no_item(context)
    return json_reply(found)


async def delete_item(context: RequestContext[Service, None]) -> Response:
    """DELETE /v1/conversations/{conversation_id}/items/{item_id}: the conversation without it."""
    found, name = await _find(context), context.request.path_params["item_id"]
    store = kept.store_of(context.service)
    done = await context.service.work(store.cut_out, context.tenant.name, KIND, found.id, name)
    if done is None:
        raise _no_item(context)
    return json_reply(done.value)


async def _find(context: RequestContext[Service, Any]) -> Kept:
    return await kept.find(context, KIND, _name(context))


def _name(context: RequestContext[Service, Any]) -> str:
    name: str = context.request.path_params["conversation_id"]
    return name


async def _with_items(context: RequestContext[Service, Any]) -> tuple[Kept, list[Value]]:
    return await kept.find_with_path(context, KIND, _name(context))


async def _checked(context: RequestContext[Service, Any], given: Sequence[Value]) -> list[Value]:
    """Items that can be kept: those that a response takes. Raises ApiError."""
    values = await resolved(context, given, "items")
    checked_items(values, "items", context.reader)
    return kept_items(values)


def _no_item(context: RequestContext[Service, Any]) -> ApiError:
    params = context.request.path_params
    message = f"there is no item {params['item_id']!r} in conversation {params['conversation_id']!r}"
    return ApiError(404, message, code="not_found")

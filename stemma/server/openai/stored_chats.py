"""Chat completions that are kept (`store: true`): listed, looked at with their messages, changed, deleted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.replies import json_reply
from stemma.server.openai import kept
from stemma.server.openai.wire import MetadataRequest
from stemma.server.prompts.tool_text import message_values
from stemma.server.store.records import NewObject, Value
from stemma.server.wire.chat import ChatRequest

KIND = "chat.completion"


@dataclass(frozen=True, slots=True)
class ChatKeeper:
    """Keeps one completion. metadata: what is noted about it."""

    service: Service
    tenant: str
    body: ChatRequest
    metadata: dict[str, str]

    async def keep(self, answer: Value) -> None:
        """Keep a whole answer, with the messages that it was asked by."""
        name = answer["id"]
        messages = [{"id": f"{name}-{at}", **value} for at, value in enumerate(message_values(self.body.messages))]
        value = {**answer, "metadata": self.metadata}
        expires = kept.expiry(self.service.config)
        new = NewObject(KIND, name, answer["created"], value, expires=expires, items=messages)
        await self.service.work(kept.store_of(self.service).add, self.tenant, new)


def keeper_of(context: RequestContext[Service, ChatRequest]) -> ChatKeeper | None:
    """Who keeps the answer, if the request asks for that. Raises ApiError."""
    body, service = context.body, context.service
    if not body.store:
        return None
    if service.store is None:
        context.reader.unused["store"] = None
        return None
    return ChatKeeper(service, context.tenant.name, body, kept.checked_metadata(body.metadata))


async def listed(context: RequestContext[Service, None]) -> Response:
    """GET /v1/chat/completions: those that are kept, of one `model`, with `metadata[KEY]=VALUE`."""
    store, query = kept.store_of(context.service), context.request.query_params
    wanted = {name[9:-1]: text for name, text in query.items() if name.startswith("metadata[") and name[-1] == "]"}
    model = query.get("model")

    def matches(value: Value) -> bool:
        noted = value["metadata"]
        return model in (None, "", value["model"]) and all(noted.get(key) == text for key, text in wanted.items())

    place = kept.place_of(context, order="asc")
    found = await context.service.work(store.page, context.tenant.name, KIND, place, matches)
    return json_reply(kept.page([one.value for one in found.objects], has_more=found.has_more))


async def retrieve(context: RequestContext[Service, None]) -> Response:
    """GET /v1/chat/completions/{completion_id}."""
    return json_reply((await kept.find(context, KIND, _name(context))).value)


async def messages(context: RequestContext[Service, None]) -> Response:
    """GET /v1/chat/completions/{completion_id}/messages: those that it was asked by."""
    place = kept.place_of(context, order="asc")
    _, items = await kept.find_with_path(context, KIND, _name(context))
    return json_reply(kept.page_of(items, place))


async def update(context: RequestContext[Service, MetadataRequest]) -> Response:
    """POST /v1/chat/completions/{completion_id}: its metadata."""
    return await kept.set_metadata(context, KIND, _name(context), context.body.metadata)


async def delete(context: RequestContext[Service, None]) -> Response:
    """DELETE /v1/chat/completions/{completion_id}."""
    return await kept.delete(context, KIND, _name(context), "chat.completion.deleted")


def _name(context: RequestContext[Service, Any]) -> str:
    name: str = context.request.path_params["completion_id"]
    return name

"""What OpenAI's API keeps for its callers: where it is, what is said when it is not there, and lists of it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from starlette.responses import Response

from stemma.server.config import ServerConfig
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import ApiError, bad_request
from stemma.server.http.replies import json_reply
from stemma.server.store.records import Kept, Place, Value
from stemma.server.store.store import Store

DAY_SECONDS = 86_400
NOT_KEPT = "this server keeps no state (--no-keep-state)"
INSTEAD = {
    "response": "send the conversation in input",
    "conversation": "make a new one, or send its items in input",
    "file": "upload it again",
    "batch": "make it again",
    "chat.completion": "ask again",
}
T = TypeVar("T")


def store_of(service: Service, param: str | None = None, instead: str = "start it without") -> Store:
    """Raises ApiError where nothing is kept."""
    if service.store is None:
        raise bad_request(f"{NOT_KEPT}: {instead}", param, "state_not_kept")
    return service.store


async def find(context: RequestContext[Service, Any], kind: str, name: str, param: str | None = None) -> Kept:
    """The caller's own object of this id. Raises ApiError (404; 400 where it is a field of the request)."""
    store = store_of(context.service, param)
    found = await context.service.work(store.get, context.tenant.name, kind, name)
    return found if found is not None else not_there(context.service.config, kind, name, param)


async def find_with_path(
    context: RequestContext[Service, Any], kind: str, name: str, param: str | None = None
) -> tuple[Kept, list[Value]]:
    """The same, with the items of its path as they are at that moment."""
    store = store_of(context.service, param)
    found = await context.service.work(store.with_path, context.tenant.name, kind, name)
    return found if found is not None else not_there(context.service.config, kind, name, param)


async def delete(context: RequestContext[Service, Any], kind: str, name: str, told: str) -> Response:
    """Delete the caller's object of this id. told: what the answer calls it. Raises ApiError (404)."""
    store = store_of(context.service)
    if not await context.service.work(store.delete, context.tenant.name, kind, name):
        not_there(context.service.config, kind, name)
    return json_reply({"id": name, "object": told, "deleted": True})


async def set_metadata(
    context: RequestContext[Service, Any], kind: str, name: str, metadata: Mapping[str, Any] | None
) -> Response:
    """Note something else about the caller's object of this id. Raises ApiError (400, 404)."""
    noted, store = checked_metadata(metadata), store_of(context.service)
    changed = await context.service.work(
        store.change, context.tenant.name, kind, name, lambda value: {**value, "metadata": noted}
    )
    return json_reply((changed if changed is not None else not_there(context.service.config, kind, name)).value)


def not_there(config: ServerConfig, kind: str, name: str, param: str | None = None) -> NoReturn:
    """Raises ApiError: why an object may not be there, and what to do instead."""
    reasons = ["it was deleted", "another key has it"]
    if kind in ("response", "chat.completion"):
        reasons += ["it was never stored (store: false)", f"it is older than {config.state_days:g} days"]
    if kind in ("file", "batch"):
        reasons.append("it has expired")
    else:
        reasons.append("newer ones took its place (max_state_objects, max_state_bytes)")
    if config.cache_folder is None:
        reasons.append("the server was started again, and without --cache-folder it forgets")
    what = {"chat.completion": "stored chat completion"}.get(kind, kind)
    why = "; or ".join(reasons)
    message = f"there is no {what} {name!r} here: {why}; {INSTEAD[kind]}"
    code = "previous_response_not_found" if param == "previous_response_id" else "not_found"
    raise ApiError(400 if param == "previous_response_id" else 404, message, param=param, code=code)


def expiry(config: ServerConfig) -> int:
    """When an answer that is kept now goes, as Unix time."""
    return int(time.time() + config.state_days * DAY_SECONDS)


# Lists ---------------------------------------------------------------------------------------------------------------
def place_of(
    context: RequestContext[Service, Any], *, most: int = 100, default: int = 20, order: str = "desc"
) -> Place:
    """Which part of a list a request's query asks for. Raises ApiError."""
    query = context.request.query_params
    limit = number_of(query.get("limit"), "limit", default)
    if not 1 <= limit <= most:
        raise bad_request(f"limit is from 1 to {most}; it is {limit}", "limit")
    order = query.get("order") or order
    if order not in ("asc", "desc"):
        raise bad_request("order is asc or desc", "order")
    return Place(query.get("after") or None, limit, order == "desc")


def number_of(text: str | None, param: str, default: int) -> int:
    """A whole number in a query. Raises ApiError."""
    if text is None or text == "":
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise bad_request(f"{param} is a whole number; it is {text[:20]!r}", param)
    return int(text)


def page(values: Sequence[Value], *, has_more: bool) -> Value:
    """A part of a list, as OpenAI has it."""
    ids = [value["id"] for value in values]
    first, last = (ids[0], ids[-1]) if ids else ("", "")
    return {"object": "list", "data": list(values), "first_id": first, "last_id": last, "has_more": has_more}


def page_of(values: Sequence[Value], place: Place) -> Value:
    """A part of a list that is at hand whole, in ascending order. After one that is not there, there is nothing."""
    ordered = list(reversed(values)) if place.is_descending else list(values)
    if place.after is not None:
        at = next((at for at, value in enumerate(ordered) if value["id"] == place.after), len(ordered))
        ordered = ordered[at + 1 :]
    return page(ordered[: place.limit], has_more=len(ordered) > place.limit)


# Metadata ------------------------------------------------------------------------------------------------------------
MAX_PAIRS, MAX_KEY, MAX_TEXT = 16, 64, 512


def checked_metadata(metadata: Mapping[str, Any] | None) -> dict[str, str]:
    """Raises ApiError for more than OpenAI takes."""
    made = dict(metadata or {})
    if len(made) > MAX_PAIRS:
        raise bad_request(f"metadata has at most {MAX_PAIRS} pairs; this has {len(made)}", "metadata")
    for key, text in made.items():
        if not isinstance(text, str) or len(key) > MAX_KEY or len(text) > MAX_TEXT:
            message = (
                f"metadata has keys of at most {MAX_KEY} characters, and texts of at most {MAX_TEXT}: "
                f"see {key[:MAX_KEY]!r}"
            )
            raise bad_request(message, "metadata")
    return made

"""/v1/files: uploads, and what batches write; a tenant's own, within its room, some with an end."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Scope

from stemma.server.batches.wire import HOUR, MONTH
from stemma.server.generation.reporting import new_id, now
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import bad_request
from stemma.server.http.replies import json_reply
from stemma.server.openai import kept
from stemma.server.store.records import NewObject, Value

KIND = "file"
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")
PIECE = 1 << 20
MAX_NAME = 255


async def upload(context: RequestContext[Service, bytes]) -> Response:
    """POST /v1/files."""
    store = kept.store_of(context.service)
    new = await context.service.work(lambda: asyncio.run(_uploaded(context.request.scope, context.body)))
    await context.service.work(store.add, context.tenant.name, new)
    return json_reply(new.value)


async def _uploaded(scope: Scope, body: bytes) -> NewObject:
    """The file of a form. Runs on a loop of its own: a long form takes seconds to read. Raises ApiError."""
    form = await _form(scope, body)
    file, purpose = form.get("file"), form.get("purpose")
    if not isinstance(file, UploadFile):
        raise bad_request("file is missing: send the form as multipart/form-data", "file", "missing_required_parameter")
    if purpose not in PURPOSES:
        raise bad_request(f"purpose is one of {', '.join(PURPOSES)}", "purpose", "invalid_value")
    data = await file.read()
    seconds = _seconds(form, MONTH if purpose == "batch" else None)
    return file_object(new_id("file-"), file.filename or "file", str(purpose), data, seconds)


async def _form(scope: Scope, body: bytes) -> FormData:
    """The fields of the form. Raises ApiError."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        return await Request(scope, receive).form(max_files=1, max_fields=16)
    except (MultiPartException, HTTPException, UnicodeDecodeError) as error:
        told = error.message if isinstance(error, MultiPartException) else str(error)
        raise bad_request(f"the body is no form: {told}", None) from error


def _seconds(form: FormData, default: int | None) -> int | None:
    """How long a file is to be kept. Raises ApiError."""
    given, anchor = form.get("expires_after[seconds]"), form.get("expires_after[anchor]", "created_at")
    if given is None:
        return default
    seconds = kept.number_of(str(given), "expires_after[seconds]", 0)
    if not HOUR <= seconds <= MONTH or anchor != "created_at":
        message = f"expires_after has the anchor created_at, and seconds from {HOUR} to {MONTH}"
        raise bad_request(message, "expires_after")
    return seconds


def file_object(name: str, filename: str, purpose: str, data: bytes, seconds: int | None) -> NewObject:
    """A file to keep. seconds: how long; None for as long as it is not deleted."""
    created = now()
    expires = None if seconds is None else created + seconds
    value: Value = {
        "id": name, "object": KIND, "bytes": len(data), "created_at": created, "expires_at": expires,
        "filename": filename[:MAX_NAME], "purpose": purpose, "status": "processed", "status_details": None,
    }  # fmt: skip
    pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
    return NewObject(KIND, name, created, value, expires=expires, contents=pieces)


async def listed(context: RequestContext[Service, None]) -> Response:
    """GET /v1/files."""
    store, purpose = kept.store_of(context.service), context.request.query_params.get("purpose")
    place = kept.place_of(context, most=10_000, default=10_000)

    def matches(value: Value) -> bool:
        return purpose in (None, "", value["purpose"])

    found = await context.service.work(store.page, context.tenant.name, KIND, place, matches)
    return json_reply(kept.page([one.value for one in found.objects], has_more=found.has_more))


async def retrieve(context: RequestContext[Service, None]) -> Response:
    """GET /v1/files/{file_id}."""
    return json_reply((await kept.find(context, KIND, context.request.path_params["file_id"])).value)


async def content(context: RequestContext[Service, None]) -> Response:
    """GET /v1/files/{file_id}/content."""
    data = await content_of(context, context.request.path_params["file_id"])
    return Response(data, media_type="application/octet-stream", headers={"content-disposition": "attachment"})


async def content_of(context: RequestContext[Service, Any], name: str) -> bytes:
    """A file's bytes. Raises ApiError (404)."""
    found = await kept.find(context, KIND, name)
    store = kept.store_of(context.service)
    return await context.service.work(lambda: b"".join(store.contents(found)))


async def delete(context: RequestContext[Service, None]) -> Response:
    """DELETE /v1/files/{file_id}."""
    return await kept.delete(context, KIND, context.request.path_params["file_id"], KIND)

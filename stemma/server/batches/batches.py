"""/v1/batches: made, looked at, listed, cancelled."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from stemma.server.batches.runner import KIND, BatchRunner, new_batch
from stemma.server.batches.wire import BatchRequest
from stemma.server.generation.reporting import new_id, now
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import ApiError, bad_request
from stemma.server.http.replies import json_reply
from stemma.server.openai import kept
from stemma.server.store.records import Kept, NewObject, Value

SECONDS = {"m": 60, "h": 3600, "d": 86_400}
OPEN = ("validating", "in_progress", "cancelling")


class BatchApi:
    """The endpoints, for which batches are under way."""

    def __init__(self, runner: BatchRunner) -> None:
        self._runner = runner

    async def create(self, context: RequestContext[Service, BatchRequest]) -> Response:
        """POST /v1/batches."""
        body, store = context.body, kept.store_of(context.service)
        if body.endpoint not in self._runner.endpoints:
            there = ", ".join(self._runner.endpoints)
            raise bad_request(f"endpoint is one of {there}; it is {body.endpoint[:80]!r}", "endpoint", "invalid_value")
        file = await kept.find(context, "file", body.input_file_id, "input_file_id")
        if file.value["purpose"] != "batch":
            raise bad_request("the input file is one that was uploaded with purpose=batch", "input_file_id")
        window = body.completion_window
        value = new_batch(new_id("batch_"), body, int(window[:-1]) * SECONDS[window[-1]])
        new = NewObject(KIND, value["id"], value["created_at"], value, is_open=True)
        await context.service.work(store.add, context.tenant.name, new)
        self._runner.work_on(context.tenant.name, value["id"])
        return json_reply(_shown(value))

    async def retrieve(self, context: RequestContext[Service, None]) -> Response:
        """GET /v1/batches/{batch_id}."""
        return json_reply(_shown((await _find(context)).value))

    async def listed(self, context: RequestContext[Service, None]) -> Response:
        """GET /v1/batches."""
        store = kept.store_of(context.service)
        found = await context.service.work(store.page, context.tenant.name, KIND, kept.place_of(context))
        return json_reply(kept.page([_shown(one.value) for one in found.objects], has_more=found.has_more))

    async def cancel(self, context: RequestContext[Service, None]) -> Response:
        """POST /v1/batches/{batch_id}/cancel: no line more is answered; what was answered is in its files soon."""
        found, store = await _find(context), kept.store_of(context.service)
        if found.value["status"] not in OPEN:
            message = f"a batch that is {found.value['status']} cannot be cancelled"
            raise ApiError(409, message, code="batch_not_cancellable")

        def cancelled(value: Value) -> Value:
            if value["status"] not in ("validating", "in_progress"):
                return value
            return {**value, "status": "cancelling", "cancelling_at": now()}

        changed = await context.service.work(store.change, context.tenant.name, KIND, found.id, cancelled)
        self._runner.cancel(context.tenant.name, found.id)
        return json_reply(_shown(found.value if changed is None else changed.value))


async def _find(context: RequestContext[Service, Any]) -> Kept:
    return await kept.find(context, KIND, context.request.path_params["batch_id"])


def _shown(value: Value) -> Value:
    return {name: field for name, field in value.items() if name != "output_expires_after"}

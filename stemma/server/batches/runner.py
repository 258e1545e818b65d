"""Answers the batches that are open: a few lines at once, behind live requests, each line's answer kept as it comes.

validating -> in_progress -> finalizing -> completed
     |             |  cancelling -> cancelled, expired: what was answered is kept, the rest says why it was not
     +-> failed    +-- the server ends: what was answered is kept, and the next server goes on with the rest
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from stemma.server.batches.files import file_object
from stemma.server.batches.lines import (
    DONE,
    LOWEST,
    NO_USAGE,
    Line,
    answered,
    in_order,
    lines_of,
    not_answered,
    with_usage,
)
from stemma.server.batches.wire import MONTH
from stemma.server.generation.reporting import now
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import Endpoint
from stemma.server.http.inside import Answered, ask_inside
from stemma.server.http.keys import Tenant
from stemma.server.openai import kept
from stemma.server.store.records import Kept, Value

KIND = "batch"
LATER = (429, 503)
LATER_SECONDS = 0.5
WHY = {"cancelled": "the batch was cancelled before this line was answered", "expired": "the batch's time was over"}

log = logging.getLogger("stemma.server")


class BatchRunner:
    """The batches that are under way. Used on the event loop alone."""

    def __init__(self, service: Service, endpoints: Mapping[str, Endpoint]) -> None:
        self.endpoints = endpoints
        self._service = service
        self._slots = asyncio.Semaphore(service.config.batch_lines)
        self._at_work: dict[tuple[str, str], OneBatch] = {}

    def resume(self) -> None:
        """Go on with every batch that is open, wherever it was."""
        if self._service.store is not None:
            for tenant, found in self._service.store.left_open(KIND):
                self.work_on(tenant, found.id)

    def work_on(self, tenant: str, name: str) -> None:
        """Have a batch answered, if it is not yet."""
        if (tenant, name) in self._at_work or self._service.stopping.is_set():
            return
        one = OneBatch(self._service, self.endpoints, tenant, name, self._slots)
        self._at_work[tenant, name] = one
        task = self._service.runs.keep(asyncio.create_task(one.run()))
        task.add_done_callback(lambda _: self._at_work.pop((tenant, name), None))

    def cancel(self, tenant: str, name: str) -> None:
        """Let go of the lines of a batch that are under way."""
        self.work_on(tenant, name)
        if (tenant, name) in self._at_work:
            self._at_work[tenant, name].cancel()


class OneBatch:
    """One of them."""

    def __init__(
        self, service: Service, endpoints: Mapping[str, Endpoint], tenant: str, name: str, slots: asyncio.Semaphore
    ) -> None:
        self._service = service
        self._store = kept.store_of(service)
        self._endpoints = endpoints
        self._tenant = tenant
        self._name = name
        self._slots = slots
        self._cancelled = asyncio.Event()
        self._asking: set[asyncio.Task[None]] = set()
        self._error: BaseException | None = None

    def cancel(self) -> None:
        """Ask no more, and do not wait for those that were asked."""
        self._cancelled.set()
        for task in self._asking:
            task.cancel()

    async def run(self) -> None:
        """From where it is to its end, or the server's."""
        try:
            found = await self._found()
            if found is not None:
                await self._work(found)
        except Exception:
            log.exception("the batch %r failed", self._name)
            failure = {"code": "server_error", "message": "the server failed; its log says why"}
            await self._fail(failure)

    async def _found(self) -> Kept | None:
        return await self._service.work(self._store.get, self._tenant, KIND, self._name)

    async def _change(self, **fields: Any) -> None:
        await self._service.work(self._store.change, self._tenant, KIND, self._name, lambda value: {**value, **fields})

    async def _work(self, found: Kept) -> None:
        if found.value["status"] == "cancelling":
            self._cancelled.set()
        file = await self._service.work(self._store.get, self._tenant, "file", found.value["input_file_id"])
        if file is None:
            failure = {"code": "input_file_deleted", "message": "its input file is not there any more"}
            await self._fail(failure, await self._service.work(self._files, found))
            return
        data = await self._service.work(lambda: b"".join(self._store.contents(file)))
        lines = await self._service.work(lines_of, data, found.value["endpoint"])
        if not lines:
            await self._fail({"code": "empty_file", "message": "its input file has no lines"})
            return
        counts = {**found.value["request_counts"], "total": len(lines)}
        if found.value["status"] == "validating":
            await self._change(status="in_progress", in_progress_at=now(), request_counts=counts)
        done = set(await self._service.work(self._store.places, found))
        await self._ask_all([line for line in in_order(lines) if line.place not in done], found.value["expires_at"])
        if not self._service.stopping.is_set():
            await self._finish(lines)

    # Lines -----------------------------------------------------------------------------------------------------------
    async def _ask_all(self, lines: Sequence[Line], deadline: int) -> None:
        try:
            for line in lines:
                await self._slots.acquire()
                if self._is_over or time.time() >= deadline:
                    self._slots.release()
                    break
                task = asyncio.create_task(self._ask(line))
                self._asking.add(task)
                task.add_done_callback(self._ended)
        finally:
            await asyncio.gather(*self._asking, return_exceptions=True)
        if self._error is not None:
            raise self._error

    @property
    def _is_over(self) -> bool:
        return self._error is not None or self._cancelled.is_set() or self._service.stopping.is_set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._asking.discard(task)
        self._slots.release()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._error = error

    async def _ask(self, line: Line) -> None:
        if line.wrong is not None:
            await self._write(line, not_answered(line, line.wrong.code or "", line.wrong.message), None)
            return
        if self._store.is_full(self._tenant):
            message = "there is no more room for answers: delete some files, and make the batch again"
            await self._write(line, not_answered(line, "no_room", message), None)
            return
        answer = await self._answer(line)
        if answer is not None:
            await self._write(line, answered(line, answer), answer)

    async def _answer(self, line: Line) -> Answered | None:
        """Ask until there is room for it; None if the server's, or the batch's, time is over before that."""
        batch = await self._found()
        assert batch is not None
        tenant = Tenant(self._tenant, is_admin=False)
        endpoint = self._endpoints[batch.value["endpoint"]]
        while True:
            answer = await ask_inside(endpoint, self._service, tenant, {**(line.body or {}), "priority": LOWEST})
            if answer.status not in LATER:
                return answer
            if self._service.stopping.is_set() or time.time() >= batch.value["expires_at"]:
                return None
            await asyncio.sleep(LATER_SECONDS)

    async def _write(self, line: Line, data: bytes, answer: Answered | None) -> None:
        put = self._store.put_content
        await self._service.work(
            put, self._tenant, KIND, self._name, line.place, data, lambda value: with_usage(value, answer)
        )

    # The end ---------------------------------------------------------------------------------------------------------
    async def _fail(self, error: Value, files: Value | None = None) -> None:
        errors = {"object": "list", "data": [{"line": None, "param": None, **error}]}
        await self._close("failed", {"errors": errors, **(files or {})})

    async def _close(self, status: str, fields: Value) -> None:
        moment = now()

        def closed(value: Value) -> Value:
            return {**value, **fields, "status": status, f"{status}_at": moment}

        await self._service.work(
            self._store.change, self._tenant, KIND, self._name, closed, is_open=False,
            expires=moment + MONTH, without_contents=True,
        )  # fmt: skip

    async def _finish(self, lines: Sequence[Line]) -> None:
        """Write what came of it into files. A server that ends here begins here again."""
        found = await self._found()
        if found is None:
            return
        done = set(await self._service.work(self._store.places, found))
        left = [line for line in lines if line.place not in done]
        status = "completed" if not left else "cancelled" if self._cancelled.is_set() else "expired"
        for line in left:
            await self._write(line, not_answered(line, f"batch_{status}", WHY[status]), None)
        if status == "completed" and self._cancelled.is_set():
            status = "cancelled"
        elif status == "completed":
            await self._change(status="finalizing", finalizing_at=now())
        files = await self._service.work(self._files, found)
        await self._close(status, files)

    def _files(self, found: Kept) -> Value:
        """The two files, those that have a line; their ids follow from the batch's, so that each is made once."""
        texts: dict[str, list[bytes]] = {"output_file_id": [], "error_file_id": []}
        for data in self._store.contents(found):
            texts["output_file_id" if data[:1] == DONE else "error_file_id"].append(data[1:] + b"\n")
        made: Value = {}
        for field, parts in texts.items():
            kind = field.removesuffix("_file_id")
            name = f"file-{found.id.removeprefix('batch_')}-{kind}"
            made[field] = name if parts else None
            if parts and self._store.get(self._tenant, "file", name) is None:
                seconds = found.value["output_expires_after"] or MONTH
                new = file_object(name, f"{found.id}_{kind}.jsonl", "batch_output", b"".join(parts), seconds)
                self._store.add(self._tenant, replace(new, is_bounded=False))
        return made


def new_batch(name: str, asked: Any, seconds: int) -> Value:
    """A batch that was just asked for."""
    created = now()
    moments = (
        "in_progress_at", "finalizing_at", "completed_at", "failed_at", "expired_at", "cancelling_at", "cancelled_at",
    )  # fmt: skip
    expiry = asked.output_expires_after
    return {
        "id": name, "object": KIND, "endpoint": asked.endpoint, "model": None, "errors": None,
        "input_file_id": asked.input_file_id, "completion_window": asked.completion_window, "status": "validating",
        "output_file_id": None, "error_file_id": None, "created_at": created, "expires_at": created + seconds,
        **dict.fromkeys(moments), "request_counts": {"total": 0, "completed": 0, "failed": 0}, "usage": NO_USAGE,
        "metadata": kept.checked_metadata(asked.metadata),
        "output_expires_after": None if expiry is None else expiry.seconds,
    }  # fmt: skip

"""A replica: an engine behind the server's own application, called by Serve instead of by sockets.

entrance --answer(request)--> the application --messages, several at once--> entrance
router   <--events----------- the cache
router   <--Serve------------ how busy it is
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.context import ReplicaContext
from starlette.types import Message

from stemma.runtime.core.scheduler import Scheduler
from stemma.runtime.engine import Engine
from stemma.runtime.errors import StemmaError
from stemma.scale.ray.apart import ASKED_OF, Giving, Role, take_from_others
from stemma.scale.ray.asked import Asked
from stemma.scale.ray.growing import ASKED
from stemma.scale.ray.keeping import keeps
from stemma.scale.ray.leaving import is_going_on
from stemma.scale.ray.telling import Telling
from stemma.scale.spec import EVERYWHERE, Spec
from stemma.server import app
from stemma.server.http import access_log
from stemma.server.http.exporting import export_spans

log = logging.getLogger("stemma.scale")
PIECE = 4 << 20
"""Bytes of KV that are handed over in one call."""
BEAT_SECONDS = 2.0
"""How often routers hear at least that a replica is as busy as before."""
LEAVING_SECONDS = 5.0
"""How long an application may take to end what nobody waits for any more."""

Scope = dict[str, Any]


class Replica:
    """What Serve runs: one engine, and the application on it. role: whether it computes prompts for others, or has them
    computed there."""

    def __init__(self, spec: Spec, role: Role = "both") -> None:
        self._context: ReplicaContext = serve.get_replica_context()
        self._spec = spec
        access_log.set_up(as_json=spec.server.log_format == "json", tells_requests=spec.server.access_log)
        self._end_spans = export_spans(spec.server.otlp) if spec.server.otlp is not None else None
        options = spec.engine_options()
        if options["kv_disk"] is not None:  # which is for one engine
            options["kv_disk"] = Path(options["kv_disk"]) / self._own_folder
        self._engine = Engine(spec.model, adapters=spec.adapters, loras=spec.loras, draft=spec.draft, **options)
        self._app = app(self._engine, _of_rank(spec, self._own_folder))
        self._app.state.service.runs.resume()
        self._app.state.service.kept_by = keeps(self._context.rank.rank)
        self._readings = self._app.state.service.prompter.readings
        here = spec.scale.events_host or EVERYWHERE, ray.util.get_node_ip_address()
        self._telling = Telling(self._engine, *here)
        self._giving = Giving(self._engine, *here) if role == "prefill" else None
        self._end_taking: Callable[[], None] | None = None
        if role == "decode":
            self._end_taking = take_from_others(self._engine, by_tier=spec.scale.handover_by == "tier")
        self._pieces: dict[str, Path] = {}

    @property
    def _own_folder(self) -> str:
        return f"{self._context.deployment.lower()}-{self._context.rank.rank}"

    # What Serve asks ----------------------------------------------------------------
    def record_replica_metadata(self) -> dict[str, Any]:
        """What stays as it is: routers are told once."""
        place = None if self._giving is None else tuple(self._giving.place)
        return {"rank": self._context.rank.rank, "events": self._telling.address, "place": place}

    async def record_routing_stats(self) -> dict[str, Any]:
        """How busy it is; routers are told each time that it changes."""
        work = (await asyncio.to_thread(self._engine.stats)).metrics.steps_of["prefill"]
        now = await asyncio.to_thread(self._engine.with_scheduler, self._load)
        beat = int(time.monotonic() / BEAT_SECONDS)  # Serve passes on what has changed
        return {**now, "beat": beat, "steps": work.steps, "prompt_tokens": work.tokens, "prompt_seconds": work.seconds}

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve cannot count: prompts that others have computed here come past it."""
        return {} if self._giving is None else {ASKED: float(self._giving.num_asked)}

    async def check_health(self) -> None:
        """Raises EngineClosed if the engine has ended, by which Serve knows to start another replica."""
        await asyncio.to_thread(self._engine.with_cache, lambda cache: None)

    async def __del__(self) -> None:
        """Serve calls it when what was under way has ended: what is hot goes to another replica, if others stay."""
        try:
            if self._spec.scale.handover_bytes and await asyncio.to_thread(is_going_on, self._context.app_name):
                await asyncio.wait_for(self._hand_over(), self._spec.scale.drain_seconds / 2)
        except (TimeoutError, StemmaError, OSError) as error:
            log.warning("nothing was handed over when this replica left: %s", error or type(error).__name__)
        finally:
            self._telling.close()
            if self._giving is not None:
                await asyncio.to_thread(self._giving.close, self._spec.scale.drain_seconds / 2)
            if self._end_taking is not None:
                self._end_taking()
            self._app.state.service.close()
            self._engine.close()
            if self._end_spans is not None:
                self._end_spans()

    def _load(self, scheduler: Scheduler) -> dict[str, Any]:
        cache = scheduler.cache.stats()
        running = list(scheduler.running)
        waiting = sum(len(each.tokens) - scheduler.waiting.known(each) for each in scheduler.waiting)
        return {
            "waiting_tokens": waiting
            + sum(each.num_prompt - each.num_computed for each in running if each.is_in_prompt),
            "running": len(running),
            "kv_share": cache.leased / cache.total,
            "capacity": self._engine.config.max_running,
            "draining": False,
        }

    # What entrances ask ----------------------------------------------------------------
    async def answer(self, scope: Scope, body: bytes, asked: Asked) -> AsyncIterator[list[Message]]:
        """What the application says to a request: ASGI's messages, those that are there at once together.

        asked: the tokens of its prompt, and where it is computed, if that is elsewhere. Whoever stops
        listening is a client that went away.
        """
        said: asyncio.Queue[Message | None] = asyncio.Queue()
        gone = asyncio.Event()
        heard = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def receive() -> Message:
            if (message := next(heard, None)) is not None:
                return message
            await gone.wait()
            return {"type": "http.disconnect"}

        async def work() -> None:
            ASKED_OF.set(asked.place)
            try:
                with self._readings.offered(asked.reading):
                    await self._app({**scope, "state": {}}, receive, said.put)
            finally:
                said.put_nowait(None)

        task = asyncio.ensure_future(work())
        try:
            while (message := await said.get()) is not None:
                batch = [message]
                while not said.empty() and (message := said.get_nowait()) is not None:
                    batch.append(message)
                yield batch
                if message is None:
                    break
            await task
        finally:
            gone.set()
            if not task.done():
                await asyncio.wait((task,), timeout=LEAVING_SECONDS)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.gather(task, return_exceptions=True)

    async def leave(self) -> None:
        """All are about to leave: streams without an end end. Returns when nothing runs that nobody waits for."""
        service = self._app.state.service
        service.stopping.set()
        await service.runs.ended()

    async def cut_short(self) -> None:
        """Every answer that is under way ends with an error that tells its reader to come back."""
        self._app.state.service.cut_short()

    # What replicas ask ----------------------------------------------------------------
    async def take_over(self, name: str, piece: bytes, is_last: bool, asked: Asked) -> int:
        """A piece of what another replica had cached, in order; behind the last one it is loaded. asked: whose turn it
        is. Returns how many tokens were taken."""
        path = self._pieces.get(name)
        if path is None:
            path = self._pieces[name] = Path(tempfile.mkstemp(prefix="stemma-handover-")[1])
        await asyncio.to_thread(_append, path, piece)
        if not is_last:
            return 0
        del self._pieces[name]
        try:
            loaded = await asyncio.to_thread(self._engine.load_cache, path)
        finally:
            path.unlink(missing_ok=True)
        log.info("took over %d tokens of %s", loaded.num_tokens - loaded.num_skipped, name)
        return loaded.num_tokens - loaded.num_skipped

    async def _hand_over(self) -> None:
        """Give what was used last, as much of it as may be given, to one of the others."""
        peers = serve.get_deployment_handle(self._context.deployment, self._context.app_name)
        name = self._context.replica_tag
        with tempfile.TemporaryDirectory(prefix="stemma-handover-") as folder:
            path = Path(folder) / "cache"
            await asyncio.to_thread(
                self._engine.save_cache, path, max_bytes=self._spec.scale.handover_bytes, only_hot=True
            )
            asked = Asked()
            with path.open("rb") as file:
                piece = file.read(PIECE)
                while piece:
                    following = file.read(PIECE)
                    await peers.take_over.remote(name, piece, not following, asked)
                    asked = Asked(to=asked.chosen)
                    piece = following


def _of_rank(spec: Spec, own_folder: str) -> Any:
    """The server's config for one replica: what it keeps on disk is its own, and is there for the next of its rank."""
    config = spec.server
    if config.cache_folder is None:
        return config
    folder = Path(config.cache_folder) / own_folder
    folder.mkdir(parents=True, exist_ok=True)
    return replace(config, cache_folder=folder)


def _append(path: Path, piece: bytes) -> None:
    with path.open("ab") as file:
        file.write(piece)

"""Running a server until it is told to stop: it then finishes what is under way, or refuses it, and never hangs.

signal                      shutdown_seconds later, or a second signal       LAST_SECONDS later
  | nobody comes in, what runs goes on | every request left is told 503 or an error event | the rest is cut off |
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import FrameType
from typing import Any

import uvicorn

from stemma.runtime.engine import Engine, EngineConfig
from stemma.runtime.errors import InvalidRequest
from stemma.server.application import app
from stemma.server.config import ServerConfig
from stemma.server.generation import roles
from stemma.server.generation.service import Service
from stemma.server.http import access_log
from stemma.server.http.exporting import export_spans

LAST_SECONDS = 3.0


class StemmaServer(uvicorn.Server):
    """uvicorn, which on a signal also ends streams that never end by themselves and refuses new requests."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._insisted = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and go on with what an earlier server left."""
        await super().startup(sockets)
        self._service.runs.resume()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for what is under way, and end it when its time is over."""
        ending = asyncio.create_task(self._end_in_time())
        try:
            await super().shutdown(sockets)
            await self._service.runs.ended()
        finally:
            ending.cancel()

    async def _end_in_time(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._insisted.wait(), self._service.config.shutdown_seconds)
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what is cut off now is no error
        self._service.cut_short()
        await asyncio.sleep(LAST_SECONDS)
        self.force_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal asks, the second one insists.

        A server that was asked to end has ended well: unlike uvicorn's it does not raise the signal again.
        """
        if self.should_exit:
            self._insisted.set()
        self.stop()

    def stop(self) -> None:
        """End as after a signal; to be called on the server's own loop, or before it runs."""
        self._service.limiter.shut()
        self._service.stopping.set()
        self.should_exit = True


def make_server(engine: Engine, config: ServerConfig | None = None) -> StemmaServer:
    """A server that is not running yet: `run()` it, or `await serve()` it. The engine stays the caller's to close."""
    config = config or ServerConfig()
    application = app(engine, config)
    options = uvicorn.Config(
        application,
        host=config.host,
        port=config.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        log_config=None,
        ssl_keyfile=config.ssl_keyfile,
        ssl_certfile=config.ssl_certfile,
        ssl_keyfile_password=config.ssl_keyfile_password,
        **_clients(config),
    )
    return StemmaServer(options, application.state.service)


def _clients(config: ServerConfig) -> dict[str, Any]:
    """What is asked of clients' certificates."""
    if config.ssl_ca_certs is None:
        return {}
    return {"ssl_ca_certs": str(config.ssl_ca_certs), "ssl_cert_reqs": ssl.CERT_REQUIRED}


def serve(
    engine: Engine | EngineConfig | None = None, config: ServerConfig | None = None, *, model: str | None = None,
    listening: socket.socket | None = None,
) -> None:  # fmt: skip
    """Serve until SIGINT or SIGTERM; in a process of its own, whose log and spans it sets up.

    engine: one that runs already, which is left running; or the options of one that is made for `model` and closed.
    listening: a bound socket to take connections from, instead of host and port.
    """
    if not isinstance(engine, Engine):
        options = engine or EngineConfig()
        fields = {name: getattr(options, name) for name in options.__dataclass_fields__}
        with Engine(model, **fields) as made:
            serve(made, config, listening=listening)
        return
    config = config or ServerConfig()
    access_log.set_up(as_json=config.log_format == "json", tells_requests=config.access_log)
    with ExitStack() as ending:
        if config.otlp is not None:
            ending.callback(export_spans(config.otlp))
        ending.callback(roles.take(engine, config))
        ending.callback(publish_events(engine, config))
        server = make_server(engine, config)
        ending.callback(server._service.close)
        server.run([listening] if listening is not None else None)


def publish_events(engine: Engine, config: ServerConfig) -> Callable[[], None]:
    """Tell routers from now on what the engine's cache has, if the options say so. Returns what ends it.

    Raises InvalidRequest for an endpoint that cannot be used, and without pyzmq.
    """
    if config.kv_events is None:
        return lambda: None
    try:
        from stemma.scale.events import EventOptions, Publisher
    except ImportError as error:
        raise InvalidRequest("KV events need ZeroMQ: pip install 'stemma-llm[scale]'", "kv_events") from error
    options = EventOptions(
        endpoint=config.kv_events,
        replay=config.kv_events_replay,
        topic=config.kv_events_topic,
        form=config.kv_events_form,
        hashes=config.kv_events_hashes,
        kept=config.kv_events_kept,
        marks=config.kv_events_marks,
    )
    publisher = Publisher(engine.with_cache, options)
    if config.kv_events_tiers and engine.tiering is not None:
        engine.tiering.watch(publisher.tier)
    return publisher.close

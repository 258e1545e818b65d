"""Running a server until it is told to stop: it then finishes what is under way, or refuses it, and never hangs."""

from __future__ import annotations

import socket
from types import FrameType

import uvicorn

from stemma.runtime.engine import Engine, EngineConfig
from stemma.server.app import app
from stemma.server.config import ServerConfig
from stemma.server.service import Service


class StemmaServer(uvicorn.Server):
    """uvicorn, which on a signal also ends streams that never end by themselves and refuses new requests."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal asks, the second one insists.

        A server that was asked to end has ended well: unlike uvicorn's it does not raise the signal again.
        """
        self.force_exit = self.should_exit
        self.stop()

    def stop(self) -> None:
        """End as after a signal; to be called on the server's own loop, or before it runs."""
        self._service.gate.shut()
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
        timeout_graceful_shutdown=max(1, round(config.shutdown_seconds)),
        server_header=False,
        lifespan="off",
    )
    return StemmaServer(options, application.state.service)


def serve(
    engine: Engine | EngineConfig | None = None, config: ServerConfig | None = None, *, model: str | None = None,
    listening: socket.socket | None = None,
) -> None:  # fmt: skip
    """Serve until SIGINT or SIGTERM.

    engine: one that runs already, which is left running; or the options of one that is made for `model` and closed.
    listening: a bound socket to take connections from, instead of host and port.
    """
    if not isinstance(engine, Engine):
        options = engine or EngineConfig()
        fields = {name: getattr(options, name) for name in options.__dataclass_fields__}
        with Engine(model, **fields) as made:
            serve(made, config, listening=listening)
        return
    server = make_server(engine, config)
    try:
        server.run([listening] if listening is not None else None)
    finally:
        server._service.close()

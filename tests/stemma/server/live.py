"""A server on a socket of its own, in a thread, for tests that need a real connection."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx

from stemma.runtime.engine import Engine
from stemma.server import ServerConfig, StemmaServer, make_server

STOP_SECONDS = 60
"""Far more than a stop takes, also where other tests keep the machine busy."""


class Live(NamedTuple):
    """Where it listens, and what it is."""

    url: str
    port: int
    server: StemmaServer
    thread: threading.Thread


@contextmanager
def live_server(engine: Engine, config: ServerConfig | None = None) -> Iterator[Live]:
    """Runs until the block ends; then it must end too, or the test says where it hangs."""
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = make_server(engine, config or ServerConfig(shutdown_seconds=1))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    port = listening.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    wait_until(lambda: httpx.get(f"{url}/health").status_code == 200)
    try:
        yield Live(url, port, server, thread)
    finally:
        server.stop()
        thread.join(timeout=STOP_SECONDS)
        assert not thread.is_alive(), f"the server did not stop:\n{_where(thread)}"
        server._service.close()


def _where(thread: threading.Thread) -> str:
    """What a thread is doing, and what asyncio's tasks wait for."""
    frame = sys._current_frames().get(thread.ident or 0)
    lines = traceback.format_stack(frame)
    for task in (found for found in gc.get_objects() if isinstance(found, asyncio.Task) and not found.done()):
        lines += [f"{task}\n", *(f"  {frame}\n" for frame in task.get_stack())]
    return "".join(lines)


def wait_until(condition, seconds: float = 20.0) -> None:  # type: ignore[no-untyped-def]
    """Poll until something is true; what raises meanwhile is not true yet."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except httpx.HTTPError:
            pass
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def is_idle(engine: Engine) -> bool:
    """Nothing runs, nothing waits, and every block is free or cached."""
    stats = engine.stats()
    return stats.num_running == 0 and stats.num_waiting == 0 and stats.cache.leased == 0

"""Two hundred streams over all APIs at once, a quarter of whose clients vanish, and a server that is started anew:
nobody hangs, no block is lost, and what was kept is there."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny
from stemma.server import ServerConfig
from tests.stemma.server.crowd import APIS, Seen, crowd
from tests.stemma.server.live import Live, is_idle, live_server, wait_until

NUM_CLIENTS = 100
"""Before the server is started anew, and after."""


def assert_nothing_is_left(engine: Engine, live: Live) -> None:
    service: Any = live.server._service
    wait_until(lambda: is_idle(engine), seconds=60)
    wait_until(lambda: service.limiter.num_inside == 0 and service.counts.num_open == 0)
    engine.with_cache(lambda cache: cache.check())
    assert not any(status == 500 for _, status in service.counts.answered)


def test_nothing_is_lost(tmp_path: Path) -> None:
    config = ServerConfig(model_name="tiny", cache_folder=tmp_path, shutdown_seconds=0.2)
    model = tiny(ReferenceOps(torch.device("cpu")))
    seen = Seen()
    with Engine.of(model, kv_tokens=16384) as engine, live_server(engine, config) as live:
        paths = {route.path for route in live.server.config.app.routes}  # type: ignore[union-attr]
        kinds = [name for name, api in APIS.items() if api.path in paths]

        async def until_it_stops() -> None:
            asking = asyncio.create_task(crowd(live.url, kinds, NUM_CLIENTS, seen))
            while len(seen.ends) < NUM_CLIENTS // 3:
                await asyncio.sleep(0.01)
            live.server.stop()
            await asking

        asyncio.run(until_it_stops())
        wait_until(lambda: is_idle(engine), seconds=60)
        engine.with_cache(lambda cache: cache.check())
    assert len(seen.ends) == NUM_CLIENTS
    assert seen.count("hangs") == 0
    before = dict(seen.kept)

    with Engine.of(model, kv_tokens=16384) as engine, live_server(engine, config) as live:
        asyncio.run(crowd(live.url, kinds, NUM_CLIENTS, seen))
        ends = seen.ends[NUM_CLIENTS:]
        assert {end for _, end in ends} == {"whole", "left", "cancelled"}
        assert len(seen.kept) > len(before)
        for name, text in seen.kept.items():
            kept = httpx.get(f"{live.url}/v1/responses/{name}").json()
            assert kept["output"][0]["content"][0]["text"] == text
        for name in seen.begun:
            told = httpx.get(f"{live.url}/v1/responses/{name}").json()
            assert told["status"] in ("completed", "cancelled", "failed", "incomplete"), told
        assert_nothing_is_left(engine, live)

"""A server whose cache is followed by its events: they equal what it says of its tree over HTTP, under real load."""

from __future__ import annotations

import asyncio
import random
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

pytest.importorskip("zmq", reason="pyzmq is not installed")

from stemma.kernels.reference import ReferenceOps
from stemma.radix.node import PRIVATE_SCOPE
from stemma.runtime.engine import Engine
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model.tiny import tiny
from stemma.scale.events import Mirror
from stemma.server import ApiKey, ServerConfig, SharedPrompt
from stemma.server.run import publish_events, serve
from tests.stemma.scale.events.worlds import Texts, following, texts_of
from tests.stemma.server.live import live_server
from tests.stemma.server.test_command import KEY, served

BLOCK = 4
KEYS = (ApiKey("ours", "one"), ApiKey("theirs", "two"), ApiKey("boss", "three", is_admin=True))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def engine(**options: Any) -> Engine:
    return Engine.of(tiny(ReferenceOps(torch.device("cpu"))), **{"kv_tokens": 512, "block_size": BLOCK} | options)


def config(**given: Any) -> ServerConfig:
    where = {"kv_events": f"tcp://127.0.0.1:{free_port()}", "kv_events_replay": f"tcp://127.0.0.1:{free_port()}"}
    return ServerConfig(**{"model_name": "tiny", "shutdown_seconds": 1} | where | given)


def tree_of(url: str) -> Texts:
    """Full blocks by owner and text, from /cache/tree."""
    nodes = httpx.get(f"{url}/cache/tree?tokens=true", headers={"Authorization": "Bearer three"}).json()["nodes"]
    found: Texts = set()
    paths: list[tuple[str, list[int]]] = []
    for node in nodes:
        owner, above = paths[node["parent"]] if node["parent"] is not None else ("", [])
        owner, path = owner if node["namespace"] is None else node["namespace"], above + node["tokens"]
        paths.append((owner, path))
        found |= {(owner, tuple(path[:end])) for end in range(BLOCK * (len(above) // BLOCK + 1), len(path) + 1, BLOCK)}
    return found


def owned(mirror: Mirror) -> Texts:
    found = ((PRIVATE_SCOPE.fullmatch(scope), scope, text) for scope, text in texts_of(mirror))
    return {(scope if parts is None else parts[3], text) for parts, scope, text in found}


async def load(url: str, seed: int) -> None:
    draw = random.Random(seed)

    async def one(client: httpx.AsyncClient) -> None:
        key = draw.choice(["one", "two"])
        headers = {"Authorization": f"Bearer {key}"}
        words = " ".join(draw.choice(["alpha", "beta", "gamma"]) for _ in range(draw.randrange(1, 12)))
        body: dict[str, Any] = {"model": "tiny", "prompt": "Be brief. " * draw.randrange(2) + words}
        body |= {"max_tokens": draw.randrange(1, 9), "n": draw.choice([1, 1, 2]), "temperature": 1.0}
        if draw.random() < 0.3:
            body["cache_salt"] = draw.choice("ab")
        await client.post("/v1/completions", json=body, headers=headers)
        if draw.random() < 0.1:
            path = draw.choice(["/cache/flush", "/cache/save", "/cache/load"])
            await client.post(path, json={} if path == "/cache/flush" else {"name": "kept"}, headers=headers)

    async with httpx.AsyncClient(base_url=url, timeout=60) as client:
        await asyncio.gather(*(one(client) for _ in range(12)))


def test_events_equal_the_tree_under_load(tmp_path: Path) -> None:
    options = config(
        api_keys=KEYS, cache_folder=tmp_path, shared_prompts=(SharedPrompt(prompt="Be brief. Be brief. "),)
    )
    with engine() as made, live_server(made, options) as live:
        end = publish_events(made, options)
        try:
            with following(str(options.kv_events), options.kv_events_replay) as follower:
                for seed in range(5):
                    asyncio.run(load(live.url, seed))
                    tree = tree_of(live.url)
                    assert tree
                    follower.follow_until(lambda tree=tree: owned(follower.mirror) == tree)
                made.with_cache(lambda cache: cache.clear())
                follower.follow_until(lambda: owned(follower.mirror) == tree_of(live.url))
                assert follower.gaps == []
        finally:
            end()


def test_a_server_ends_its_events_with_itself() -> None:
    before, options = threading.active_count(), config()
    with engine() as made, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InvalidRequest, match="give another port") as told:
            serve(made, ServerConfig(model_name="tiny", kv_events=where))
        assert told.value.param == "kv_events"
        publish_events(made, options)()
        publish_events(made, options)()  # its ports are free again
    assert threading.active_count() <= before


def test_a_replay_without_events_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="give both"):
        ServerConfig(kv_events_replay="tcp://*:5558")


def test_the_command_says_what_is_wrong_with_an_endpoint() -> None:
    command = [sys.executable, "-m", "stemma", "serve", "--kv-events", "5557", "--kv-tokens", "256"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 1
    assert "an endpoint such as tcp://*:5557" in " ".join(ran.stderr.split())


def test_the_command_publishes_and_ends_on_a_signal(tmp_path: Path) -> None:
    events, replay = f"tcp://127.0.0.1:{free_port()}", f"tcp://127.0.0.1:{free_port()}"
    options = "--kv-events", events, "--kv-events-replay", replay, "--kv-events-topic", "kv@here@mine"
    with served(tmp_path / "log", *options) as (url, process), following(events, replay, topic="kv@here") as follower:
        body = {"model": "mine", "prompt": "one two three " * 30, "max_tokens": 2}
        answer = httpx.post(f"{url}/v1/completions", json=body, headers=KEY, timeout=60)
        assert answer.status_code == 200, answer.text
        follower.follow_until(lambda: len(follower.mirror.blocks) >= answer.json()["usage"]["prompt_tokens"] // 32)
        assert {block.scope for block in follower.mirror.blocks.values()} == {"alice"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
        assert "Traceback" not in (tmp_path / "log").read_text()


def test_without_zeromq_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zmq", None)
    monkeypatch.delitem(sys.modules, "stemma.scale.events.publisher", raising=False)
    with engine() as made, pytest.raises(InvalidRequest, match=r"stemma-llm\[scale\]") as told:
        publish_events(made, config())
    assert told.value.param == "kv_events"

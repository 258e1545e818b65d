"""The SMG gateway before two replicas: the same beginning comes to the same replica and is cached there."""

from __future__ import annotations

import asyncio
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny
from stemma.server import ServerConfig
from tests.stemma.server.live import Live, live_server, wait_until

pytest.importorskip("smg", reason="smg is not installed")
GATEWAY = shutil.which("smg", path=str(Path(sys.executable).parent))
CONFIG = ServerConfig(model_name="tiny", shutdown_seconds=1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def replica() -> Engine:
    return Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=16384)


@contextmanager
def gateway(urls: list[str], log: Path) -> Iterator[str]:
    """The gateway's address, once it has seen its replicas."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [
        str(GATEWAY), "launch", "--worker-urls", *urls, "--policy", "cache_aware", "--host", "127.0.0.1",
        "--port", str(port), "--prometheus-port", str(free_port()), "--balance-abs-threshold", "4",
    ]  # fmt: skip
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            wait_until(lambda: httpx.get(f"{url}/readiness").status_code == 200, seconds=60)
            yield url
        finally:
            process.kill()
            process.wait()


def num_answered(live: Live) -> int:
    return live.server._service.counts.answered["/v1/chat/completions", 200]


@pytest.mark.skipif(GATEWAY is None, reason="the command smg is not installed")
def test_two_replicas_are_routed_by_prefix(tmp_path: Path) -> None:
    with (
        replica() as left, replica() as right,
        live_server(left, CONFIG) as one, live_server(right, CONFIG) as two,
        gateway([one.url, two.url], tmp_path / "gateway.log") as url,
    ):  # fmt: skip
        for turn in range(3):
            for text in ("alpha " * 20, "beta " * 30):
                body: Any = {"model": "tiny", "messages": [{"role": "user", "content": text}], "max_tokens": 4}
                answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
                assert answer.status_code == 200, answer.text
                usage = answer.json()["usage"]
                if turn:
                    cached = usage["prompt_tokens_details"]["cached_tokens"]
                    assert cached == usage["prompt_tokens"] - 1
        assert num_answered(one) + num_answered(two) == 6


@pytest.mark.skipif(GATEWAY is None, reason="the command smg is not installed")
def test_the_real_model_on_two_replicas_shares_the_load_and_each_prefix_has_its_place(tmp_path: Path) -> None:
    """Eight conversations at once go to both replicas; each goes on where it began, and is cached there."""
    config = ServerConfig(model_name="smollm2", shutdown_seconds=1)

    async def talk(client: httpx.AsyncClient, number: int) -> list[tuple[int, int]]:
        system = f"You are clerk {number} of {'a long office, ' * 12} and are brief."
        messages = [{"role": "system", "content": system}, {"role": "user", "content": "Who are you?"}]
        seen, ran = [], 0
        for _ in range(3):
            body = {"model": "smollm2", "messages": messages, "max_tokens": 8, "temperature": 0}
            answer = (await client.post("/v1/chat/completions", json=body)).json()
            usage = answer["usage"]
            seen.append((usage["prompt_tokens_details"]["cached_tokens"], ran))
            ran = usage["total_tokens"] - (answer["choices"][0]["finish_reason"] == "stop")
            messages += [answer["choices"][0]["message"], {"role": "user", "content": "And then?"}]
        return seen

    async def all_of_them(url: str) -> list[list[tuple[int, int]]]:
        async with httpx.AsyncClient(base_url=url, timeout=120) as client:
            return await asyncio.gather(*(talk(client, number) for number in range(8)))

    with (
        Engine(kv_tokens=8192) as left, Engine(kv_tokens=8192) as right,
        live_server(left, config) as one, live_server(right, config) as two,
        gateway([one.url, two.url], tmp_path / "gateway.log") as url,
    ):  # fmt: skip
        talks = asyncio.run(all_of_them(url))
        counts = [num_answered(one), num_answered(two)]
    assert sum(counts) == 24
    assert min(counts) >= 6, counts
    later = [turn for seen in talks for turn in seen[1:]]
    stayed = sum(cached >= ran for cached, ran in later)
    assert stayed >= 14, talks  # of 16; the gateway may move a conversation for balance

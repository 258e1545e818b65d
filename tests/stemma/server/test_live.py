"""Real connections: clients that vanish, slow readers, many streams, and the end of the server."""

from __future__ import annotations

import asyncio
import json
import socket
import time

import httpx
import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny
from stemma.server import ServerConfig
from tests.stemma.server.live import STOP_SECONDS, is_idle, live_server, wait_until

LONG = {"prompt": "x", "max_tokens": 1900, "ignore_eos": True}


def raw_request(port: int, body: dict[str, object], receive_buffer: int | None = None) -> socket.socket:
    """A connection on which a request was sent and nothing is read."""
    connection = socket.socket()
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    connection.connect(("127.0.0.1", port))
    data = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n".encode()
    connection.sendall(head + data)
    return connection


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_vanishes_ends_its_request(engine: Engine, stream: bool) -> None:
    with live_server(engine) as live:
        connection = raw_request(live.port, {**LONG, "stream": stream})
        wait_until(lambda: engine.stats().num_running == 1)
        before = engine.stats().metrics.num_finished.get("abort", 0)
        connection.close()
        wait_until(lambda: is_idle(engine))
        assert engine.stats().metrics.num_finished["abort"] == before + 1
        wait_until(lambda: live.server._service.limiter.num_inside == 0)
        engine.with_cache(lambda cache: cache.check())


def test_a_client_that_vanishes_in_the_middle_of_its_body_leaves_nothing(engine: Engine) -> None:
    with live_server(engine) as live:
        connection = socket.create_connection(("127.0.0.1", live.port))
        connection.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        wait_until(lambda: live.server._service.counts.num_open == 1)
        connection.close()
        wait_until(lambda: live.server._service.counts.num_open == 0)


def test_a_slow_reader_gets_everything_and_a_dead_one_is_let_go() -> None:
    with Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=16384) as engine:
        with live_server(engine, ServerConfig(write_seconds=0.5, shutdown_seconds=1)) as live:
            # 60 choices with log-probabilities are more than the socket's buffers hold
            heavy = {**LONG, "max_tokens": 120, "n": 60, "logprobs": 20, "stream": True, "temperature": 1}
            connection = raw_request(live.port, heavy, receive_buffer=4096)
            wait_until(lambda: live.server._service.counts.num_gone == 1, seconds=60)
            wait_until(lambda: is_idle(engine))
            connection.close()
            with httpx.stream(
                "POST", f"{live.url}/v1/completions", json={**LONG, "max_tokens": 300, "stream": True}
            ) as response:
                text = ""
                for line in response.iter_lines():
                    time.sleep(0.0005)
                    text += line
            assert text.endswith("data: [DONE]")
        engine.with_cache(lambda cache: cache.check())


def test_two_hundred_streams_with_clients_that_vanish_lose_nothing() -> None:
    """Half of the clients stay and get a whole stream, a quarter leave on the way, a quarter send 10 MB."""

    async def stay(client: httpx.AsyncClient, number: int) -> int:
        body = {"messages": [{"role": "user", "content": f"client {number}"}], "max_tokens": 16, "stream": True,
                "ignore_eos": True, "stream_options": {"include_usage": True}}  # fmt: skip
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            assert response.status_code == 200
            lines = [line async for line in response.aiter_lines() if line]
        assert lines[-1] == "data: [DONE]"
        usage = json.loads(lines[-2].removeprefix("data: "))["usage"]
        return int(usage["completion_tokens"])

    async def leave(client: httpx.AsyncClient, number: int) -> int:
        body = {"messages": [{"role": "user", "content": f"client {number}"}], "max_tokens": 1500, "stream": True}
        async with client.stream("POST", "/v1/chat/completions", json=body) as response:
            async for _ in response.aiter_lines():
                break
        return 16

    async def flood(client: httpx.AsyncClient, number: int) -> int:
        response = await client.post("/v1/completions", content=b'{"prompt": "' + b"x" * (10 << 20) + b'"}')
        assert response.status_code == 413
        return 16

    async def all_of_them(url: str) -> list[int]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
            kinds = (stay, stay, stay, leave)
            crowd = [kinds[number % 4](client, number) for number in range(200)]
            return await asyncio.gather(*crowd, *(flood(client, number) for number in range(4)))

    with Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=16384) as engine:
        with live_server(engine) as live:
            assert asyncio.run(all_of_them(live.url)) == [16] * 204
            wait_until(lambda: is_idle(engine))
            wait_until(lambda: live.server._service.limiter.num_inside == 0)
            assert live.server._service.counts.num_open == 0
        engine.with_cache(lambda cache: cache.check())
        stats = engine.stats().cache
        assert stats.free + stats.cached == stats.total


def test_a_stopping_server_finishes_what_is_short_and_ends_what_is_long(engine: Engine) -> None:
    with live_server(engine, ServerConfig(shutdown_seconds=1)) as live:
        short = raw_request(live.port, {**LONG, "max_tokens": 5})
        long = raw_request(live.port, {**LONG, "n": 64})
        wait_until(lambda: engine.stats().num_running >= 64)
        live.server.stop()
        live.thread.join(timeout=STOP_SECONDS)
        assert not live.thread.is_alive()
        assert b"200 OK" in short.recv(1 << 16)
        wait_until(lambda: is_idle(engine))
        long.close()
        short.close()

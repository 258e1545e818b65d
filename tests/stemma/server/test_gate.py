"""Back-pressure and limits."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny
from stemma.server import ApiKey, ServerConfig
from stemma.server.errors import ApiError
from stemma.server.gate import Gate

LONG = {"prompt": "x", "max_tokens": 200, "ignore_eos": True}


def test_the_gate_counts_in_and_out() -> None:
    gate = Gate(capacity=2, per_key=None)
    with gate.enter("a", 1), gate.enter("b", 5), pytest.raises(ApiError) as caught, gate.enter("c", 1):
        pass
    assert caught.value.status == 429
    assert int(caught.value.headers["retry-after"]) >= 1
    assert gate.num_inside == 0
    with gate.enter("c", 1):
        gate.shut()
        with pytest.raises(ApiError) as caught, gate.enter("c", 1):
            pass
    assert caught.value.status == 503


def test_a_tenant_has_a_share() -> None:
    gate = Gate(capacity=100, per_key=1)
    with gate.enter("a", 1):
        with gate.enter("b", 1):
            pass
        with pytest.raises(ApiError) as caught, gate.enter("a", 1):
            pass
        assert caught.value.status == 429


async def test_a_full_server_says_429_and_loses_nothing(serve_with: Any) -> None:
    engine = Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=8192, max_running=1)
    with engine:
        async with serve_with(engine, ServerConfig(max_queue=1)) as client:
            posts = [client.http.post("/v1/completions", json=LONG | {"max_tokens": 100}) for _ in range(6)]
            answers = await asyncio.gather(*posts)
            statuses = sorted(answer.status_code for answer in answers)
            assert statuses == [200, 200, 429, 429, 429, 429]
            refused = next(answer for answer in answers if answer.status_code == 429)
            assert int(refused.headers["retry-after"]) >= 1
            assert refused.json()["error"]["code"] == "rate_limit_exceeded"
            await client.post("/v1/completions", prompt="x", max_tokens=1)


async def test_one_tenant_cannot_take_everything(engine: Engine, serve_with: Any) -> None:
    keys = (ApiKey("a", "ka"), ApiKey("b", "kb"))
    async with serve_with(engine, ServerConfig(api_keys=keys, max_requests_per_key=1)) as client:
        first = asyncio.create_task(client.post("/v1/completions", key="ka", **LONG))
        await asyncio.sleep(0.05)
        await client.post("/v1/completions", key="ka", status=429, prompt="x")
        await client.post("/v1/completions", key="kb", prompt="x", max_tokens=1)
        await first


async def test_a_large_body_is_a_413_before_it_is_read(engine: Engine, serve_with: Any) -> None:
    async with serve_with(engine, ServerConfig(max_body_bytes=1000)) as client:
        await client.post("/v1/completions", status=413, prompt="x" * 1000)

        async def pieces() -> Any:
            for _ in range(20):
                yield b"x" * 100

        response = await client.http.post("/v1/completions", content=pieces())
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "body_too_large"

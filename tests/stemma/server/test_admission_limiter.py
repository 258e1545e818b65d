"""Back-pressure and limits."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny
from stemma.server import ApiKey, ServerConfig
from stemma.server.http.admission_limiter import AdmissionLimiter
from stemma.server.http.errors import ApiError

LONG = {"prompt": "x", "max_tokens": 200, "ignore_eos": True}


def test_the_gate_counts_in_and_out() -> None:
    limiter = AdmissionLimiter(capacity=2, per_key=None)
    with limiter.enter("a", 1), limiter.enter("b", 5), pytest.raises(ApiError) as caught, limiter.enter("c", 1):
        pass
    assert caught.value.status == 429
    assert int(caught.value.headers["retry-after"]) >= 1
    assert limiter.num_inside == 0
    with limiter.enter("c", 1):
        limiter.shut()
        with pytest.raises(ApiError) as caught, limiter.enter("c", 1):
            pass
    assert caught.value.status == 503


def test_a_tenant_has_a_share() -> None:
    limiter = AdmissionLimiter(capacity=100, per_key=1)
    with limiter.enter("a", 1):
        with limiter.enter("b", 1):
            pass
        with pytest.raises(ApiError) as caught, limiter.enter("a", 1):
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
        first = asyncio.create_task(client.post("/v1/completions", key="ka", **{**LONG, "max_tokens": 400}))
        while not engine.stats().num_running:
            await asyncio.sleep(0.001)
        refused = await client.post("/v1/completions", key="ka", status=429, prompt="x")
        assert refused["error"]["code"] == "rate_limit_exceeded"
        await client.post("/v1/completions", key="kb", prompt="x", max_tokens=1)
        assert not first.done()  # what refused the one did not hold up the other
        assert (await first)["usage"]["completion_tokens"] == 400
        await client.post("/v1/completions", key="ka", prompt="x", max_tokens=1)


async def test_a_large_body_is_a_413_before_it_is_read(engine: Engine, serve_with: Any) -> None:
    async with serve_with(engine, ServerConfig(max_body_bytes=1000)) as client:
        await client.post("/v1/completions", status=413, prompt="x" * 1000)

        async def pieces() -> Any:
            for _ in range(20):
                yield b"x" * 100

        response = await client.http.post("/v1/completions", content=pieces())
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "body_too_large"


async def test_a_compressed_body_is_a_415_that_says_so(client: Any) -> None:
    body = gzip.compress(b'{"prompt": "x", "max_tokens": 1}')
    response = await client.http.post("/v1/completions", content=body, headers={"content-encoding": "gzip"})
    assert response.status_code == 415
    assert "gzip" in response.json()["error"]["message"]
    plain = {"content-encoding": "identity"}
    assert (await client.http.post("/v1/completions", content=gzip.decompress(body), headers=plain)).status_code == 200


async def test_a_stream_that_waits_has_comments_that_clients_skip(serve_with: Any) -> None:
    """One request runs, another waits for it: it hears that the server is there, and then its answer."""
    with Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=4096, max_running=1) as engine:
        async with serve_with(engine, ServerConfig(heartbeat_seconds=0.02)) as client:
            asked = {**LONG, "max_tokens": 200, "stream": True}
            first = asyncio.create_task(client.http.post("/v1/completions", json=asked))
            while not engine.stats().num_running:
                await asyncio.sleep(0.001)
            second = await client.http.post("/v1/completions", json={**asked, "max_tokens": 2})
            await first
    lines = [line for line in second.text.split("\n\n") if line]
    assert ": waiting" in lines
    events = [line for line in lines if not line.startswith(":")]
    assert all(line.startswith("data: ") for line in events)
    assert events[-1] == "data: [DONE]"


async def test_browsers_are_let_in_where_that_is_wanted(engine: Engine, serve_with: Any) -> None:
    asked = {"origin": "https://a.example", "access-control-request-method": "POST"}
    async with serve_with(engine, ServerConfig()) as client:
        refused = await client.http.options("/v1/chat/completions", headers=asked)
        assert refused.status_code == 405
        assert refused.json()["error"]["code"] == "method_not_supported"
        assert "access-control-allow-origin" not in (await client.http.get("/health", headers=asked)).headers
    async with serve_with(engine, ServerConfig(cors_origins=("https://a.example",))) as client:
        allowed = await client.http.options("/v1/chat/completions", headers=asked)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == "https://a.example"
        other = await client.http.get("/health", headers={"origin": "https://b.example"})
        assert "access-control-allow-origin" not in other.headers

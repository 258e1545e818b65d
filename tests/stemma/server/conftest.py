"""A tiny model behind the application, called without a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny
from stemma.server import ServerConfig, app


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    with Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=16384) as made:
        yield made


class Client:
    """Posts JSON and reads answers."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def post(self, path: str, status: int = 200, key: str | None = None, **body: Any) -> Any:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        response = await self.http.post(path, json=body, headers=headers)
        assert response.status_code == status, response.text
        return response.json()

    async def get(self, path: str, status: int = 200, key: str | None = None) -> Any:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        response = await self.http.get(path, headers=headers)
        assert response.status_code == status, response.text
        return response.json()

    async def stream(self, path: str, **body: Any) -> list[dict[str, Any]]:
        """The events of a stream, which must end with [DONE]."""
        response = await self.http.post(path, json={**body, "stream": True})
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
        assert lines.pop() == "[DONE]"
        return [json.loads(line) for line in lines]


@asynccontextmanager
async def serving(engine: Engine, config: ServerConfig) -> AsyncIterator[Client]:
    application = app(engine, config)
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield Client(http)
    application.state.service.close()


@pytest.fixture
async def client(engine: Engine) -> AsyncIterator[Client]:
    async with serving(engine, ServerConfig(model_name="tiny")) as made:
        yield made


@pytest.fixture
def serve_with() -> Any:
    """`serving`, for tests that want a configuration of their own."""
    return serving

"""A live server with the real model, for the clients that people use."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from stemma.runtime.engine import Engine
from stemma.server import ApiKey, ServerConfig
from tests.stemma.server.live import live_server

KEY = "sk-contract"


class Served(NamedTuple):
    """Where the server is, and what lets one in."""

    url: str
    key: str
    model: str
    engine: Engine

    @property
    def base(self) -> str:
        """The base URL of OpenAI's clients."""
        return f"{self.url}/v1"


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    with Engine(kv_tokens=32768) as engine:
        config = ServerConfig(model_name="smollm2", api_keys=(ApiKey("contract", KEY),), shutdown_seconds=1)
        with live_server(engine, config) as live:
            yield Served(live.url, KEY, "smollm2", engine)

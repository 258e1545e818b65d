"""Streams of events, closed by whoever reads them."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from stemma.server.config import ServerConfig
from stemma.server.http.replies import EventReply


async def test_a_stream_is_closed_when_its_reader_goes() -> None:
    closed: list[bool] = []

    async def events() -> AsyncGenerator[bytes]:
        try:
            yield b"data: 1\n\n"
            yield b"data: 2\n\n"
        finally:
            closed.append(True)

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body"):
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await EventReply(events(), ServerConfig())({"type": "http"}, receive, send)
    assert closed == [True]

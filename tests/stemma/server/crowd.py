"""Many clients of all APIs at once, each with a stream of its own; some go away in the middle, some cancel."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx

PATIENCE = 120.0
"""Seconds for one client: whoever waits longer is said to hang."""

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 12, "stream": True}


class Api(NamedTuple):
    """How an API is asked for a stream, and what its last line is like.."""

    path: str
    body: dict[str, Any]
    is_end: Callable[[Any], bool]


APIS: Mapping[str, Api] = {
    "chat": Api("/v1/chat/completions", CHAT, lambda said: said == "[DONE]"),
    "responses": Api(
        "/v1/responses",
        {"model": "tiny", "input": "hi", "max_output_tokens": 12, "stream": True, "store": True},
        lambda said: said["type"] in ("response.completed", "response.incomplete"),
    ),
    "messages": Api("/v1/messages", CHAT, lambda said: said["type"] == "message_stop"),
    "ollama": Api("/api/chat", {**CHAT, "options": {"num_predict": 12}}, lambda said: said.get("done") is True),
    "generate": Api(
        "/generate",
        {"text": "hi", "sampling_params": {"max_new_tokens": 12}, "stream": True},
        lambda said: said == "[DONE]",
    ),
}


@dataclass
class Seen:
    """What became of everybody. kept: texts of the responses that were told to be complete, by their ids. begun: ids of
    the responses in the background."""

    ends: list[tuple[str, str]] = field(default_factory=list)
    kept: dict[str, str] = field(default_factory=dict)
    begun: list[str] = field(default_factory=list)

    def count(self, end: str) -> int:
        """How many ended so."""
        return sum(each == end for _, each in self.ends)


async def crowd(url: str, kinds: Sequence[str], num_clients: int, seen: Seen) -> None:
    """All of them at once: every fourth goes away in the middle, every tenth asks for an answer in the background and
    cancels it."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, limits=limits) as http:
        await asyncio.gather(*(_client(http, kinds, at, seen) for at in range(num_clients)))


async def _client(http: httpx.AsyncClient, kinds: Sequence[str], at: int, seen: Seen) -> None:
    turn, place = divmod(at, len(kinds))
    kind, leaves_after = kinds[place], 1 + turn % 7 if turn % 4 == 1 else None
    asked = _background(http, seen) if turn % 10 == 8 else _stream(http, APIS[kind], at, leaves_after, seen)
    try:
        seen.ends.append((kind, await asyncio.wait_for(asked, PATIENCE)))
    except (TimeoutError, httpx.TimeoutException):
        seen.ends.append((kind, "hangs"))
    except httpx.TransportError:
        seen.ends.append((kind, "refused"))  # the server is not there


async def _stream(http: httpx.AsyncClient, api: Api, seed: int, leaves_after: int | None, seen: Seen) -> str:
    num_lines, last = 0, None
    async with http.stream("POST", api.path, json={**api.body, "seed": seed}) as response:
        if response.status_code != 200:
            return f"status {response.status_code}"
        async for line in response.aiter_lines():
            if not line or line.startswith(("event:", ":")):
                continue
            text = line.removeprefix("data: ")
            last = text if text == "[DONE]" else json.loads(text)
            num_lines += 1
            if num_lines == leaves_after:
                return "left"
            if isinstance(last, dict) and "error" in last and "response" not in last:
                return "error"
            if isinstance(last, dict) and last.get("type") in ("error", "response.failed"):
                return "error"
    if last is None or not api.is_end(last):
        return "cut"
    if api.path == "/v1/responses":
        answer = last["response"]
        seen.kept[answer["id"]] = answer["output"][0]["content"][0]["text"]
    return "whole"


async def _background(http: httpx.AsyncClient, seen: Seen) -> str:
    asked = {"model": "tiny", "input": "hi", "max_output_tokens": 200, "background": True, "store": True}
    answer = await http.post("/v1/responses", json=asked)
    if answer.status_code != 200:
        return f"status {answer.status_code}"
    name = answer.json()["id"]
    seen.begun.append(name)
    cancelled = await http.post(f"/v1/responses/{name}/cancel")
    return "cancelled" if cancelled.status_code == 200 else f"status {cancelled.status_code}"

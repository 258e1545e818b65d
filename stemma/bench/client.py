"""One request to a server of OpenAI's API, streamed, with the time of every piece. Knows no other server's fields."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx

from stemma.runtime.errors import StemmaError

Message = dict[str, str]


class ServerUnfit(StemmaError):
    """The server cannot be measured: it does not answer, or not as OpenAI's API says."""


@dataclass(slots=True)
class Record:
    """What became of one request. Times are seconds of one clock.

    due: when it should have been sent: what a client waits for begins here, even where the load generator was late.
    sent, ended: when it was sent and when the answer was whole. pieces: when each piece with text came.
    prompt_tokens, cached_tokens, completion_tokens: as the server's usage says; cached None where it does not say.
    error: why there is no whole answer.
    """

    due: float
    sent: float = 0.0
    ended: float = 0.0
    pieces: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int | None = None
    completion_tokens: int = 0
    text: str = ""
    error: str | None = None

    @property
    def ttft(self) -> float:
        """Seconds to the first piece."""
        return self.pieces[0] - self.due

    @property
    def total(self) -> float:
        """Seconds to the end."""
        return self.ended - self.due

    @property
    def tpot(self) -> float | None:
        """Seconds of a further token; None without one."""
        return (self.pieces[-1] - self.pieces[0]) / (self.completion_tokens - 1) if self.completion_tokens > 1 else None

    @property
    def gaps(self) -> list[float]:
        """Seconds between pieces, of which one may hold several tokens."""
        return [after - before for before, after in pairwise(self.pieces)]


class Server:
    """A server by its address. model: asked for by name; found if the server has one only."""

    def __init__(self, http: httpx.AsyncClient, model: str) -> None:
        self.model = model
        self._http = http
        self._more: dict[str, Any] = {"ignore_eos": True}  # what vLLM, SGLang and llama.cpp have beyond OpenAI's fields

    @classmethod
    async def find(cls, http: httpx.AsyncClient, model: str | None) -> Server:
        """Raises ServerUnfit if it does not answer, or has several models and none is named."""
        if model is not None:
            return cls(http, model)
        try:
            reply = await http.get("/v1/models")
            reply.raise_for_status()
            names = [entry["id"] for entry in reply.json()["data"]]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise ServerUnfit(
                f"{str(http.base_url).rstrip('/')}/v1/models does not answer as OpenAI's API does: {error}"
            ) from error
        if not names:
            raise ServerUnfit(f"{http.base_url} serves no model")
        return cls(http, names[0])

    async def tokens_a_word(self, words: Sequence[str]) -> float:
        """Of its tokenizer, by the usage that it reports of two prompts. Raises ServerUnfit if it reports none."""
        counts = []
        for count in (1, 1 + len(words)):
            text = " ".join([words[0], *words[: count - 1]])
            messages = [{"role": "user", "content": text}]
            record = await self.ask(messages, 1, 0.0)
            if record.error is not None and "ignore_eos" in record.error:
                self._more = {}
                record = await self.ask(messages, 1, 0.0)
            if record.error is not None or not record.prompt_tokens:
                raise ServerUnfit(f"a first request failed: {record.error or 'its usage says no prompt_tokens'}")
            counts.append(record.prompt_tokens)
        return max(0.1, (counts[1] - counts[0]) / len(words))

    async def ask(self, messages: Sequence[Message], max_tokens: int, due: float) -> Record:
        """Never raises for what a server does: the record says it."""
        record, body = Record(due), self._body(messages, max_tokens)
        record.sent = time.perf_counter()
        try:
            async with self._http.stream("POST", "/v1/chat/completions", json=body) as reply:
                if reply.status_code != 200:
                    record.error = f"status {reply.status_code}: {(await reply.aread())[:200].decode(errors='replace')}"
                else:
                    await self._read(record, reply)
        except httpx.HTTPError as error:
            record.error = f"{type(error).__name__}: {error}"
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            record.error = f"the stream is not as OpenAI's API says: {error!r}"
        record.ended = time.perf_counter()
        if record.error is None and not record.pieces:
            record.error = "an answer without text"
        return record

    def _body(self, messages: Sequence[Message], max_tokens: int) -> dict[str, Any]:
        return {
            "model": self.model,
            "messages": list(messages),
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            **self._more,
        }

    async def _read(self, record: Record, reply: httpx.Response) -> None:
        parts = []
        async for event in _events(reply):
            now = time.perf_counter()
            if "error" in event:
                record.error = f"an error in the stream: {str(event['error'])[:200]}"
                return
            for choice in event.get("choices") or ():
                delta = choice.get("delta") or {}
                text = delta.get("content") or delta.get("reasoning_content") or delta.get("reasoning")
                if text:
                    record.pieces.append(now)
                    parts.append(text)
            if usage := event.get("usage"):
                record.prompt_tokens = usage["prompt_tokens"]
                record.completion_tokens = usage["completion_tokens"]
                record.cached_tokens = (usage.get("prompt_tokens_details") or {}).get("cached_tokens")
        record.text = "".join(parts)
        record.completion_tokens = record.completion_tokens or len(record.pieces)


async def _events(reply: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    """The data of server-sent events, up to [DONE]."""
    async for line in reply.aiter_lines():
        if line.startswith("data:"):
            data = line[5:].strip()
            if data == "[DONE]":
                return
            yield json.loads(data)

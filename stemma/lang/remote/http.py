"""A Stemma server over HTTP: calls, streams of generations, its errors as ours, and patience while it is busy.

Knows nothing of states or forms.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from stemma.runtime.core.sampling import TokenLogprob
from stemma.runtime.core.sequence import Usage
from stemma.runtime.engine import Completion, Delta, Timing
from stemma.runtime.errors import InvalidRequest, RemoteError

BUSY = (429, 503)
CONNECT_SECONDS = 10.0
MAX_CONNECTIONS = 256
MAX_PAUSE = 30.0
"""Seconds between two attempts, whatever the server says."""


class RemoteServer:
    """A server, as one client sees it. patience: seconds for which a busy one is asked again."""

    def __init__(self, url: str, api_key: str | None, patience: float) -> None:
        self._patience = patience
        self._http = httpx.AsyncClient(
            base_url=url.rstrip("/").removesuffix("/v1"),  # what the server prints, and OpenAI's clients want
            headers={} if api_key is None else {"authorization": f"Bearer {api_key}"},
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS),
        )

    async def close(self) -> None:
        """End all connections."""
        await self._http.aclose()

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One request, one JSON answer. Raises RemoteError or InvalidRequest."""
        async with self._opened(method, path, body) as response:
            await response.aread()
            return response.json()

    async def generate(self, body: dict[str, Any]) -> AsyncIterator[Delta | Completion]:
        """POST /v1/completions for one choice, by token ids. Raises RemoteError or InvalidRequest."""
        started = time.perf_counter()
        text, tokens, logprobs, usage = "", list[int](), list[TokenLogprob](), Usage()
        first, last = None, dict[str, Any]()
        asked = {**body, "stream": True, "stream_options": {"include_usage": True}, "return_token_ids": True}
        async with self._opened("POST", "/v1/completions", asked) as response:
            async for event in _events(response):
                if event.get("usage"):
                    usage = read_usage(event["usage"])
                for choice in event["choices"]:
                    if choice["finish_reason"]:
                        last = choice
                    delta = _delta(choice)
                    if delta.tokens or delta.text:
                        first = first or time.perf_counter()
                        text += delta.text
                        tokens += delta.tokens
                        logprobs += delta.logprobs
                        yield delta
        if not last:
            raise RemoteError("the server ended the stream before the answer was complete")
        ended = time.perf_counter()
        yield Completion(
            text,
            tuple(tokens),
            last["finish_reason"],
            usage,
            Timing(0.0, (first or ended) - started, ended - started),
            tuple(logprobs),
            _prompt_logprobs(body["prompt_token_ids"], last.get("prompt_logprobs") or []),
            tuple(last.get("jumped") or ()),
            last.get("stopped_by"),
        )

    @asynccontextmanager
    async def _opened(self, method: str, path: str, body: dict[str, Any] | None) -> AsyncIterator[httpx.Response]:
        """A good answer; a server that is busy is asked again for a while, after the time that it names."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                async with self._http.stream(method, path, json=body) as response:
                    if response.status_code == 200:
                        yield response
                        return
                    await response.aread()
            except httpx.HTTPError as error:
                raise _unreachable(error) from error
            pause = _pause(response)
            if response.status_code not in BUSY or time.monotonic() + pause > deadline:
                raise _error(response)
            await asyncio.sleep(pause)


async def _events(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in _lines(response):
        if not line.startswith("data: ") or line == "data: [DONE]":
            continue
        event = json.loads(line.removeprefix("data: "))
        if "error" in event:
            raise RemoteError(f"the server failed: {event['error'].get('message')}")
        yield event


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """Lines of a stream of events. httpx's own end at every separator of Unicode, which texts in JSON may hold."""
    rest = ""
    async for text in response.aiter_text():
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            yield line.removesuffix("\r")


def _delta(choice: dict[str, Any]) -> Delta:
    record = choice["logprobs"]
    logprobs: tuple[TokenLogprob, ...] = ()
    if record is not None:
        rows = zip(record["token_ids"], record["token_logprobs"], record["top_token_ids"], strict=True)
        logprobs = tuple(
            TokenLogprob(token, value, tuple((other, at) for other, at in top)) for token, value, top in rows
        )
    return Delta(choice["text"], tuple(choice.get("token_ids") or ()), logprobs)


def _prompt_logprobs(prompt: list[int], report: list[dict[str, Any] | None]) -> tuple[TokenLogprob, ...]:
    scores = []
    for token, found in zip(prompt, report, strict=False):
        if found is not None:
            ranked = sorted((each["rank"], int(name), each["logprob"]) for name, each in found.items() if each["rank"])
            top = tuple((other, value) for _, other, value in ranked)
            scores.append(TokenLogprob(token, found[str(token)]["logprob"], top))
    return tuple(scores)


def read_usage(report: dict[str, Any]) -> Usage:
    """The usage of one answer."""
    told = {name: count for name, count in report["stemma"].items() if name in Usage._fields}
    return Usage(**{**told, "prompt_tokens": report["prompt_tokens"], "completion_tokens": report["completion_tokens"]})


def _pause(response: httpx.Response) -> float:
    """Seconds until the server wants to be asked again."""
    named = response.headers.get("retry-after", "")
    return min(MAX_PAUSE, float(named)) if named.isdigit() else 1.0


def _unreachable(error: httpx.HTTPError) -> RemoteError:
    return RemoteError(
        f"the server cannot be reached: {error or type(error).__name__}; is `stemma serve` running there?"
    )


def _error(response: httpx.Response) -> Exception:
    try:
        said = response.json()["error"]
        message, param = str(said["message"]), said.get("param")
    except (ValueError, KeyError, TypeError):
        message, param = response.text[:200], None
    if response.status_code == 400:
        return InvalidRequest(message, str(param))
    return RemoteError(f"the server says {response.status_code}: {message}", response.status_code)

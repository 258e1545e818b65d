"""Sends sessions at a pace and keeps what became of every request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import httpx

from stemma.bench.client import Message, Record, Server
from stemma.bench.options import LoadOptions
from stemma.bench.pacing import Pace
from stemma.bench.traces import read_trace
from stemma.bench.workloads import WORDS, Session, Shape, make_sessions
from stemma.runtime.errors import InvalidRequest

Progress = Callable[[int, int], None]
"""Called with requests that ended, and all of them."""
RunProgress = Callable[[str, int, int], None]
"""The same, with the name of the run's pace before it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """One run. records: in the order in which requests ended. seconds: from the first that was due to the last end."""

    pace: Pace
    records: list[Record]
    seconds: float


def client(url: str, key: str | None, timeout: float) -> httpx.AsyncClient:
    """For as many connections as it takes: a pool that is full would hide in the latencies."""
    if key is not None and not key.isascii():
        raise InvalidRequest("a key goes in a header, which has ASCII only", "key")
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(base_url=url, headers=headers, timeout=httpx.Timeout(timeout), limits=limits)


async def measure_all(
    url: str, key: str | None, shape: Shape, options: LoadOptions, keep: Callable[[Measured], None],
    progress: RunProgress | None = None,
) -> None:  # fmt: skip
    """A run at each pace. Each asks what none before it did, so that no run finds another's prompts cached.

    keep: is given each run as it ends, and what there is of one that is cancelled.
    Raises ServerUnfit for a server that cannot be measured, InvalidRequest for a trace that cannot be read or played.
    """
    paces = options.paces
    async with client(url, key, options.timeout) as http:
        server = await Server.find(http, options.model)
        tokens_a_word = await server.tokens_a_word(WORDS)
        planned = []
        for number, pace in enumerate(paces):  # before anything is measured: what cannot be played costs no time
            seed = shape.seed + number
            if options.trace is not None:
                sessions = read_trace(options.trace, tokens_a_word, options.requests, salt=number)
            else:
                sessions = make_sessions(replace(shape, seed=seed), options.requests, tokens_a_word)
            pace.starts(sessions, seed)
            planned.append((sessions, pace, seed))
        before = make_sessions(replace(shape, seed=shape.seed - 1), options.warmup, tokens_a_word)
        await measure(server, before, Pace(concurrency=1))
        for sessions, pace, seed in planned:
            told = None if progress is None else partial(progress, pace.name)
            await measure(server, sessions, pace, seed, keep, told)


async def measure(
    server: Server, sessions: Sequence[Session], pace: Pace, seed: int = 0,
    keep: Callable[[Measured], None] = lambda _: None, progress: Progress | None = None,
) -> Measured:  # fmt: skip
    """All sessions, at that pace. What fails is a record too. keep: see `measure_all`."""
    starts = pace.starts(sessions, seed)
    total = sum(len(session.turns) for session in sessions)
    gate = nullcontext() if pace.most_at_once is None else asyncio.Semaphore(pace.most_at_once)
    records: list[Record] = []
    began = time.perf_counter()

    async def one(session: Session, start: float) -> None:
        await asyncio.sleep(max(0.0, began + start - time.perf_counter()))
        async with gate:
            messages: list[Message] = [{"role": "system", "content": session.system}] if session.system else []
            due = time.perf_counter() if pace.most_at_once is not None else began + start
            for turn in session.turns:
                messages.append({"role": "user", "content": turn.text})
                record = await server.ask(messages, turn.max_tokens, due)
                records.append(record)
                if progress is not None:
                    progress(len(records), total)
                if record.error is not None:
                    break
                messages.append({"role": "assistant", "content": record.text})
                due = time.perf_counter()

    try:
        async with asyncio.TaskGroup() as tasks:
            for session, start in zip(sessions, starts, strict=True):
                tasks.create_task(one(session, start))
    finally:
        ended = max((record.ended for record in records), default=began)
        run = Measured(pace, records, ended - began)
        keep(run)
    return run

"""Pictures of the radix tree as flat JSON: for the page at /tree and for whoever asks. Taken between two steps, made
beside the event loop, shared by all who watch."""

from __future__ import annotations

import asyncio
import hashlib
import time
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from stemma.radix import CacheStats, Lease, MarkStats
from stemma.runtime.core.scheduler import Scheduler
from stemma.runtime.core.sequence import Request, Usage
from stemma.runtime.engine import Engine
from stemma.runtime.engine.tree import owner
from stemma.server.cache.view import visible, visible_counters
from stemma.server.http.keys import Tenant

MIN_SECONDS = 0.4
HEAD_TOKENS, TAIL_TOKENS = 48, 16


class RawNode(NamedTuple):
    """A node as it is read between two steps. key, parent: identities that hold within one reading. scope: the
    namespace whose text it is. marks: positions at which a model with windows or states can go on."""

    key: int
    parent: int
    scope: str
    start: int
    tokens: bytes
    num_blocks: int
    references: int
    hits: int
    used: float
    marks: list[int]


class RawRun(NamedTuple):
    """A running sequence. shared: where its first token is, if it begins with what all share, and how much of it that
    is. num_published: how many of its tokens are in the tree."""

    namespace: str
    shared: tuple[str, int] | None
    tokens: list[int]
    num_prompt: int
    num_published: int
    usage: Usage


class CacheSnapshot(NamedTuple):
    """All that is read between two steps."""

    nodes: list[RawNode]
    runs: list[RawRun]
    stats: CacheStats
    num_waiting: int
    now: float


def read(scheduler: Scheduler) -> CacheSnapshot:
    """Read everything, quickly: the engine waits meanwhile."""
    nodes = [
        RawNode(
            id(node),
            id(node.parent),
            owner(node),
            node.start,
            node.tokens,
            node.owned,
            node.ref_count,
            node.hits,
            node.last_access,
            sorted(node.marks or ()),
        )
        for node in scheduler.cache.walk()
    ]
    runs = [
        RawRun(
            run.request.namespace,
            _shared_of(run.request, run.lease),
            run.tokens[:],
            run.num_prompt,
            run.lease.num_published,
            run.usage,
        )
        for run in scheduler.running
        if run.lease is not None
    ]
    return CacheSnapshot(nodes, runs, scheduler.cache.stats(), len(scheduler.waiting), time.monotonic())


def _shared_of(request: Request, lease: Lease) -> tuple[str, int] | None:
    return None if request.shared is None or lease.public_len is None else request.shared[:2]


@dataclass(frozen=True, slots=True)
class Picture:
    """A reading as JSON values. A node's id is a digest of the path to its end: the same prefix, the same id."""

    time: float
    counters: dict[str, Any]
    by_id: dict[str, dict[str, Any]]

    def nodes(self, tenant: Tenant) -> dict[str, dict[str, Any]]:
        """The nodes that this caller may see."""
        return visible(self.by_id, tenant)

    def told_counters(self, nodes: Mapping[str, dict[str, Any]], tenant: Tenant) -> dict[str, Any]:
        """The counters for a caller who sees these nodes."""
        return visible_counters(self.counters, nodes, tenant)

    def report(self, tenant: Tenant) -> dict[str, Any]:
        """All of it."""
        nodes = self.nodes(tenant)
        return {"time": self.time, "counters": self.told_counters(nodes, tenant), "nodes": list(nodes.values())}


class TreeFeed:
    """The latest picture, at most MIN_SECONDS old, however many watch."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._picture: Picture | None = None
        self._taken_at = 0.0
        self._lock = asyncio.Lock()
        self._clock = time.time() - time.monotonic()  # the same for all pictures, or times would seem to change

    async def latest(self) -> Picture:
        """Raises EngineClosed."""
        async with self._lock:
            if self._picture is None or time.monotonic() - self._taken_at > MIN_SECONDS:
                self._picture = await asyncio.to_thread(self._take)
                self._taken_at = time.monotonic()
            return self._picture

    def _take(self) -> Picture:
        reading = self._engine.with_scheduler(read)
        finished = self._engine.stats().metrics
        return draw(
            reading, finished.usage, sum(finished.num_finished.values()), self._engine, self._picture, self._clock
        )


def draw(
    reading: CacheSnapshot, usage: Usage, num_finished: int, engine: Engine, before: Picture | None, offset: float
) -> Picture:
    """Make a picture. Texts of nodes that the picture before had are taken from there. offset: from the monotonic clock
    to the time of day."""
    texts = Texts(engine, before)
    by_id: dict[str, dict[str, Any]] = {}
    paths: dict[int, Any] = {}
    names: dict[int, str] = {}
    scopes: dict[int, str] = {}
    for raw in reading.nodes:
        path = paths[raw.parent].copy() if raw.parent in paths else _root(raw.scope)
        if scopes.get(raw.parent, raw.scope) != raw.scope:
            path.update(_name(raw.scope))  # two may go on from one text by the same words
        scopes[raw.key] = raw.scope
        path.update(raw.tokens)
        paths[raw.key] = path
        name = names[raw.key] = path.hexdigest()
        num_tokens = len(raw.tokens) // 4
        by_id[name] = {
            "id": name,
            "parent": names.get(raw.parent),
            "namespace": raw.scope,
            "start": raw.start,
            "tokens": num_tokens,
            "blocks": raw.num_blocks,
            "references": raw.references,
            "hits": raw.hits,
            "used": round(raw.used + offset, 1),
            "marks": raw.marks,
            "text": texts.of(name, num_tokens, raw.tokens),
        }
    num_same: Counter[str] = Counter()
    for run in reading.runs:
        name = _digest_of(run)
        num_same[name] += 1
        node = _running(f"run-{num_same[name]}-{name}", run, texts)
        by_id[node["id"]] = node
        usage += run.usage
    stats = reading.stats
    counters = {
        "cached": usage.cached_tokens,
        "replayed": usage.replayed_tokens,
        "prefilled": usage.prefilled_tokens,
        "decoded": usage.decoded_tokens,
        "jumped": usage.jumped_tokens,
        "running": len(reading.runs),
        "waiting": reading.num_waiting,
        "finished": num_finished,
        "blocks_total": stats.total,
        "blocks_free": stats.free,
        "blocks_leased": stats.leased,
        "blocks_cached": stats.cached,
        "evicted_blocks": stats.evicted_blocks,
    }
    return Picture(round(reading.now + offset, 1), counters | _of_marks(stats.marks), by_id)


def _of_marks(marks: MarkStats | None) -> dict[str, int]:
    """The counters that only models with windows or states have."""
    if marks is None:
        return {}
    return {
        "marks": marks.num_marks,
        "slots_total": marks.slots,
        "slots_free": marks.free_slots,
        "window_blocks_total": marks.window_blocks,
        "window_blocks_free": marks.free_window_blocks,
    }


def _running(name: str, run: RawRun, texts: Texts) -> dict[str, Any]:
    """A leaf for a sequence, below the last node of it that is in the tree."""
    data = array("i", run.tokens).tobytes()
    root, public_len = run.shared or (run.namespace, 0)
    path = _root(root)
    path.update(data[: 4 * public_len])
    if public_len and run.num_published > public_len:
        path.update(_name(run.namespace))
    path.update(data[4 * public_len : 4 * run.num_published])
    parent = path.hexdigest() if run.num_published else None
    path.update(data[4 * run.num_published :])
    return {
        "id": name,
        "parent": parent,
        "namespace": run.namespace,
        "start": run.num_published,
        "tokens": len(run.tokens) - run.num_published,
        "running": len(run.tokens) - run.num_prompt,
        "text": texts.excerpt(data[4 * run.num_published :]),
    }


def _digest_of(run: RawRun) -> str:
    path = _root(run.namespace)
    path.update(array("i", run.tokens[: run.num_prompt]).tobytes())
    return str(path.hexdigest())


def _root(scope: str) -> Any:
    return hashlib.blake2b(_name(scope), digest_size=8)


def _name(scope: str) -> bytes:
    return scope.encode("utf-8", "surrogatepass") + b"\0"


class Texts:
    """Excerpts of nodes' texts."""

    def __init__(self, engine: Engine, before: Picture | None) -> None:
        self._tokenizer = engine.loaded.tokenizer
        self._known = before.by_id if before is not None else {}

    def of(self, name: str, num_tokens: int, data: bytes) -> str:
        """The excerpt of a node, taken from the picture before if it is the same."""
        known = self._known.get(name)
        if known is not None and known["tokens"] == num_tokens:
            return str(known["text"])
        return self.excerpt(data)

    def excerpt(self, data: bytes) -> str:
        """The beginning and the end."""
        tokens = memoryview(data).cast("i")
        if len(tokens) <= HEAD_TOKENS + TAIL_TOKENS:
            return self._tokenizer.decode(tokens)
        head, tail = tokens[:HEAD_TOKENS], tokens[len(tokens) - TAIL_TOKENS :]
        return f"{self._tokenizer.decode(head)} … {self._tokenizer.decode(tail)}"

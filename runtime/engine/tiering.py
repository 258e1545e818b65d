"""Tiers beneath the cache of one engine: which blocks are read out for them, and how those that come back are put in.

    published   full blocks of a path that some tier lacks are copied between two steps, and written behind the engine
    ask         the blocks that a waiting request lacks are loaded while it waits: no longer than computing them takes
    fill        what came goes into the cache as if it had been computed, and is found there as any hit

Where one can go on only at marks, those that stand where a block ends are kept beside its block, under the same hash
and another fingerprint; each request leaves one behind the last block of its prompt. What comes back ends at a mark.

All that stands here is called by the loop's thread, but for what the threads of the tiers do (stemma.runtime.tiers).
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from struct import Struct

import numpy as np

from stemma.kernels.ops import Int32Array
from stemma.radix import Explanation, Mark, Namespace, PrefixCache, path_hashes
from stemma.runtime.core import sequence as core
from stemma.runtime.core.beneath import Want
from stemma.runtime.core.config import EngineConfig
from stemma.runtime.engine.loading import MarkBytes, PathBytes
from stemma.runtime.engine.loop import EngineLoop
from stemma.runtime.engine.metrics import EngineStats
from stemma.runtime.engine.saving import Saver
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model import LoadedModel
from stemma.runtime.tiers import Fetch, Fetcher, NearTier, Stack, Tier, TierOptions, Watcher, Writer, key_of, open_tiers
from stemma.runtime.tiers.records import fingerprint

FORMAT = 1
"""Counts up when what stands in blocks means something else."""
MARKS = b"marks"
COUNT = Struct("<I")
"""Before a mark's bytes: how many window blocks it has."""
LEAST_TOKENS = 64
"""Fewer missing ones are computed: they cost less than being asked for."""
LEAST_WAIT, MOST_WAIT = 0.02, 10.0
UNKNOWN_WAIT = 1.0
"""Seconds that somebody waits where nobody knows yet what computing takes."""
GB = 1_000_000_000
LEAST_BLOCKS = 64
"""That have room on their way, however large they are."""
CLOSING_SECONDS = 10.0


@dataclass(slots=True, eq=False)
class _Path:
    """Of one sequence. hashes: of its first full blocks. num_offered: blocks that the tiers were told of."""

    namespace: Namespace
    hashes: list[bytes] = field(default_factory=list)
    num_offered: int = 0


@dataclass(slots=True, eq=False)
class _Coming:
    """What a waiting sequence asked for. fetch: None while there is no room to load it. asked: when, by the monotonic
    clock."""

    sequence: core.Sequence
    want: Want
    fetch: Fetch | None
    asked: float


class Tiering:
    """See `Beneath`. buffer_bytes: of blocks on their way, in each direction. wake: has the loop look again."""

    def __init__(
        self, saver: Saver, cache: PrefixCache, tiers: Sequence[Tier], buffer_bytes: int, wake: Callable[[], None]
    ) -> None:
        self._cache, self._memory = cache, saver.memory
        identity = identity_of(saver)
        self._mark, self._mark_of_marks = fingerprint(identity), fingerprint(identity + MARKS)
        self.stack = Stack(tiers)
        self.writer = Writer(self.stack, buffer_bytes)
        self._fetcher = Fetcher(self.stack, self.writer, self._memory.block_bytes, buffer_bytes, wake)
        self._paths: dict[int, _Path] = {}  # by id of the sequence
        self._coming: dict[int, _Coming] = {}  # likewise
        self.num_filled = 0

    # What the scheduler asks ----------------------------------------------------------------
    def ask(self, sequence: core.Sequence, want: Want) -> None:
        self._drop(sequence)
        if (want.end - want.first) * self._memory.block_size < LEAST_TOKENS:
            return
        keys = self._keys(sequence, want.namespace, want.first, want.end)
        if self.stack.may_have(keys[0]):
            self._coming[id(sequence)] = _Coming(
                sequence, want, self._fetch(sequence, want, keys), time.monotonic()
            )  # fmt: skip

    def is_coming(self, sequence: core.Sequence, hit_len: int) -> bool:
        coming = self._coming.get(id(sequence))
        if coming is None:
            return False
        if hit_len // self._memory.block_size >= coming.want.end:
            self._drop(sequence)
            return False
        if coming.fetch is None:
            coming.fetch = self._fetch(sequence, coming.want, self._keys(sequence, *coming.want[:3]))
        if coming.fetch is not None and coming.fetch.until == math.inf:  # from now on it waits for nothing else
            now = time.monotonic()
            coming.fetch.until = now + patience(coming.want.seconds, sequence.request.ttft, now - coming.asked)
        return coming.fetch is not None and not _is_over(coming.fetch)

    def arrived(self) -> list[core.Sequence]:
        return [
            each.sequence for each in self._coming.values() if each.fetch is not None and _is_over(each.fetch)
        ]  # fmt: skip

    def fill(self, sequence: core.Sequence, room: int) -> int:
        coming = self._coming.get(id(sequence))
        if coming is None or coming.fetch is None:
            return 0
        want, fetch, size = coming.want, coming.fetch, self._memory.block_size
        payloads, mark = fetch.payloads[:], self._mark_that_came(fetch)
        if len(payloads) > room:
            return 0
        self._drop(sequence)
        ids = np.array(sequence.tokens[: (want.first + len(payloads)) * size], dtype=np.int32)
        before = self._cache.match(ids, want.namespace).hit_len
        if before >= len(ids) or (self._cache.has_marks and mark is None):
            return 0
        with self._cache.acquire_uncounted(ids, want.namespace) as lease:
            path = PathBytes(self._memory, ids, want.first, payloads, {} if mark is None else {len(ids): mark})
            path.fill(lease, self._cache, self._cache.available, evicts=True)
        cached = self._cache.match(ids, want.namespace).hit_len
        self.num_filled += max(0, cached - before)
        return cached

    def marks_at(self, sequence: core.Sequence, max_hit: int) -> Iterable[int]:
        if not self._cache.has_marks:
            return ()
        size = self._memory.block_size
        ends = {at // size * size for at in (max_hit, *sequence.request.marks_at) if at <= max_hit}
        return sorted(ends - {0})

    def published(self, sequence: core.Sequence) -> None:
        self._drop(sequence)
        lease = sequence.lease
        assert lease is not None
        namespace: Namespace = sequence.request.namespace
        if lease.public_len is not None and sequence.request.shared is not None:
            namespace = sequence.request.shared
        end, path = lease.num_published // self._memory.block_size, self._path(sequence, namespace)
        first, path.num_offered = path.num_offered, end
        for index, key in enumerate(self._keys(sequence, namespace, first, end), start=first):
            self.writer.offer(key, self._memory.block_bytes, partial(self._memory.read_block, lease.blocks[index]))
        if self._cache.has_marks and first < end:
            self._offer_marks(sequence, namespace, first, end)

    def forget(self, sequence: core.Sequence) -> None:
        self._drop(sequence)
        self._paths.pop(id(sequence), None)

    # Others ----------------------------------------------------------------
    def explained(self, found: Explanation, ids: Int32Array, namespace: Namespace) -> Explanation:
        """With how many tokens behind the match are in tiers that say so at once."""
        size, match_len = self._memory.block_size, found.match_len
        hashes = path_hashes(ids, namespace, size)[match_len // size :]
        count = self.stack.num_near([key_of(self._mark, each) for each in hashes])
        if self._cache.has_marks:
            keys = [key_of(self._mark_of_marks, each) for each in hashes[:count]]
            count = next((index for index in range(count, 0, -1) if self.stack.num_near(keys[index - 1 : index])), 0)
        end = (match_len // size + count) * size
        return found._replace(beneath_len=max(0, end - match_len))

    def told(self, stats: EngineStats) -> EngineStats:
        """With what the tiers have done."""
        tiers, left_out = tuple(self.stack.stats()), self.writer.num_left_out
        return replace(stats, tiers=tiers, num_filled=self.num_filled, num_left_out=left_out)

    def watch(self, make: Callable[[str, Callable[[], list[bytes]]], Watcher]) -> None:
        """Have somebody hear which blocks the near tiers have, by their event hashes. make: of a medium, and of what
        gives all hashes that its tier has now. Before the first request: what changes meanwhile is not told."""
        for tier in self.stack.near:
            tier.watcher = _OfThisModel(self._mark, make(tier.medium, partial(self._held, tier)))

    def close(self) -> None:
        """Write what waits, and end the threads."""
        self._fetcher.close()
        self.writer.close(CLOSING_SECONDS)
        self.stack.close()

    # Within ----------------------------------------------------------------
    def _held(self, tier: NearTier) -> list[bytes]:
        return _hashes(self._mark, tier.keys())

    def _offer_marks(self, sequence: core.Sequence, namespace: Namespace, first: int, end: int) -> None:
        """Those behind the blocks [first, end) of a path that is published."""
        size, keys = self._memory.block_size, self._keys(sequence, namespace, 0, end, of_marks=True)
        for mark in self._cache.marks(sequence.tokens[: end * size], namespace):
            if mark.position % size == 0 and mark.position > first * size:
                num_bytes = COUNT.size + self._memory.mark_bytes(len(mark.window_blocks))
                self.writer.offer(keys[mark.position // size - 1], num_bytes, partial(self._mark_bytes, mark))

    def _mark_bytes(self, mark: Mark) -> bytes:
        return COUNT.pack(len(mark.window_blocks)) + self._memory.read_mark(mark)

    def _mark_that_came(self, fetch: Fetch) -> MarkBytes | None:
        """The one behind all blocks that came, if it is what was written."""
        if fetch.mark is None or len(fetch.payloads) != fetch.num_wanted or len(fetch.mark) < COUNT.size:
            return None
        (count,) = COUNT.unpack_from(fetch.mark)
        data = fetch.mark[COUNT.size :]
        return MarkBytes(count, data) if len(data) == self._memory.mark_bytes(count) else None

    def _fetch(self, sequence: core.Sequence, want: Want, keys: Sequence[bytes]) -> Fetch | None:
        if not self._fetcher.has_room:
            return None
        marks = self._keys(sequence, *want[:3], of_marks=True) if self._cache.has_marks else ()
        fetch = Fetch(keys, want.seconds, mark_keys=marks)
        self._fetcher.ask(fetch)
        return fetch

    def _drop(self, sequence: core.Sequence) -> None:
        coming = self._coming.pop(id(sequence), None)
        if coming is not None and coming.fetch is not None:
            self._fetcher.drop(coming.fetch)

    def _path(self, sequence: core.Sequence, namespace: Namespace) -> _Path:
        path = self._paths.get(id(sequence))
        if path is None or path.namespace != namespace:
            path = self._paths[id(sequence)] = _Path(namespace)
        return path

    def _keys(
        self, sequence: core.Sequence, namespace: Namespace, first: int, end: int, *, of_marks: bool = False
    ) -> list[bytes]:
        """Of the blocks [first, end) of its tokens, or of the marks behind them."""
        path, size = self._path(sequence, namespace), self._memory.block_size
        if len(path.hashes) < end:
            path.hashes = path_hashes(sequence.tokens[: end * size], namespace, size, path.hashes)
        mark = self._mark_of_marks if of_marks else self._mark
        return [key_of(mark, each) for each in path.hashes[first:end]]


@dataclass(frozen=True, slots=True)
class _OfThisModel:
    """Passes on what is of this engine's KV: the hashes behind its fingerprint."""

    mark: bytes
    watcher: Watcher

    def stored(self, keys: Sequence[bytes]) -> None:
        self.watcher.stored(_hashes(self.mark, keys))

    def removed(self, keys: Sequence[bytes]) -> None:
        self.watcher.removed(_hashes(self.mark, keys))


def _hashes(mark: bytes, keys: Sequence[bytes]) -> list[bytes]:
    return [key[len(mark) :] for key in keys if key.startswith(mark)]


def patience(seconds: float, ttft: float | None, waited: float) -> float:
    """Seconds that a request waits for what takes so many to compute (0: nobody knows), of which a first token is due
    within `ttft` and that has waited already: computing it behind that must still be in time."""
    wait = min(MOST_WAIT, seconds or UNKNOWN_WAIT)
    if ttft is not None:
        left = ttft - waited
        wait = min(wait, left - seconds if seconds else left / 2)
    return max(LEAST_WAIT, wait)


def put_beneath(loop: EngineLoop, make_saver: Callable[[], Saver], options: TierOptions) -> Tiering | None:
    """The tiers of an engine, if it has some; they end with its loop. Raises InvalidRequest, with the loop ended."""
    if options.is_empty:
        return None
    try:
        saver = make_saver()
        room, wake = _buffer_bytes(saver.memory.block_bytes), partial(loop.post, _nothing)
        tiering = Tiering(saver, loop.scheduler.cache, open_tiers(options), room, wake)
    except BaseException:
        loop.close()
        raise
    loop.at_end(tiering.close)
    loop.scheduler.admission.beneath = tiering
    return tiering


def _nothing() -> None:
    """What wakes the loop."""


def tier_options(config: EngineConfig, loaded: LoadedModel) -> TierOptions:
    """What the options name. Raises InvalidRequest for what this engine cannot have."""
    folder = None if config.kv_disk is None else Path(config.kv_disk)
    options = TierOptions(
        int(config.kv_host_gb * GB), folder, int(config.kv_disk_gb * GB), config.kv_shared,
        int(config.kv_shared_gb * GB),
    )  # fmt: skip
    if options.is_empty:
        return options
    name = "kv_disk" if config.kv_disk is not None else "kv_shared" if config.kv_shared is not None else "kv_host_gb"
    if not config.prefix_cache:
        raise InvalidRequest(f"{name} keeps what the prefix cache has: leave prefix_cache on", name)
    if options.host_bytes and loaded.model.ops.free_memory() is None:
        raise InvalidRequest("kv_host_gb is for a GPU: here KV lies in the host's memory; raise memory", "kv_host_gb")
    return options


def _buffer_bytes(block_bytes: int) -> int:
    """Of blocks on their way in one direction: a 64th of the machine's memory, 1 GB at most."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(min(machine // 64, GB), LEAST_BLOCKS * block_bytes)


def identity_of(saver: Saver) -> bytes:
    """All that must be equal for KV to be of use, to the last bit of what the model says of its probe."""
    probe = np.array(saver.probe, dtype=np.float32).tobytes().hex()
    return json.dumps([FORMAT, saver.identity, probe], sort_keys=True).encode()


def _is_over(fetch: Fetch) -> bool:
    return fetch.is_done or time.monotonic() >= fetch.until

"""Whether one that waits may start, and with which part of the cache. Decides; the scheduler acts."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stemma.radix import AdmissionEstimator, Lease, Namespace, PrefixCache, Progress, Segments
from stemma.runtime.core.beneath import NOTHING, Beneath, Want
from stemma.runtime.core.failures import release_lease
from stemma.runtime.core.sequence import Sequence
from stemma.runtime.errors import PoolExhausted


class Blocker(NamedTuple):
    """Whose blocks a waiting sequence waits for, and how many of its tokens those must share who wait for the same;
    None where it waits alone: for its own, which are loaded."""

    sequence: Sequence
    depth: int | None


class Admission:
    """Hits, deferral and room, for one cache. reuse: whether prefixes are looked up at all. max_chunk: tokens of one
    sequence in a step."""

    def __init__(self, cache: PrefixCache, reuse: bool, max_chunk: int = 1024) -> None:
        self.cache = cache
        self.reuse = reuse
        self._max_chunk = max_chunk
        self._estimator = AdmissionEstimator(cache.block_size)
        self._promised: int | None = None  # blocks, to those that run; None when that is to be reckoned
        self.beneath: Beneath = NOTHING
        self.num_lacked = 0  # blocks that the last one that found no room needed for itself

    def beginning(self, sequence: Sequence) -> bytes:
        """The packed tokens of its prompt whose KV may be found or shared."""
        if not self.reuse or sequence.goes_alone:
            return b""
        return sequence.request.prompt[: sequence.request.max_hit].tobytes()

    def hit_len(self, sequence: Sequence) -> int:
        """How much of its prompt is cached and may be gone on from."""
        if not self.reuse:
            return 0
        request = sequence.request
        where = self._namespace(sequence, request.max_hit + 1)
        return min(self.cache.match(request.prompt, where).hit_len, request.max_hit)

    def ask_beneath(self, sequence: Sequence, hit_len: int, seconds: float) -> None:
        """Have what the cache lacks of it looked for. seconds: that its whole prompt takes behind the hit."""
        size, most = self.cache.block_size, self._max_hit(sequence)
        first, end = hit_len // size, most // size
        if first < end:
            self.beneath.ask(sequence, Want(self._namespace(sequence, most + 1), first, end, seconds))

    def _namespace(self, sequence: Sequence, num_tokens: int) -> Namespace:
        """Where the first `num_tokens` are looked up, and the sequence is published."""
        request = sequence.request
        if request.shared is None or num_tokens < request.shared.public_len:
            return request.namespace
        return placed(self.cache, request.prompt, request.namespace, request.shared)

    def _max_hit(self, sequence: Sequence) -> int:
        if not self.reuse or sequence.goes_alone:
            return 0
        request = sequence.request
        return request.max_hit if request.reads_prompt else len(sequence.tokens) - 1

    def blocker(self, sequence: Sequence, hit_len: int, prompts: Iterable[Sequence]) -> Blocker | None:
        """A running prompt that will soon publish a block more of this one's prefix, or all that is left of either.

        waiting   |--- hit ---|------------- common -----|
        running   |--------- published ---|- computing ->|

        With marks, one can go on from it where the two part and nowhere else: the running one leaves a mark there,
        unless it has passed that place.
        """
        if not self.reuse:
            return None
        request = sequence.request
        if self.beneath.is_coming(sequence, hit_len):
            return Blocker(sequence, None)
        for other in prompts:
            if other.goes_alone or other.request.namespace != request.namespace:
                continue
            left = min(self.cache.block_size, request.max_hit - hit_len, other.num_prompt - hit_len)
            if left <= 0 or not _agree(request.prompt, other.request.prompt, hit_len, hit_len + left):
                continue
            common = common_prefix(other.request.prompt, request.prompt[: request.max_hit])
            if common >= hit_len + left and self._will_stop_at(other, common):
                return Blocker(other, hit_len + left)
        return None

    def _will_stop_at(self, other: Sequence, position: int) -> bool:
        """Whether others will be able to go on there, in a while."""
        assert other.lease is not None
        return not self.cache.has_marks or other.lease.want(position)

    def acquire(self, sequence: Sequence, running: Collection[Sequence], hit_len: int) -> Lease | None:
        """A lease if there is room for the rest of its tokens, and beside others for what all are likely to need.

        A path that diverges inside blocks holds a few more blocks than its tokens fill. Where these are too many, the
        hit is rounded down to whole blocks; where that does not do either, a pool this small goes without.
        hit_len: what is cached of it; whoever lacks room even so is told without a try.
        """
        if running and not sequence.num_generated and not self.cache.has_marks:
            least = self._num_likely(sequence, hit_len // self.cache.block_size)
            if least + self.num_promised(running) > self.cache.available:
                self.num_lacked = least
                return None
        size, request = self.cache.block_size, sequence.request
        self.beneath.fill(sequence, self.cache.available - (self.num_promised(running) if running else 0))
        tokens = np.array(sequence.tokens, dtype=np.int32) if sequence.num_generated else request.prompt
        priority, max_hit = request.priority, self._max_hit(sequence)
        known = tokens if max_hit else tokens[:0]  # what is cached beyond a largest hit would be held with it
        where = self._namespace(sequence, min(len(known), max_hit + 1))
        marks_at = *request.marks_at, *self.beneath.marks_at(sequence, max_hit)
        available, self.num_lacked = self.cache.available, self.cache.num_blocks
        lease = self.cache.acquire_uncounted(known, where, max_hit=max_hit, priority=priority, marks_at=marks_at)
        for shorter in (lease.num_tokens // size * size, 0, None):
            try:
                fits = self._fits(sequence, lease, running, available)
            except BaseException:
                release_lease(lease)
                raise
            if fits:
                self.cache.count(len(tokens), lease.num_tokens)
                return lease
            release_lease(lease)
            if shorter is not None:
                where = self._namespace(sequence, shorter)
                lease = self.cache.acquire_uncounted(tokens[:shorter], where, priority=priority, marks_at=marks_at)
        return None

    def _fits(self, sequence: Sequence, lease: Lease, running: Collection[Sequence], before: int) -> bool:
        """Whether the pools have what it needs. before: blocks that were available without its lease."""
        needed, available = self._num_needed(sequence, lease, running), self.cache.available
        if needed > available:
            others = self.num_promised(running) if running else 0
            self.num_lacked = min(self.num_lacked, needed - others + before - available)
            return False
        if not self.cache.has_marks:
            return True
        if not running:
            return self.cache.can_advance(1, self._window_need(sequence, lease, 0))
        leases = [(sequence, lease), *((other, other.lease) for other in running if other.lease is not None)]
        num_blocks = sum(self._window_need(each, held, each.request.max_tokens) for each, held in leases)
        return self.cache.can_advance(len(leases), num_blocks)

    def exhausted(self, sequence: Sequence) -> PoolExhausted:
        """The error for one that does not fit though nobody else runs."""
        cache = self.cache
        found, option = f"{cache.available} blocks of {cache.block_size}", "kv_tokens"
        if cache.has_marks:
            found += f", {cache.available_window_blocks} of windows and {cache.available_slots} states"
            option += " or memory"
        return PoolExhausted(
            f"the sequence needs {len(sequence.tokens)} tokens of KV; only {found} can be had, pins and sessions hold "
            f"the rest: release some or raise {option}"
        )

    def _window_need(self, sequence: Sequence, lease: Lease, max_output: int) -> int:
        """Window blocks that it will lack: these grow with it until it is longer than the window."""
        end = max(len(sequence.tokens), sequence.num_prompt + max_output)
        return lease.window_need(end, min(self._max_chunk, len(sequence.tokens) - lease.num_tokens))

    def ended(self, sequence: Sequence) -> None:
        """Learn how long outputs are from one that ended by itself or at its limit."""
        self._estimator.finished(sequence.num_generated)

    def _num_needed(self, sequence: Sequence, lease: Lease, running: Collection[Sequence]) -> int:
        """Blocks that the pool must still have: for its prompt if it is alone, else for everybody's likely end."""
        num_whole = lease.match_len // self.cache.block_size
        if not running:
            return -(-len(sequence.tokens) // self.cache.block_size) - num_whole
        return self.num_promised(running) + self._num_likely(sequence, num_whole)

    def num_promised(self, running: Iterable[Sequence]) -> int:
        """Blocks that these are likely to need to their ends."""
        if self._promised is None:
            self._promised = self._estimator.blocks_needed_by_all(
                (num := len(each.tokens), len(each.lease.blocks), num - each.num_prompt, each.request.max_tokens)
                for each in running
                if each.lease is not None
            )
        return self._promised

    def joined(self, sequence: Sequence) -> None:
        """It runs, and has room for its first step."""
        if self._promised is not None and sequence.lease is not None:
            self._promised += self._num_likely(sequence, len(sequence.lease.blocks))

    def changed(self) -> None:
        """Something that runs has grown, come or gone: what was promised is reckoned anew."""
        self._promised = None

    def _num_likely(self, sequence: Sequence, num_blocks: int) -> int:
        """num_blocks: that it has."""
        num_tokens, max_output = len(sequence.tokens), sequence.request.max_tokens
        progress = Progress(num_tokens, num_blocks, num_tokens - sequence.num_prompt, max_output)
        return self._estimator.blocks_needed(progress)


def placed(cache: PrefixCache, prompt: npt.NDArray[np.int32], namespace: str, shared: Segments | None) -> Namespace:
    """Where a prompt stands: behind shared text only if all of that is there.

    So what is in the shared part, and what anybody finds there, is up to whoever shares it, never to those who use it.
    """
    if shared is None:
        return namespace
    found = cache.match(prompt[: shared.public_len], shared.public)
    return shared if found.match_len == shared.public_len else namespace


def common_prefix(left: npt.NDArray[np.int32], right: npt.NDArray[np.int32]) -> int:
    """Number of leading tokens that are equal."""
    length = min(len(left), len(right))
    different = left[:length] != right[:length]
    return int(different.argmax()) if different.any() else length


def _agree(left: npt.NDArray[np.int32], right: npt.NDArray[np.int32], start: int, end: int) -> bool:
    """Whether two prompts have the same tokens there, and both have them."""
    return left[start:end].tobytes() == right[start:end].tobytes() and end <= min(len(left), len(right))

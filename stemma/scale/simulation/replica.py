"""A replica: a real prefix cache, and continuous batching on simulated time.

Prompts are computed one after the other, in chunks, each chunk in a step beside one token of everybody who runs. A
prompt looks into the cache when its turn comes, holds its blocks (those of its output too) until it ends, and waits
while they cannot be had. What it computed is in the tree, and told, when its prompt is done and when it ends. Between
two things that happen, steps are alike and are reckoned as one. Left out: preemption, drafts, structured output.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from stemma.radix import Event, Lease, OutOfBlocks, PrefixCache
from stemma.scale.fleet import Load
from stemma.scale.simulation.machine import Machine
from stemma.scale.simulation.trace import Request


class First(NamedTuple):
    """A request's first token is there: hit_len tokens were cached, the others took so many seconds to compute."""

    request: Request
    hit_len: int
    seconds: float


class Ended(NamedTuple):
    """A request's last token is there."""

    request: Request


class _Sequence:
    __slots__ = ("began", "hit_len", "lease", "left", "request", "waiting_for")

    def __init__(self, request: Request, waiting_for: int) -> None:
        self.request = request
        self.waiting_for = waiting_for  # tokens that were not cached when it came
        self.lease: Lease | None = None
        self.hit_len = 0
        self.left = request.output_len  # tokens to come
        self.began = 0.0


class Replica:
    """`receive` and `advance` give the time of its next step's end, None while it has nothing to do."""

    def __init__(self, machine: Machine, block_len: int, listener: Callable[[Event], None] | None) -> None:
        self._machine = machine
        self._block_len = block_len
        self.now = 0.0
        self.cache = PrefixCache(max(1, machine.pool_tokens // block_len), 1, clock=lambda: self.now)
        if listener is not None:
            self.cache.subscribe(listener)
        self.busy = 0.0
        self.computed = 0
        self._waiting: deque[_Sequence] = deque()
        self._prompt: _Sequence | None = None
        self._prompt_left = 0
        self._running: list[_Sequence] = []
        self._context = 0  # tokens of KV that the running ones have
        self._begun = self._step = 0.0
        self._num_steps = 0
        self._chunk = 0

    def load(self, at: float) -> Load:
        """What it says of itself."""
        held = 1 - self.cache.available / self.cache.num_blocks
        waiting = self._prompt_left + sum(sequence.waiting_for for sequence in self._waiting)
        running = len(self._running) + (self._prompt is not None) + len(self._waiting)
        return Load(waiting, running, held, self._machine.max_running, at=at)

    def unfinished(self) -> list[Request]:
        """All that would be lost with it."""
        doing = [*self._running, *self._waiting, *([self._prompt] if self._prompt is not None else [])]
        return [sequence.request for sequence in doing]

    def receive(self, request: Request, now: float) -> float | None:
        """One more request."""
        hit_len = min(self.cache.match(request.prompt).hit_len * self._block_len, request.input_len - 1)
        self._waiting.append(_Sequence(request, request.input_len - hit_len))
        if not self._num_steps:
            self.now = now
            self._plan()
        elif self._num_steps > 1 and self._prompt is None:  # it can begin behind the step that is being computed
            self._num_steps = min(self._num_steps, int((now - self._begun) / self._step) + 1)
        return self.next_at

    @property
    def next_at(self) -> float | None:
        """When `advance` is to be called."""
        return self._begun + self._num_steps * self._step if self._num_steps else None

    def advance(self) -> list[First | Ended]:
        """The steps that were planned are done; what came of them."""
        happened: list[First | Ended] = []
        num, self.now = self._num_steps, self._begun + self._num_steps * self._step
        self.busy += num * self._step
        self._context += num * len(self._running)
        for sequence in self._running:
            sequence.left -= num
        if any(sequence.left <= 0 for sequence in self._running):
            happened += [self._end(sequence) for sequence in self._running if sequence.left <= 0]
            self._running = [sequence for sequence in self._running if sequence.left > 0]
        if self._prompt is not None and self._chunk:
            self._prompt_left -= self._chunk
            self.computed += self._chunk
            if not self._prompt_left:
                happened += self._first(self._prompt)
                self._prompt = None
        self._plan()
        return happened

    def _plan(self) -> None:
        """The next steps: until a sequence ends, or a chunk of a prompt is done."""
        if self._prompt is None and self._waiting and len(self._running) < self._machine.max_running:
            self._begin()
        self._chunk = min(self._prompt_left, self._machine.max_chunk) if self._prompt is not None else 0
        if not self._running and not self._chunk:
            self._num_steps = 0
            return
        self._num_steps = 1 if self._chunk else min(sequence.left for sequence in self._running)
        read = self._context + len(self._running) * (self._num_steps - 1) // 2
        before = self._prompt.request.input_len - self._prompt_left if self._prompt is not None else 0
        self._step = self._machine.seconds(len(self._running), read, self._chunk, before)
        self._begun = self.now

    def _begin(self) -> None:
        """The next prompt finds what is cached, and holds all that it needs; or it waits."""
        sequence = self._waiting[0]
        request = sequence.request
        lease = self.cache.acquire(request.prompt)
        try:
            lease.reserve(len(request.prompt) + len(request.output) - lease.hit_len)
        except OutOfBlocks:
            lease.release()
            if not self._running:
                raise
            return
        self._waiting.popleft()
        sequence.lease, sequence.began = lease, self.now
        sequence.hit_len = min(lease.hit_len * self._block_len, request.input_len - 1)
        self._prompt, self._prompt_left = sequence, request.input_len - sequence.hit_len

    def _first(self, sequence: _Sequence) -> list[First | Ended]:
        lease, request = sequence.lease, sequence.request
        assert lease is not None
        if lease.hit_len < len(request.prompt):
            lease.extend(request.prompt[lease.hit_len :])
            lease.commit()
        first = First(request, sequence.hit_len, self.now - sequence.began)
        sequence.left -= 1
        if sequence.left <= 0:
            return [first, self._end(sequence)]
        self._running.append(sequence)
        self._context += request.input_len
        return [first]

    def _end(self, sequence: _Sequence) -> Ended:
        lease, request = sequence.lease, sequence.request
        assert lease is not None
        if request.output:
            lease.extend(array("i", request.output))
            lease.commit()
        lease.release()
        if request.output_len > 1:
            self._context -= request.input_len + request.output_len - 1
        return Ended(request)

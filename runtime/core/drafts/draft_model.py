"""Drafts from a smaller model, which follows each sequence on KV of its own (Leviathan et al. 2023, Chen et al. 2023).

the sequence     |------------------ tokens ------------------|
its follower     |--- lease.num_tokens: KV, right ---|- ahead -|      KV of guesses that may have been right
a guess                                                       |- d1 - d2 - d3 -|     a step of this model each

It samples as the sequence does, with the same random number at each position, so that it is right about as often where
tokens are drawn. Where it was right its KV stands already; where it was wrong that is written over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from stemma.kernels.limits import Report
from stemma.radix import Lease, OutOfBlocks, PrefixCache
from stemma.runtime.core import sequence as core
from stemma.runtime.core.agreement import num_equal
from stemma.runtime.core.batch import Batch, Row
from stemma.runtime.core.computing import compute
from stemma.runtime.core.failures import release_lease
from stemma.runtime.core.runner import Runner
from stemma.runtime.core.sampler import Sampler

MAX_CATCH_UP = 512
"""Tokens that it computes of one sequence before a step; of a longer prompt the rest waits for the next steps."""
COST_RATE = 0.2


@dataclass(slots=True, eq=False)
class _Follower:
    """shadow: a sequence with the same tokens, and this model's lease. ahead: guesses whose KV stands behind it."""

    shadow: core.Sequence
    ahead: list[int] = field(default_factory=list)

    @property
    def lease(self) -> Lease:
        assert self.shadow.lease is not None
        return self.shadow.lease


class DraftModel:
    """A model with a KV pool of its own. clock: gives seconds."""

    def __init__(
        self,
        runner: Runner,
        sampler: Sampler,
        cache: PrefixCache,
        num_tokens: int,
        most: int,
        clock: Callable[[], float],
    ) -> None:
        """num_tokens: the tokens that both models have: a guess of another ends. most: tokens of one of its steps."""
        self.cache = cache
        self.seconds = 0.0  # that it has taken, in all
        self.step_seconds = 0.0  # of a step, by the last ones
        self._runner = runner
        self._sampler = sampler
        self._num_tokens = num_tokens
        self._most = most
        self._clock = clock
        self._followers: dict[int, _Follower] = {}  # by id of the sequence

    def prepare(self, report: Report) -> None:
        """Its steps, as `Runner.record` does."""
        with self._runner.model.ops.on_device():
            self._runner.record(report)

    def guess(self, wanted: Sequence[tuple[core.Sequence, int]]) -> list[list[int]]:
        """For each sequence at most so many tokens: fewer where there is no room, none where it has to catch up."""
        started, num_steps = self._clock(), 0
        guesses: list[list[int]] = [[] for _ in wanted]
        longest = self._runner.model.config.context_length
        leading = [
            (index, self._follow(sequence), count)
            for index, (sequence, count) in enumerate(wanted)
            if len(sequence.tokens) + count <= longest
        ]
        while leading:
            batch, rows = Batch(), list[tuple[int, _Follower, int]]()
            for index, follower, count in leading:
                if self._place(batch, follower, guesses[index]):
                    rows.append((index, follower, count))
            if not rows:
                break
            num_steps += 1
            leading = self._step(batch, rows, guesses)
        spent = self._clock() - started
        self.seconds += spent
        if num_steps:
            each = spent / num_steps
            self.step_seconds += (each - self.step_seconds) * (COST_RATE if self.step_seconds else 1.0)
        return guesses

    def forget(self, sequence: core.Sequence) -> None:
        """The sequence has ended. What was computed for it stays cached."""
        follower = self._followers.pop(id(sequence), None)
        if follower is not None and follower.shadow.lease is not None:
            follower.lease.commit()
            release_lease(follower.lease)

    def _follow(self, sequence: core.Sequence) -> _Follower:
        """What follows a sequence, up to its last token but those that are still to be computed."""
        follower = self._followers.get(id(sequence))
        if follower is None:
            follower = self._followers[id(sequence)] = _Follower(_shadow(sequence))
        shadow = follower.shadow
        if shadow.lease is None:
            known = shadow.request.prompt[:-1]
            shadow.lease = self.cache.acquire(known, shadow.request.namespace)
        behind = shadow.tokens[shadow.lease.num_tokens : len(shadow.tokens) - 1]
        shadow.lease.extend(behind[: num_equal(behind, follower.ahead)])
        follower.ahead = []
        return follower

    def _place(self, batch: Batch, follower: _Follower, guess: list[int]) -> bool:
        """A row that computes what is known and not computed, or the last guess; False without room for it."""
        shadow, lease = follower.shadow, follower.lease
        room = min(MAX_CATCH_UP, self._most - batch.num_tokens)
        if room < 1:
            return False
        tokens = guess[-1:] or shadow.tokens[lease.num_tokens : lease.num_tokens + room]
        start = lease.num_tokens + len(follower.ahead)
        try:
            batch.copies += lease.reserve(len(follower.ahead) + len(tokens))
        except OutOfBlocks:
            return False
        is_at_end = bool(guess) or start + len(tokens) == len(shadow.tokens)
        shadow.drafts = guess  # penalties count them
        batch.add(Row(shadow, start, tokens, num_drafts=0, num_samples=int(is_at_end)))
        return True

    def _step(
        self, batch: Batch, rows: list[tuple[int, _Follower, int]], guesses: list[list[int]]
    ) -> list[tuple[int, _Follower, int]]:
        """Compute a batch; returns those that go on."""
        leading = []
        with self._runner.model.ops.on_device():  # which need not be that of the model that it guesses for
            results = compute(self._runner, self._sampler, batch)
        for row, result, (index, follower, count) in zip(batch.rows, results, rows, strict=True):
            if follower.shadow.error is not None:
                self._drop(follower)
                continue
            if guesses[index]:
                follower.ahead += row.tokens
            else:
                follower.lease.extend(row.tokens)
            if not result.tokens or result.tokens[0] >= self._num_tokens:
                continue
            guesses[index].append(result.tokens[0])
            if len(guesses[index]) < count:
                leading.append((index, follower, count))
        return leading

    def _drop(self, follower: _Follower) -> None:
        """What could not be computed is begun anew."""
        release_lease(follower.lease)
        follower.shadow.lease, follower.shadow.error, follower.ahead = None, None, []


def _shadow(sequence: core.Sequence) -> core.Sequence:
    """What samples the same tokens as the sequence, if the model says the same."""
    request = sequence.request
    asked = replace(
        request, sampling=replace(request.sampling, logprobs=None), prompt_logprobs=None, lora=None, shared=None
    )
    shadow = core.Sequence(asked)
    shadow.tokens = sequence.tokens
    return shadow

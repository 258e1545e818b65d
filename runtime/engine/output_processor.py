"""What a caller hears of a sequence: a delta for each step that added to it; at the end, its completion or its error.

Joined, the deltas are the completion, however it ends. Called in the loop's thread; touches one RequestState at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from stemma.runtime.core import sequence as core
from stemma.runtime.core.sampling import TokenLogprob
from stemma.runtime.core.stopwatch import Phases, Stopwatch
from stemma.runtime.engine.generation import Completion, Delta, Generation, Timing
from stemma.runtime.engine.metrics import Metrics
from stemma.runtime.engine.text import TextStream


@dataclass(slots=True, eq=False)
class RequestState:
    """A sequence and the caller who waits for it. Times in seconds of the loop's clock.

    generated tokens:  |<-- num_told -->|<-- what the next delta holds -->|
                       |<------------ num_seen ------------>|  by the last step; nobody is told what nobody reads

    prompt_logprobs: those that were told; they may be computed again behind a preemption.
    """

    sequence: core.Sequence
    generation: Generation
    text: TextStream
    submitted: float
    first_step: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    phases_before: Phases | None = None
    phases_at_token: Phases | None = None
    num_told: int = 0
    num_seen: int = 0
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)


class OutputProcessor:
    """Tells callers, and counts what it tells."""

    def __init__(self, clock: Callable[[], float], metrics: Metrics, watch: Stopwatch) -> None:
        self._clock = clock
        self._metrics = metrics
        self._watch = watch
        self._started = self._now = 0.0  # of the step that is told: when it began, and ended
        self._before = watch.phases
        self._gaps: dict[float, int] = {}

    def begin_step(self, started: float, before: Phases) -> None:
        """A step was computed. started: when it began. before: where the time of the steps before it went."""
        self._started, self._before, self._now = started, before, self._clock()

    def step(self, state: RequestState) -> None:
        """Tell what the step, in which the sequence had a row, added to it.

        Where nobody iterates, what was generated waits for the end, or for who begins to.
        """
        sequence = state.sequence
        num_generated = len(sequence.tokens) - sequence.num_prompt
        if state.first_step is None:
            state.first_step, state.phases_before = self._started, self._before
        if num_generated > state.num_seen:
            state.num_seen = num_generated
            if state.last_token is None:
                state.first_token, state.phases_at_token = self._now, self._watch.phases
            else:
                gap = self._now - state.last_token
                self._gaps[gap] = self._gaps.get(gap, 0) + 1
            state.last_token = self._now
        if state.generation.is_read and num_generated > state.num_told:
            sequence.is_read = True
            self._push(state)

    def end_step(self) -> None:
        """All rows of a step were told. Most had their last token at the same time, so gaps are counted together."""
        for gap, count in self._gaps.items():
            self._metrics.inter_token.add(gap, count)
        self._gaps.clear()

    def end(self, state: RequestState) -> None:
        """Tell the end of a sequence: the rest of it and its completion, or its error."""
        sequence = state.sequence
        assert sequence.finish_reason is not None
        reason = sequence.finish_reason.value
        self._metrics.ended(reason, sequence.usage)
        if sequence.error is not None:
            self._push(state)  # what was said before
            state.generation.fail(sequence.error)
        else:
            self._push(state)  # tokens that no step of its own told, text that was held back
            state.generation.finish(self._completion(state, reason))

    def _spent(self, state: RequestState) -> tuple[Phases, Phases]:
        """Before the first token, and behind it."""
        end = self._watch.phases
        first = state.phases_before or end
        middle = state.phases_at_token or end
        return middle.since(first), end.since(middle)

    def _push(self, state: RequestState) -> None:
        sequence = state.sequence
        tokens = tuple(sequence.tokens[sequence.num_prompt + state.num_told :])
        text = state.text.finish() if sequence.is_finished else state.text.take()
        logprobs = tuple(sequence.logprobs[state.num_told :])
        scores = () if sequence.is_in_prompt else tuple(sequence.prompt_logprobs[len(state.prompt_logprobs) :])
        state.num_told += len(tokens)
        state.prompt_logprobs += scores
        if text or tokens or scores:
            state.generation.push(Delta(text, tokens, logprobs, scores))

    def _completion(self, state: RequestState, reason: str) -> Completion:
        sequence, now = state.sequence, self._clock()
        first_step, first_token = state.first_step or now, state.first_token or now
        timing = Timing(
            first_step - state.submitted, first_token - state.submitted, now - state.submitted, *self._spent(state)
        )  # fmt: skip
        self._metrics.completed(sequence.usage, timing)
        self._metrics.max_tokens.add(sequence.request.max_tokens)
        return Completion(
            text=state.text.text,
            tokens=tuple(sequence.generated),
            finish_reason=reason,
            usage=sequence.usage,
            timing=timing,
            logprobs=tuple(sequence.logprobs),
            prompt_logprobs=tuple(state.prompt_logprobs),
            jumped=tuple(sequence.jumped),
            stopped_by=state.text.stopped_by,
            pooled=sequence.pooled_value,
            num_drafted=sequence.num_drafted,
            num_accepted=sequence.num_accepted,
        )

"""A request, and the running state of the sequence that answers it. Knows no scheduler, no model, no text."""

from __future__ import annotations

import math
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stemma.radix import Lease, NextUse, Retained, Segments
from stemma.runtime.core.matchers import GrammarMatcher, StopChecker
from stemma.runtime.core.pooling import Pooling, Vector
from stemma.runtime.core.sampling import Sampling, TokenLogprob
from stemma.runtime.core.seen import SeenTokens
from stemma.runtime.errors import StemmaError


class FinishReason(Enum):
    """Why a sequence ended."""

    STOP = "stop"
    LENGTH = "length"
    ABORT = "abort"
    ERROR = "error"


class Usage(NamedTuple):
    """Where each token of a request came from. All are counts of tokens.

    prompt_tokens == cached_tokens + replayed_tokens + prefilled_tokens,
    completion_tokens == decoded_tokens + jumped_tokens;
    the first is more where the prompt was not computed whole: it was cancelled, or a grammar forced the whole output.
    cached: prompt tokens that were found with all that is needed to go on behind them. replayed: those whose KV was
    found, and which were computed again by layers with a window or a state. prefilled: prompt tokens that were computed
    first. decoded: chosen by the model.
    jumped: forced by the grammar. recomputed: computed a second time after a preemption.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    prefilled_tokens: int = 0
    decoded_tokens: int = 0
    jumped_tokens: int = 0
    recomputed_tokens: int = 0
    replayed_tokens: int = 0

    def __add__(self, other: object) -> Usage:  # a sum of usages, not tuple concatenation
        if not isinstance(other, Usage):
            return NotImplemented
        return Usage(*(mine + yours for mine, yours in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What a caller asked: one prompt, one completion.

    max_tokens: the most tokens to generate, already within context and pool.
    namespace: a separate root of the cache tree; one of its own for each adapter.
    shared: where it stands instead while a text that all share, with which it begins, is in the cache.
    lora: the adapter that it is computed with.
    priority: larger goes first.
    prompt_logprobs: report log-probabilities of the prompt's tokens from `scored_from` on, with this many alternatives.
    finish_in_time: end a guided output by its shortest completion before `max_tokens` would cut it.
    next_use: what is known of the next use of what is computed for it: a hint to the eviction.
    scored_from: index of the first prompt token to score; KV before the token that predicts it may be looked up.
    pooling: what is read off the prompt, instead of a completion.
    drafts: guess what comes and verify that; it changes the time, never the tokens.
    marks_at: numbers of tokens behind which others will go on: a model with windows or states leaves marks there.
    ttft: seconds within which its first token must come; what cannot is refused.
    """

    prompt: npt.NDArray[np.int32]
    max_tokens: int
    sampling: Sampling
    seed: int
    end_tokens: frozenset[int] = frozenset()
    namespace: str = ""
    priority: int = 0
    prompt_logprobs: int | None = None
    scored_from: int = 1
    finish_in_time: bool = False
    next_use: NextUse = NextUse.UNKNOWN
    pooling: Pooling | None = None
    lora: str | None = None
    shared: Segments | None = None
    marks_at: tuple[int, ...] = ()
    drafts: bool = True
    ttft: float | None = None

    @property
    def tenant(self) -> str:
        """Who shares the machine with others, whatever parts their namespace has: its name up to the first slash."""
        return self.namespace.partition("/")[0]

    @property
    def reads_prompt(self) -> bool:
        """Whether something is wanted of the tokens of the prompt themselves, so that some may have to be computed
        though their KV is cached."""
        return self.prompt_logprobs is not None or (self.pooling is not None and self.pooling.kind == "mean")

    @property
    def max_hit(self) -> int:
        """The most prompt tokens whose KV may be looked up: what is wanted comes from the tokens behind them."""
        if self.pooling is not None and self.pooling.kind == "mean":
            return 0
        scored = len(self.prompt) if self.prompt_logprobs is None else self.scored_from
        return min(scored, len(self.prompt)) - 1


@dataclass(slots=True, eq=False)
class Sequence:
    """The state of one request between `Scheduler.add` and its end.

    tokens:  |<------------------ prompt ------------------>|<------- generated ------->|
             |<-------- num_computed: KV exists -------->|<- pending: the next step's ->|
             |<---- lease.num_tokens: it knows ---->|  what the scheduler has yet to tell the lease

    deadline: when its first token must be there, by the clock of whoever calls the scheduler. room_end: up to where
    KV may be written before the lease is asked for more. is_read: somebody reads it while it is made.
    """

    request: Request
    matcher: GrammarMatcher | None = None
    stop_checker: StopChecker | None = None
    retained: Retained | None = None  # takes the path over at the end
    tokens: list[int] = field(init=False)
    num_prompt: int = field(init=False)
    is_plain: bool = field(init=False)  # its next token depends on nothing but its logits and its own random number
    lease: Lease | None = None
    finish_reason: FinishReason | None = None
    error: StemmaError | None = None  # set when the finish reason is ERROR
    logprobs: list[TokenLogprob] = field(default_factory=list)
    prompt_logprobs: list[TokenLogprob] = field(default_factory=list)
    pooled: list[Vector] = field(default_factory=list)
    likely: list[int] = field(default_factory=list)  # what its grammar guesses to come next
    forced_to: int = -1  # tokens behind which the matcher has said what it forces
    drafts: list[int] = field(default_factory=list)  # of the step under way
    num_drafted: int = 0  # drafts that were computed; how many depends on the time that steps take
    num_accepted: int = 0
    arrival: int = 0
    deadline: float = math.inf
    is_overdue: bool = False  # it was overtaken so often that it goes before those of a higher priority
    is_read: bool = False
    num_computed: int = 0
    room_end: int = 0
    goes_alone: bool = False  # shares no blocks: in a pool so small that a shared path's extra blocks are too many
    num_computed_once: int = 0  # the longest prefix whose KV was ever computed or found
    num_cached: int = 0
    num_replayed: int = 0
    replayed_until: int = 0  # where it first started, tokens before this were computed though their KV was there
    num_decoded: int = 0
    jumped: list[int] = field(default_factory=list)  # indexes among the generated tokens
    seen: SeenTokens | None = None  # where its request changes logits
    num_recomputed: int = 0

    def __post_init__(self) -> None:
        self.tokens = self.request.prompt.tolist()
        self.num_prompt = len(self.tokens)
        sampling = self.request.sampling
        is_read_off = sampling.logprobs is not None or sampling.changes_logits or sampling.min_tokens > 0
        self.is_plain = self.matcher is None and not is_read_off

    @property
    def generated(self) -> Tokens[int]:
        """Tokens after the prompt."""
        return self.tokens[self.num_prompt :]

    @property
    def num_generated(self) -> int:
        """Tokens after the prompt."""
        return len(self.tokens) - self.num_prompt

    @property
    def is_in_prompt(self) -> bool:
        """Whether it runs and some of its prompt is still to be computed."""
        return self.lease is not None and self.num_computed < self.num_prompt

    @property
    def is_finished(self) -> bool:
        """Whether it has a finish reason."""
        return self.finish_reason is not None

    @property
    def pooled_value(self) -> npt.NDArray[np.float32] | None:
        """What was read off the prompt, if that was asked for and all of it was computed."""
        pooling = self.request.pooling
        return None if pooling is None or not self.pooled else pooling.value(self.pooled, self.num_prompt)

    @property
    def usage(self) -> Usage:
        """Where the tokens so far came from."""
        computed = min(self.num_computed_once, self.num_prompt)
        return Usage(
            prompt_tokens=self.num_prompt,
            completion_tokens=self.num_generated,
            cached_tokens=self.num_cached,
            prefilled_tokens=max(computed - self.num_cached - self.num_replayed, 0),
            decoded_tokens=self.num_decoded,
            jumped_tokens=len(self.jumped),
            recomputed_tokens=self.num_recomputed,
            replayed_tokens=self.num_replayed,
        )

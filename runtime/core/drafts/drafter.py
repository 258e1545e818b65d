"""Which drafts a step verifies: of each sequence's guesses the one, and so much of it, that gives the most tokens for
the time.

tokens that are likely to be kept     1 + the sum of the chances of the drafts
---------------------------------  =  ----------------------------------------   a draft more must raise that
time of the step                           cost of so many rows together

What guesses are worth is measured on all of them (`trust`), what rows cost on all steps (`StepCost`): a source that
does not pay in a sequence computes nothing there, and is heard again as soon as it would have been right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType
from typing import NamedTuple

from stemma.runtime.core import sequence as core
from stemma.runtime.core.agreement import num_equal
from stemma.runtime.core.batch import Batch
from stemma.runtime.core.drafts.ahead import MOST_AHEAD, NUM_TRIED, TRIAL_SHARE, Guesser, ModelSource
from stemma.runtime.core.drafts.grammar import GrammarSource
from stemma.runtime.core.drafts.prompt import PromptSource
from stemma.runtime.core.drafts.source import DraftSource, Guess
from stemma.runtime.core.drafts.tree import TreeSource
from stemma.runtime.core.drafts.trust import Trust
from stemma.runtime.core.matchers import GrammarMatcher
from stemma.runtime.core.step_cost import NOTHING, Load, StepCost

Make = Callable[[], DraftSource]
FREE_SOURCES: Mapping[str, Make] = MappingProxyType(
    {"tree": TreeSource, "prompt": PromptSource, "grammar": GrammarSource}
)
"""Those that compute nothing."""
MODEL = "model"
MOST_DRAFTS = 63
"""Of one sequence in a step."""
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Decoded tokens of steps, where that can be chosen: a back end may prepare each size once."""
MARGIN = 1.03
"""So many times as many tokens for the time must be likely: measured costs and chances are not exact."""


@dataclass(slots=True)
class DraftCount:
    """Drafts of one source. proposed: those that were computed. accepted: of these, those that were kept."""

    proposed: int = 0
    accepted: int = 0


@dataclass(slots=True)
class _Asked:
    """One sequence's sources by name, what each has guessed for the step under way, and whose drafts that computes."""

    sources: list[tuple[str, DraftSource, Trust]]
    guesses: list[tuple[str, Trust, Guess]] = field(default_factory=list)
    chosen: str = ""
    model: tuple[ModelSource, Trust] | None = None


class _Choice(NamedTuple):
    """So many drafts of the source of this name. gained: how many of them are likely to be kept. rate: tokens for the
    time, beside those of the step without them."""

    name: str
    num_drafts: int
    gained: float
    rate: float


class Drafter:
    """For one scheduler: `begin` a step, `draft` for each of its sequences; `observe` what came; `took` so long."""

    def __init__(self, sources: Mapping[str, Make], max_batch_tokens: int, model: Guesser | None = None) -> None:
        """sources: what makes one for a sequence, by name. max_batch_tokens: of a step, drafts included."""
        self.cost = StepCost()  # of all steps; who plans them asks it too
        self._sources = sources if model is None else {**sources, MODEL: ModelSource}
        self.counts = {name: DraftCount() for name in self._sources}
        self._model = model
        self._max_batch_tokens = self._most_rows = max_batch_tokens
        self._trust = {name: Trust(make().first_trust) for name, make in self._sources.items()}
        self._asked: dict[int, _Asked] = {}  # by id of the sequence
        self._load = NOTHING  # of the step, without drafts
        self._num_rows = 0  # decoded tokens of it
        self._others = 0.0  # seconds of it, but for what decoded tokens take
        self._num_drafts = 0
        self._likely = 0.0  # of the drafts, those that are likely to be kept
        self._pays: bool | None = None  # whether one more would pay if it was right; None: not known yet
        self._before = 0.0  # seconds of the draft model before the step
        self._seconds = 0.0  # of all steps
        self._trial_seconds = 0.0  # of the draft model, where it was only tried
        self._is_trial = False

    # Before a step ----------------------------------------------------------------
    def begin(self, load: Load, decoding: Iterable[core.Sequence] = (), most_rows: int | None = None) -> None:
        """A step of at least this load without drafts, and with them of no more than `most_rows` decoded tokens.
        decoding: sequences that it will sample from; a draft model guesses for them now, all at once."""
        most = self._max_batch_tokens - load.num_prompt
        self._most_rows = most if most_rows is None else min(most_rows, most)
        self._load, self._num_rows = load, load.num_decoded
        self._num_drafts, self._likely, self._pays = 0, 0.0, None
        self._others = self.cost.seconds(load._replace(num_decoded=0)) if self._sources else 0.0
        if self._model is None:
            return
        self._before, self._is_trial = self._model.seconds, False
        wanted = [(item, count) for item in decoding if (count := self._num_ahead(item))]
        if wanted:
            for (item, _), guess in zip(wanted, self._model.guess(wanted), strict=True):
                model = self._asked[id(item)].model
                assert model is not None
                model[0].put(item, guess)
        if self._is_trial:
            self._trial_seconds += self._model.seconds - self._before

    @property
    def ahead(self) -> float:
        """Seconds of the step that the draft model took."""
        return 0.0 if self._model is None else self._model.seconds - self._before

    @property
    def has_model(self) -> bool:
        """Whether a model guesses, which takes time of its own before a step."""
        return self._model is not None

    @property
    def may_pay(self) -> bool:
        """Whether a draft may be worth its time in the step as it was begun."""
        if self._pays is None:
            self._pays = bool(self._sources) and self._can_pay()
        return self._pays

    @property
    def is_asked(self) -> bool:
        """Whether there is anything to `observe`."""
        return bool(self._asked)

    def draft(self, sequence: core.Sequence, num_rows: int, most: int) -> list[int]:
        """What to compute behind the sequence's tokens, at most so many, in a step that has `num_rows` tokens without
        any drafts, or those that it was begun with."""
        if num_rows > self._load.num_prompt + self._num_rows:
            self._num_rows, self._pays = num_rows - self._load.num_prompt, None
        asked, at_most = self._ask(sequence, most)
        if asked is None:
            return []
        choice = self._best(asked)
        if not choice.num_drafts:
            return []
        asked.chosen = choice.name
        guess = next(guess for name, _, guess in asked.guesses if name == choice.name)
        drafts = _possible(sequence, guess.tokens[: min(choice.num_drafts, at_most)])
        self._num_drafts += len(drafts)
        self._likely += choice.gained
        self._pays = None
        return drafts

    def _ask(self, sequence: core.Sequence, most: int) -> tuple[_Asked | None, int]:
        """Let the sources guess for a sequence, at most so many tokens; None where no draft can pay or may be made."""
        asked, request = self._asked.get(id(sequence)), sequence.request
        if asked is not None:
            asked.guesses.clear()
        room = self._most_rows - self._num_rows - self._num_drafts
        at_most = min(MOST_DRAFTS, most, room, request.max_tokens - sequence.num_generated - 1)
        if at_most < 1 or not request.drafts or not self.may_pay:
            return None, 0
        if asked is None:
            asked = self._asked[id(sequence)] = self._made()
        for name, source, trust in asked.sources:
            guess = source.guess(sequence, at_most)
            if guess.tokens:
                asked.guesses.append((name, trust, guess))
        return asked, at_most

    def _made(self) -> _Asked:
        """For a sequence that is met first."""
        asked = _Asked([(name, make(), self._trust[name].of_sequence()) for name, make in self._sources.items()])
        for _, source, trust in asked.sources:
            if isinstance(source, ModelSource):
                asked.model = source, trust
        return asked

    def _seconds_of(self, size: int) -> float:
        """Of the step, if it decodes so many tokens, drafts among them."""
        return self._others + self.cost.of_decoded(size)

    @property
    def _useful(self) -> float:
        """Tokens of the step that are likely to be kept."""
        return self._load.num_prompt + self._num_rows + self._likely

    def _can_pay(self) -> bool:
        now, useful = self._num_rows + self._num_drafts, self._useful
        least = MARGIN * useful / self._seconds_of(now)
        return any(size > now and (useful + size - now) / self._seconds_of(size) > least for size in SIZES)

    def _best(self, asked: _Asked) -> _Choice:
        best = _Choice("", 0, 0.0, MARGIN * self._useful / self._seconds_of(self._num_rows + self._num_drafts))
        for name, trust, guess in asked.guesses:
            best = self._longest(name, trust.chances(guess.grounds, len(guess.tokens)), best)
        return best

    def _longest(self, name: str, chances: Sequence[float], best: _Choice, cost_of_each: float = 0.0) -> _Choice:
        """So many drafts with these chances that they are better than the best so far, or that one. cost_of_each: what
        a guess takes by itself, in seconds."""
        now, useful = self._num_rows + self._num_drafts, self._useful
        gains = list(accumulate(chances, initial=0.0))
        for size in SIZES:
            count = size - now
            if count <= 0:
                continue
            cost = self._seconds_of(size) + count * cost_of_each
            if count >= len(gains) or (useful + gains[-1]) / cost < best.rate:
                break  # all of them would not be worth it
            if (useful + gains[count]) / cost > best.rate:
                best = _Choice(name, count, gains[count], (useful + gains[count]) / cost)
        return best

    def _num_ahead(self, sequence: core.Sequence) -> int:
        """Tokens that the draft model is to guess."""
        asked, at_most = self._ask(sequence, MOST_AHEAD)
        if asked is None or asked.model is None or self._model is None:
            return 0
        source, trust = asked.model
        if any(name == MODEL for name, _, _ in asked.guesses):
            return 0  # what it has guessed before is right so far
        each = self._model.step_seconds / max(1, self._num_rows)
        choice = self._longest(MODEL, trust.chances(source.grounds, at_most), self._best(asked), each)
        if choice.name == MODEL:
            return min(at_most, choice.num_drafts)
        if self._is_trial or self._trial_seconds > TRIAL_SHARE * self._seconds:
            return 0
        self._is_trial = self._longest(MODEL, [1.0] * at_most, choice, each).name == MODEL  # if it was right, it pays
        return min(at_most, NUM_TRIED) if self._is_trial else 0

    # Behind a step ----------------------------------------------------------------
    def took(self, batch: Batch, seconds: float) -> None:
        """A step took so long."""
        self._seconds += seconds
        self.cost.learn(batch.load, seconds - self.ahead)

    def observe(self, sequence: core.Sequence, came: Sequence[int], num_drafts: int, num_accepted: int) -> None:
        """A step has computed so many drafts for a sequence and kept so many: these tokens came."""
        asked = self._asked.get(id(sequence))
        if asked is None:
            return
        for _, trust, guess in asked.guesses:
            num_right = num_equal(guess.tokens, came)
            trust.saw(guess.grounds, num_right, is_wrong=num_right < min(len(guess.tokens), len(came)))
        asked.guesses.clear()
        if num_drafts:
            count = self.counts[asked.chosen]
            count.proposed += num_drafts
            count.accepted += num_accepted

    def forget(self, sequence: core.Sequence) -> None:
        """The sequence has ended."""
        if self._asked.pop(id(sequence), None) is not None and self._model is not None:
            self._model.forget(sequence)


def _possible(sequence: core.Sequence, drafts: list[int]) -> list[int]:
    """Up to what ends the text, which is sampled without being a draft, and as far as a grammar allows them."""
    ends, matcher = sequence.request.end_tokens, sequence.matcher
    for at, token in enumerate(drafts):
        if token in ends:
            drafts = drafts[:at]
            break
    return drafts if matcher is None else drafts[: _num_allowed(matcher, drafts)]


def _num_allowed(matcher: GrammarMatcher, drafts: list[int]) -> int:
    count = 0
    for token in drafts:
        if matcher.is_finished or not matcher.advance(token):
            break
        count += 1
    matcher.rollback(count)
    return count

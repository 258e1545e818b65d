"""Which drafts a step verifies: of each sequence's guesses the one, and so much of it, that gives the most tokens for
the time.

tokens that are likely to be kept     1 + the sum of the chances of the drafts
---------------------------------  =  ----------------------------------------   a draft more must raise that
time of the step                           cost of so many rows together

What guesses are worth is measured on all of them (`trust`), what rows cost on all steps (`step_cost`): a source that
does not pay in a sequence computes nothing there, and is heard again as soon as it would have been right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from types import MappingProxyType

from stemma.runtime.core import sequence as core
from stemma.runtime.core.batch import Batch
from stemma.runtime.core.drafts.grammar import GrammarSource
from stemma.runtime.core.drafts.prompt import PromptSource
from stemma.runtime.core.drafts.source import DraftSource, Guess
from stemma.runtime.core.drafts.step_cost import SIZES, StepCost
from stemma.runtime.core.drafts.tree import TreeSource
from stemma.runtime.core.drafts.trust import Trust
from stemma.runtime.core.matchers import GrammarMatcher

Make = Callable[[], DraftSource]
FREE_SOURCES: Mapping[str, Make] = MappingProxyType(
    {"tree": TreeSource, "prompt": PromptSource, "grammar": GrammarSource}
)
"""Those that compute nothing."""
MOST_DRAFTS = 63
"""Of one sequence in a step."""
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
    guesses: list[tuple[Trust, Guess]] = field(default_factory=list)
    chosen: str = ""


class Drafter:
    """For one scheduler: `begin` a step, `draft` for each of its sequences; `observe` what came; `took` so long."""

    def __init__(self, sources: Mapping[str, Make], max_batch_tokens: int) -> None:
        """sources: what makes one for a sequence, by name. max_batch_tokens: of a step, drafts included."""
        self.cost = StepCost()
        self.counts = {name: DraftCount() for name in sources}
        self._sources = sources
        self._max_batch_tokens = max_batch_tokens
        self._trust = {name: Trust(make().first_trust) for name, make in sources.items()}
        self._asked: dict[int, _Asked] = {}  # by id of the sequence
        self._num_rows = 0  # of the step, without drafts
        self._num_drafts = 0
        self._likely = 0.0  # of the drafts, those that are likely to be kept
        self._pays: bool | None = None  # whether one more would pay if it was right; None: not known yet

    def begin(self, num_rows: int) -> None:
        """A step of at least so many tokens without drafts."""
        self._num_rows, self._num_drafts, self._likely, self._pays = num_rows, 0, 0.0, None

    def draft(self, sequence: core.Sequence, num_rows: int, most: int) -> list[int]:
        """What to compute behind the sequence's tokens, at most so many, in a step that has `num_rows` tokens without
        any drafts, or those that it was begun with."""
        asked, request = self._asked.get(id(sequence)), sequence.request
        if asked is not None:
            asked.guesses.clear()
        if num_rows > self._num_rows:
            self._num_rows, self._pays = num_rows, None
        room = self._max_batch_tokens - self._num_rows - self._num_drafts
        at_most = min(MOST_DRAFTS, most, room, request.max_tokens - sequence.num_generated - 1)
        if not self._sources or at_most < 1 or not request.drafts or request.sampling.has_penalties:
            return []  # penalties of a draft would depend on drafts before it
        if self._pays is None:
            self._pays = self._can_pay()
        if not self._pays:
            return []
        if asked is None:
            made = [(name, make(), self._trust[name].of_sequence()) for name, make in self._sources.items()]
            asked = self._asked[id(sequence)] = _Asked(made)
        return self._choose(sequence, asked, at_most)

    def _can_pay(self) -> bool:
        now = self._num_rows + self._num_drafts
        least = MARGIN * (self._num_rows + self._likely) / self.cost.of(now)
        return any(size > now and (size - now + self._num_rows + self._likely) / self.cost.of(size) > least
                   for size in SIZES)  # fmt: skip

    def _choose(self, sequence: core.Sequence, asked: _Asked, at_most: int) -> list[int]:
        now, useful = self._num_rows + self._num_drafts, self._num_rows + self._likely
        best, drafts, gained = MARGIN * useful / self.cost.of(now), list[int](), 0.0
        for name, source, trust in asked.sources:
            guess = source.guess(sequence, at_most)
            if not guess.tokens:
                continue
            asked.guesses.append((trust, guess))
            gains = list(accumulate(trust.chances(guess.grounds, len(guess.tokens)), initial=0.0))
            for size in SIZES:
                count = size - now
                if count <= 0:
                    continue
                cost = self.cost.of(size)
                if count >= len(gains) or (useful + gains[-1]) / cost < best:
                    break  # all of them would not be worth it
                if (useful + gains[count]) / cost > best:
                    best, gained = (useful + gains[count]) / cost, gains[count]
                    asked.chosen, drafts = name, guess.tokens[:count]
        if drafts:
            drafts = _possible(sequence, drafts)
            self._num_drafts += len(drafts)
            self._likely += gained
            self._pays = None
        return drafts

    def took(self, batch: Batch, seconds: float) -> None:
        """A step took so long. Only those count in which each token was sampled, as drafts are."""
        if batch.num_samples == batch.num_tokens:
            self.cost.took(batch.num_tokens, seconds)

    def observe(self, sequence: core.Sequence, came: Sequence[int], num_drafts: int, num_accepted: int) -> None:
        """A step has computed so many drafts for a sequence and kept so many: these tokens came."""
        asked = self._asked.get(id(sequence))
        if asked is None:
            return
        for trust, guess in asked.guesses:
            num_right = _num_equal(guess.tokens, came)
            trust.saw(guess.grounds, num_right, is_wrong=num_right < min(len(guess.tokens), len(came)))
        asked.guesses.clear()
        if num_drafts:
            count = self.counts[asked.chosen]
            count.proposed += num_drafts
            count.accepted += num_accepted

    def forget(self, sequence: core.Sequence) -> None:
        """The sequence has ended."""
        self._asked.pop(id(sequence), None)


def _num_equal(left: Sequence[int], right: Sequence[int]) -> int:
    """With which both begin."""
    count = 0
    for one, other in zip(left, right, strict=False):
        if one != other:
            break
        count += 1
    return count


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

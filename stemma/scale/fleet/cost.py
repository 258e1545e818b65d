"""What computing a prompt costs on each replica, learnt from what they report: seconds = a + b * tokens.

Least squares whose past fades; a replica that has said little is taken for the fleet's average. Has no clock.
"""

from __future__ import annotations

from stemma.runtime.errors import InvalidRequest

FADING = 0.98
"""What a report counts once the next one is there."""
PRIOR = 4.0
"""The fleet's average counts as so many reports of each replica."""
NOTHING = 2.0
"""That no tokens cost no seconds counts as so many reports. Reports of one length, and a slow one among them, would
else say that all prompts cost the same, and a hit would be worth nothing."""


class _Sums:
    """Of the reports: their count, and what two unknowns need."""

    __slots__ = ("both", "count", "seconds", "squares", "tokens")

    def __init__(self) -> None:
        self.count = self.tokens = self.squares = self.seconds = self.both = 0.0

    def add(self, tokens: float, seconds: float) -> None:
        self.count = FADING * self.count + 1
        self.tokens = FADING * self.tokens + tokens
        self.squares = FADING * self.squares + tokens * tokens
        self.seconds = FADING * self.seconds + seconds
        self.both = FADING * self.both + tokens * seconds

    def line(self, prior: tuple[float, float] | None) -> tuple[float, float]:
        """Seconds of a prompt of no tokens, and of each token; neither is below nothing."""
        count, tokens, squares, seconds, both = self.count, self.tokens, self.squares, self.seconds, self.both
        usual = tokens / count
        count += NOTHING
        if prior is not None:  # PRIOR more reports, of the usual length, half of it and one and a half
            first, each = prior
            for length in (0.5 * usual, usual, 1.5 * usual):
                count += PRIOR / 3
                tokens += PRIOR / 3 * length
                squares += PRIOR / 3 * length * length
                seconds += PRIOR / 3 * (first + each * length)
                both += PRIOR / 3 * length * (first + each * length)
        slope = max(0.0, (count * both - tokens * seconds) / (count * squares - tokens * tokens))
        start = (seconds - slope * tokens) / count
        return (start, slope) if start >= 0 else (0.0, both / squares)


class PrefillCost:
    """Seconds of prefill by replica."""

    def __init__(self) -> None:
        self._all = _Sums()
        self._of: dict[str, _Sums] = {}
        self._lines: dict[str, tuple[float, float]] = {}
        self._average: tuple[float, float] | None = None

    def learn(self, replica: str, tokens: int, seconds: float) -> None:
        """A replica computed so many tokens of prompts, hits not counted, in so many seconds, waiting not counted."""
        if tokens < 1:
            raise InvalidRequest(f"tokens must be at least 1, got {tokens}", "tokens")
        if not 0 <= seconds < float("inf"):
            raise InvalidRequest(f"seconds must be a time, got {seconds}", "seconds")
        own = self._of.setdefault(replica, _Sums())
        self._all.add(tokens, seconds)
        own.add(tokens, seconds)
        self._average = self._all.line(None)
        self._lines[replica] = own.line(self._average)

    def forget(self, replica: str) -> None:
        """It is gone, or another machine has its name."""
        self._of.pop(replica, None)
        self._lines.pop(replica, None)

    def line(self, replica: str) -> tuple[float, float] | None:
        """Seconds of any prompt, and of each token; None while no replica has reported anything."""
        return self._lines.get(replica, self._average)

"""Generated tokens to text as they come: whole characters only, stop strings and repeated calls cut off. One object a
sequence."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from stemma.runtime.core.sequence import Request
from stemma.runtime.engine.grammars import GrammarSpec, plain
from stemma.runtime.model import Detokenizer, Tokenizer
from stemma.runtime.tongues.repeats import RepeatWatch


class TextStream:
    """Text of one sequence, given out as soon as no later token can change it (a core `StopChecker`).

    |<---- taken ---->|<--- ready --->|<-- held: may be the beginning of a stop string, or a call made twice -->|
    """

    def __init__(
        self, detokenizer: Detokenizer, stop: Sequence[str], silent: Collection[int],
        shown: Mapping[int, str] = MappingProxyType({}), *, min_tokens: int = 0, includes_stop: bool = False,
        repeats: RepeatWatch | None = None,
    ) -> None:  # fmt: skip
        """silent: tokens that have no text, such as end tokens. shown: special tokens that have one here. min_tokens:
        stop strings before so many do not count. includes_stop: the one that ends the text is part of it. repeats: of
        an answer that ends before it makes a call twice."""
        self._detokenizer = detokenizer
        self._stop = tuple(stop)
        self._longest_stop = max(map(len, self._stop), default=0)
        self._silent = silent
        self._shown = shown
        self._num_early = min_tokens
        self._includes_stop = includes_stop
        self._repeats = repeats
        self._text = ""
        self._is_ended = False
        self._num_taken = 0
        self.stopped_by: str | None = None  # the stop string that ended the text

    @property
    def text(self) -> str:
        """All the text so far, what is held back included."""
        return self._text

    def push(self, token: int) -> bool:
        """Take a token; True if a stop string, or a call that was made before, is complete."""
        self._num_early -= 1
        if token in self._silent:
            return False
        if token in self._shown:
            return self._append(self._detokenizer.flush() + self._shown[token])
        return self._append(self._detokenizer.push(token))

    def _append(self, piece: str) -> bool:
        num_before = len(self._text)
        self._text += piece
        if self._num_early > 0:
            return False
        found = [
            (at, stop) for stop in self._stop if (at := self._text.find(stop, max(0, num_before - len(stop) + 1))) >= 0
        ]
        if found:
            begin, self.stopped_by = min(found)
            self._text = self._text[: begin + len(self.stopped_by) * self._includes_stop]
            self._is_ended = True
        elif self._repeats is not None and (whole := self._repeats.push(piece)) is not None:
            self._text = whole
            self._is_ended = True
        return self._is_ended

    def take(self) -> str:
        """The text that has become certain since the last call."""
        end = len(self._text) - self._num_held()
        taken = self._text[self._num_taken : end]
        self._num_taken = max(end, self._num_taken)
        return taken

    def finish(self) -> str:
        """The rest of the text; an unfinished character becomes U+FFFD."""
        if not self._is_ended:
            self._text += self._detokenizer.flush()
        taken = self._text[self._num_taken :]
        self._num_taken = len(self._text)
        return taken

    def _num_held(self) -> int:
        if self._is_ended:
            return 0
        num_held = 0 if self._repeats is None else self._repeats.num_held
        for length in range(min(self._longest_stop - 1, len(self._text)), num_held, -1):
            tail = self._text[-length:]
            if any(stop.startswith(tail) for stop in self._stop):
                return length
        return num_held


def text_stream(
    tokenizer: Tokenizer, request: Request, shown: Mapping[int, str], grammar: GrammarSpec | None
) -> TextStream:
    """For the text of one request."""
    sampling = request.sampling
    return TextStream(
        tokenizer.detokenizer(), sampling.stop, request.end_tokens, shown,
        min_tokens=sampling.min_tokens, includes_stop=sampling.include_stop,
        repeats=None if grammar is None or sampling.min_tokens else RepeatWatch.of(plain(grammar)),
    )  # fmt: skip

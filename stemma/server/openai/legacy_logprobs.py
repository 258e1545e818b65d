"""The `logprobs` object of /v1/completions, in one piece or as a stream brings it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from stemma.runtime.core.sampling import TokenLogprob
from stemma.server.generation.reporting import finite
from stemma.server.generation.token_texts import TokenTexts


class Entry(NamedTuple):
    """One token. offset: where it begins in the text, in characters."""

    token: int
    text: str
    logprob: float | None
    top: Sequence[tuple[int, float]]
    offset: int


class LegacyLogprobs:
    """Lists with one entry a token. text_offset: where it begins in the choice's text, the echoed prompt included.

    Tokens whose text a stop string cut off begin at the end of the text. In a stream an entry waits until the text has
    come as far as to where it begins: only then is that certain.

    with_ids: texts of tokens are not unique, so token ids come too, where the client asked for token ids.
    """

    def __init__(self, texts: TokenTexts, with_ids: bool, shown: Collection[int] = ()) -> None:
        self._texts = texts
        self._with_ids = with_ids
        self._offsets = texts.offsets(shown)
        self._before = 0  # characters of the prompt
        self._waiting: list[Entry] = []

    def add_prompt(self, prompt: Sequence[int], logprobs: Sequence[TokenLogprob], echo: str) -> None:
        """The prompt: its first token has no log-probability. echo: its text, which may lack a leading space."""
        offsets = self._texts.offsets()
        at = [offsets.next(token) for token in prompt]
        surplus = max(offsets.text_len - len(echo), 0)
        self._before = len(echo)
        scores = [(None, ()), *((finite(score.logprob), score.top) for score in logprobs)]
        for token, offset, (logprob, top) in zip(prompt, at, scores, strict=True):
            offset = min(max(offset - surplus, 0), len(echo))
            self._waiting.append(Entry(token, self._texts.text(token), logprob, top, offset))

    def add(self, logprobs: Sequence[TokenLogprob]) -> None:
        """More tokens of the answer."""
        for score in logprobs:
            offset = self._before + self._offsets.next(score.token)
            text = self._texts.text(score.token)
            self._waiting.append(Entry(score.token, text, finite(score.logprob), score.top, offset))

    def report(self, text_len: int) -> dict[str, Any]:
        """The entries that are certain now that the text has this length, and were not reported."""
        num_certain = sum(entry.offset <= text_len for entry in self._waiting)  # offsets never decrease
        certain, self._waiting = self._waiting[:num_certain], self._waiting[num_certain:]
        return self._report(certain)

    def report_rest(self, text_len: int) -> dict[str, Any]:
        """The entries that were not reported, of a text that has ended with this length."""
        rest, self._waiting = self._waiting, []
        return self._report([entry._replace(offset=min(entry.offset, text_len)) for entry in rest])

    def _report(self, entries: Sequence[Entry]) -> dict[str, Any]:
        report: dict[str, Any] = {
            "tokens": [entry.text for entry in entries],
            "token_logprobs": [entry.logprob for entry in entries],
            "top_logprobs": [self._top(entry) for entry in entries],
            "text_offset": [entry.offset for entry in entries],
        }
        if self._with_ids:
            report["token_ids"] = [entry.token for entry in entries]
            report["top_token_ids"] = [[(token, finite(value)) for token, value in entry.top] for entry in entries]
        return report

    def _top(self, entry: Entry) -> dict[str, float] | None:
        if entry.logprob is None:
            return None
        top = {self._texts.text(token): finite(value) for token, value in reversed(entry.top)}
        top.setdefault(entry.text, entry.logprob)
        return top


def prompt_report(scores: Sequence[TokenLogprob], prompt_len: int, texts: TokenTexts) -> list[dict[str, Any] | None]:
    """vLLM's `prompt_logprobs`: for each token of the prompt the alternatives by id, itself among them; None for those
    that were not scored."""
    unscored: list[dict[str, Any] | None] = [None] * (prompt_len - len(scores))
    return unscored + [_alternatives(score, texts) for score in scores]


def _alternatives(score: TokenLogprob, texts: TokenTexts) -> dict[str, Any]:
    ranked = {token: (rank, value) for rank, (token, value) in enumerate(score.top, start=1)}
    known = {score.token: (None, score.logprob), **ranked}
    return {
        str(token): {"logprob": finite(value), "rank": rank, "decoded_token": texts.text(token)}
        for token, (rank, value) in known.items()
    }

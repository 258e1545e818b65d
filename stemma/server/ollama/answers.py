"""Answers to chats and to texts, which differ in where their words stand: whole, or in lines of which each has more.

A call is told when all of it is there, as an object; one that was cut off is not told.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

import msgspec

from stemma.runtime.core.sampling import TokenLogprob
from stemma.runtime.engine import Completion, Delta, Generation
from stemma.runtime.tongues.pieces import Answer, ParsedToolCall, Piece, ReasoningPiece, TextPiece
from stemma.server.generation.chats import ChatTurn, Choice
from stemma.server.generation.generations import outputs
from stemma.server.generation.reporting import logprob_entries, new_id, usage_report
from stemma.server.generation.token_texts import TokenTexts


class Said(NamedTuple):
    """More of an answer."""

    text: str = ""
    thoughts: str = ""
    calls: tuple[ParsedToolCall, ...] = ()
    scores: tuple[TokenLogprob, ...] = ()

    def then(self, other: Said) -> Said:
        """This, and more behind it."""
        return Said(
            self.text + other.text,
            self.thoughts + other.thoughts,
            self.calls + other.calls,
            self.scores + other.scores,
        )


class Voice(Protocol):
    """What makes pieces of a completion's text."""

    def take(self, text: str) -> list[Piece]:
        """What has become certain with more text."""

    def finish(self, completion: Completion) -> list[Piece]:
        """What was held back."""

    def calls(self) -> Sequence[ParsedToolCall]:
        """Those that are whole by now."""

    def context(self, completion: Completion) -> list[int] | None:
        """All tokens up to the end of the answer, to ask more behind them; None where nothing can be asked."""


@dataclass(slots=True)
class ChatVoice:
    """A chat's, which knows thoughts and calls."""

    turn: ChatTurn
    choice: Choice = field(init=False)

    def __post_init__(self) -> None:
        self.choice = self.turn.choice()

    def take(self, text: str) -> list[Piece]:
        """More of it."""
        return self.choice.take(text)

    def finish(self, completion: Completion) -> list[Piece]:
        """The rest; the answer is remembered."""
        pieces = self.choice.finish(completion)
        self.turn.remember(self.choice, completion)
        return pieces

    def calls(self) -> Sequence[ParsedToolCall]:
        """All that were begun, but for one whose arguments are not whole."""
        made = self.choice.answer.calls
        return made[:-1] if self.choice.parser.is_in_arguments else made

    def context(self, completion: Completion) -> list[int] | None:
        """Without the token that ended the answer."""
        ends = self.turn.service.engine.loaded.generation.eos_ids
        return [*self.turn.prompt.tokens, *(token for token in completion.tokens if token not in ends)]


@dataclass(slots=True)
class PlainVoice:
    """A text's, in which nothing is but text."""

    answer: Answer = field(default_factory=Answer)

    def take(self, text: str) -> list[Piece]:
        """More of it."""
        return [TextPiece(text)] if text else []

    def finish(self, completion: Completion) -> list[Piece]:
        """Nothing was held back."""
        return []

    def calls(self) -> Sequence[ParsedToolCall]:
        """None."""
        return ()

    def context(self, completion: Completion) -> list[int] | None:
        """A raw text is the caller's own."""
        return None


@dataclass(slots=True)
class OllamaAnswer:
    """Writes the answer to one request. model: as it was asked for. started: when it came, by time.perf_counter.

    is_chat: its words are a message's, not a response.
    """

    voice: Voice
    texts: TokenTexts
    model: str
    is_chat: bool
    started: float
    id: str = field(default_factory=lambda: new_id("ollama-"))
    submitted: float = field(default_factory=time.perf_counter)
    _num_told: int = 0

    def whole(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """The answer as one object: what its lines say, put together."""
        (completion,) = completions
        delta = Delta(completion.text, completion.tokens, completion.logprobs)
        said = self._said(self.voice.take(delta.text), delta.logprobs)
        return self._last(said.then(self._said(self.voice.finish(completion))), completion)

    async def chunks(self, generations: Sequence[Generation]) -> AsyncGenerator[dict[str, Any]]:
        """The answer in pieces; the last has no words, but what it cost."""
        async with aclosing(outputs(generations)) as items:
            async for _, what in items:
                if isinstance(what, Delta):
                    said = self._said(self.voice.take(what.text), what.logprobs)
                else:
                    said = self._said(self.voice.finish(what))
                if any(said):
                    yield self._chunk(said)
                if isinstance(what, Completion):
                    yield self._last(Said(), what)

    def _said(self, pieces: Sequence[Piece], scores: Sequence[TokenLogprob] = ()) -> Said:
        text = "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))
        thoughts = "".join(piece.text for piece in pieces if isinstance(piece, ReasoningPiece))
        whole = self.voice.calls()
        new, self._num_told = whole[self._num_told :], len(whole)
        return Said(text, thoughts, tuple(new), tuple(scores))

    def _chunk(self, said: Said) -> dict[str, Any]:
        chunk: dict[str, Any] = {"model": self.model, "created_at": timestamp()}
        place: dict[str, Any] = {"role": "assistant", "content": said.text} if self.is_chat else {"response": said.text}
        if said.thoughts:
            place["thinking"] = said.thoughts
        if said.calls:
            first = self._num_told - len(said.calls)
            place["tool_calls"] = [_call(call, first + at) for at, call in enumerate(said.calls)]
        chunk |= {"message": place} if self.is_chat else place
        chunk["done"] = False
        if said.scores:
            chunk["logprobs"] = [_score(entry) for entry in logprob_entries(said.scores, self.texts)]
        return chunk

    def _last(self, said: Said, completion: Completion) -> dict[str, Any]:
        last = self._chunk(said) | {"done": True, "done_reason": completion.finish_reason}
        context = None if self.is_chat else self.voice.context(completion)
        if context is not None:
            last["context"] = context
        return last | self._cost(completion)

    def _cost(self, completion: Completion) -> dict[str, Any]:
        """Durations in nanoseconds, of which none is 0, since clients divide by them; counts of tokens."""
        timing = completion.timing
        queue, ttft, total = timing.queue, timing.ttft, timing.total
        loading = nanoseconds(self.submitted - self.started + queue)
        reading, answering = nanoseconds(ttft - queue), nanoseconds(total - ttft)
        usage = usage_report([completion.usage])
        return {
            "total_duration": loading + reading + answering,
            "load_duration": loading,
            "prompt_eval_count": usage["prompt_tokens"],
            "prompt_eval_duration": reading,
            "eval_count": usage["completion_tokens"],
            "eval_duration": answering,
            "stemma": usage["stemma"],
        }


def loaded(model: str, *, is_chat: bool) -> dict[str, Any]:
    """The answer to a request that asks for nothing but that the model be there. It is, and stays."""
    place: dict[str, Any] = {"message": {"role": "assistant", "content": ""}} if is_chat else {"response": ""}
    return {"model": model, "created_at": timestamp(), **place, "done": True, "done_reason": "load"}


def timestamp(at: float | None = None) -> str:
    """A time in RFC 3339, by default now."""
    moment = datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def nanoseconds(seconds: float) -> int:
    """A duration; at least one."""
    return max(1, round(seconds * 1e9))


def _call(call: ParsedToolCall, index: int) -> dict[str, Any]:
    arguments = msgspec.Raw((call.arguments or "{}").encode())
    return {"id": call.id, "function": {"index": index, "name": call.name, "arguments": arguments}}


def _score(entry: dict[str, Any]) -> dict[str, Any]:
    """Without alternatives, if none were asked for."""
    return entry if entry["top_logprobs"] else {name: entry[name] for name in ("token", "logprob", "bytes")}

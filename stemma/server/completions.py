"""POST /v1/completions: texts to continue, in all forms of the prompt, with echo and the older log-probabilities."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import msgspec
from starlette.responses import Response

from stemma.runtime.core.sampling import TokenLogprob
from stemma.runtime.engine import Completion, Generation, RequestOptions
from stemma.server.endpoint import Call
from stemma.server.errors import bad_request
from stemma.server.forms import text_form
from stemma.server.generating import completed, constrain, said, start
from stemma.server.options import sampling_options, stream_options
from stemma.server.replies import EventReply, chunk_events, json_reply
from stemma.server.reporting import finite, new_id, now, usage_report
from stemma.server.service import Service
from stemma.server.token_texts import TokenTexts
from stemma.server.wire.common import TokenId
from stemma.server.wire.completions import CompletionRequest

LEGACY_MAX_TOKENS = 16


async def completions(call: Call[CompletionRequest]) -> Response:
    """Continue texts."""
    body, service = call.body, call.service
    service.check_model(body.model)
    streaming = stream_options(body)
    options = sampling_options(body, call.tenant)
    if body.best_of not in (None, body.n or 1):
        raise bad_request("best_of is supported only where it equals n", "best_of")
    options.update(logprob_options(body))
    await constrain(service, options, text_form(body))
    prompts = await service.work(prompts_of, service, body)
    generations = start(call, prompts, body.n or 1, body.max_tokens, LEGACY_MAX_TOKENS, options)
    answer = CompletionAnswer(service, body, prompts)
    if body.stream:
        return EventReply(answer.events(generations, bool(streaming.include_usage)), service.config)
    return json_reply(answer.whole(await completed(generations)))


def logprob_options(body: CompletionRequest) -> RequestOptions:
    """Which log-probabilities are wanted. Raises ApiError if that is said twice."""
    options = RequestOptions()
    if body.logprobs is not None:
        options["logprobs"] = body.logprobs
        if body.echo:
            options["prompt_logprobs"] = body.logprobs
    if body.prompt_logprobs is not None:
        if "prompt_logprobs" in options:
            raise bad_request("echo with logprobs has those of the prompt already", "prompt_logprobs")
        options["prompt_logprobs"] = body.prompt_logprobs
        options["scored_from"] = 1 if body.scored_from is None else body.scored_from
    elif body.scored_from is not None:
        raise bad_request("scored_from is for prompt_logprobs", "scored_from")
    return options


def prompts_of(service: Service, body: CompletionRequest) -> list[list[int]]:
    """Token ids of each prompt. Raises ApiError."""
    if body.prompt_token_ids is not None:
        if body.prompt is not None:
            raise bad_request("give prompt or prompt_token_ids, not both", "prompt_token_ids")
        return [body.prompt_token_ids]
    prompt = body.prompt
    if prompt is None:
        raise bad_request("prompt is missing", "prompt", "missing_required_parameter")
    if isinstance(prompt, str):
        return [encode_text(service, prompt)]
    if not prompt:
        raise bad_request("prompt is an empty list", "prompt")
    for kind in (list[TokenId], list[list[TokenId]], list[str]):
        try:
            given = cast(list[Any], msgspec.convert(prompt, kind))
        except msgspec.ValidationError:
            continue
        if isinstance(given[0], str):
            return [encode_text(service, text) for text in given]
        return given if isinstance(given[0], list) else [given]
    raise bad_request("prompt is a text, a list of texts, a list of token ids, or a list of such lists", "prompt")


def encode_text(service: Service, text: str) -> list[int]:
    """Tokens of a plain prompt. Raises PromptTooLong."""
    service.prompter.check_length(len(text), "prompt")
    return service.tokenizer.encode_prompt(text)


@dataclass(slots=True)
class CompletionAnswer:
    """Writes the answer to one request. The choices of prompt p are numbers p * n to p * n + n - 1."""

    service: Service
    body: CompletionRequest
    prompts: Sequence[Sequence[int]]
    id: str = field(default_factory=lambda: new_id("cmpl-"))
    created: int = field(default_factory=now)

    @property
    def _n(self) -> int:
        return self.body.n or 1

    def whole(self, completions: Sequence[Completion]) -> dict[str, Any]:
        """The answer as one object."""
        choices = [self._choice(index, completion) for index, completion in enumerate(completions)]
        usage = usage_report([completion.usage for completion in completions], self._n)
        return {**self._head(), "choices": choices, "usage": usage}

    def _head(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "text_completion",
            "created": self.created,
            "model": self.service.model_name,
            "system_fingerprint": self.service.fingerprint,
        }

    def _choice(self, index: int, completion: Completion) -> dict[str, Any]:
        prompt = self.prompts[index // self._n]
        before = self._echo(index)
        choice: dict[str, Any] = {
            "index": index,
            "text": before + completion.text,
            "logprobs": None,
            "finish_reason": completion.finish_reason,
        }
        if self.body.logprobs is not None:
            record = self._record()
            if self.body.echo:
                record.add_prompt(prompt, completion.prompt_logprobs)
            record.add(completion.logprobs)
            choice["logprobs"] = record.report()
        if self.body.return_token_ids:
            choice |= {"prompt_token_ids": prompt, "token_ids": completion.tokens}
        return choice | self._known_at_the_end(index, completion)

    def _known_at_the_end(self, index: int, completion: Completion) -> dict[str, Any]:
        """What a choice has beyond OpenAI's fields, if it was asked for. jumped: indexes of forced tokens."""
        known: dict[str, Any] = {}
        if self.body.prompt_logprobs is not None:
            prompt = self.prompts[index // self._n]
            known["prompt_logprobs"] = prompt_report(completion.prompt_logprobs, len(prompt), self.service.texts)
        if self.body.return_token_ids:
            known["jumped"] = completion.jumped
        return known

    def _record(self) -> LegacyLogprobs:
        return LegacyLogprobs(self.service.texts, bool(self.body.return_token_ids))

    def _echo(self, index: int) -> str:
        """The prompt's text, if it is to be part of the answer."""
        if not self.body.echo:
            return ""
        given = self.body.prompt
        at = index // self._n
        if isinstance(given, str):
            return given
        if given is not None and isinstance(given[at], str):
            return cast(str, given[at])
        return self.service.tokenizer.decode(self.prompts[at])

    # Streamed ----------------------------------------------------------------
    def events(self, generations: Sequence[Generation], include_usage: bool) -> AsyncGenerator[bytes]:
        """The answer in chunks."""
        return chunk_events(self._chunks(generations, include_usage))

    async def _chunks(self, generations: Sequence[Generation], include_usage: bool) -> AsyncGenerator[dict[str, Any]]:
        records = [self._record() for _ in generations]
        last: list[Completion | None] = [None] * len(generations)
        for index, record in enumerate(records):
            chunk = self._chunk(index, self._echo(index), include_usage)
            if self.body.return_token_ids:
                chunk["choices"][0]["prompt_token_ids"] = self.prompts[index // self._n]
            if self.body.echo and self.body.logprobs is not None:
                completion = await generations[index]  # the prompt's log-probabilities are known at the end
                record.add_prompt(self.prompts[index // self._n], completion.prompt_logprobs)
                chunk["choices"][0]["logprobs"] = record.report_new()
            if self.body.echo or self.body.return_token_ids:
                yield chunk
        async with aclosing(said(generations)) as items:
            async for index, what in items:
                if isinstance(what, Completion):
                    last[index] = what
                    chunk = self._chunk(index, "", include_usage, what.finish_reason)
                    chunk["choices"][0] |= self._known_at_the_end(index, what)
                    yield chunk
                    continue
                chunk = self._chunk(index, what.text, include_usage)
                if self.body.logprobs is not None:
                    records[index].add(what.logprobs)
                    chunk["choices"][0]["logprobs"] = records[index].report_new()
                if self.body.return_token_ids:
                    chunk["choices"][0]["token_ids"] = what.tokens
                if what.text or self.body.logprobs is not None or self.body.return_token_ids:
                    yield chunk
        if include_usage:
            usages = [completion.usage for completion in last if completion is not None]
            yield {**self._head(), "choices": [], "usage": usage_report(usages, self._n)}

    def _chunk(self, index: int, text: str, include_usage: bool, reason: str | None = None) -> dict[str, Any]:
        chunk = self._head()
        chunk["choices"] = [{"index": index, "text": text, "logprobs": None, "finish_reason": reason}]
        if include_usage:
            chunk["usage"] = None
        return chunk


class Entry(NamedTuple):
    """One token of the older log-probabilities. offset: of its text, in characters."""

    token: int
    text: str
    logprob: float | None
    top: Sequence[tuple[int, float]]
    offset: int


class LegacyLogprobs:
    """The `logprobs` object of /v1/completions: lists with one entry a token. text_offset counts characters.

    with_ids: texts of tokens are not unique, so token ids come too, where the client asked for token ids.
    """

    def __init__(self, texts: TokenTexts, with_ids: bool) -> None:
        self._texts = texts
        self._with_ids = with_ids
        self._entries: list[Entry] = []
        self._offset = 0
        self._num_reported = 0

    def add_prompt(self, prompt: Sequence[int], logprobs: Sequence[TokenLogprob]) -> None:
        """The prompt: its first token has no log-probability."""
        self._append(prompt[0], None, ())
        self.add(logprobs)

    def add(self, logprobs: Sequence[TokenLogprob]) -> None:
        """More tokens."""
        for entry in logprobs:
            self._append(entry.token, finite(entry.logprob), entry.top)

    def report(self) -> dict[str, Any]:
        """All of it."""
        return self._report(self._entries)

    def report_new(self) -> dict[str, Any]:
        """What came since the last report."""
        new = self._entries[self._num_reported :]
        self._num_reported = len(self._entries)
        return self._report(new)

    def _append(self, token: int, logprob: float | None, top: Sequence[tuple[int, float]]) -> None:
        text = self._texts.text(token)
        self._entries.append(Entry(token, text, logprob, top, self._offset))
        self._offset += len(text)

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

"""POST /v1/completions: texts to continue, in all forms of the prompt, with echo and the older log-probabilities."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec
from starlette.responses import Response

from stemma.runtime.core.sampling import TokenLogprob
from stemma.runtime.engine import Completion, Delta, Generation, RequestOptions
from stemma.runtime.tongues.answer_grammar import MAX_CALLS
from stemma.server.generation.answering import reply
from stemma.server.generation.generations import constrain, outputs, start, truncated
from stemma.server.generation.options import sampling_options, shown_tokens, stop_reason, stream_options
from stemma.server.generation.reporting import StreamUsage, new_id, now, usage_report
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import bad_request
from stemma.server.openai.legacy_logprobs import LegacyLogprobs, prompt_report
from stemma.server.openai.wire import CompletionRequest
from stemma.server.outputs.constraints import OutputConstraint, ToolUse, behind_thoughts, or_calls, text_constraint
from stemma.server.prompts.prompter import ChatPrompter
from stemma.server.wire.common import TokenId

LEGACY_MAX_TOKENS = 16


async def completions(context: RequestContext[Service, CompletionRequest]) -> Response:
    """Continue texts."""
    body, service = context.body, context.service
    streaming = stream_options(body)
    options = sampling_options(body, context.tenant, service)
    if body.best_of not in (None, body.n or 1):
        raise bad_request("best_of is supported only where it equals n", "best_of")
    options.update(logprob_options(body))
    prompts = truncated(await service.work(prompts_of, service, body), body, body.max_tokens, service)
    constraint = text_constraint(body)
    if body.behind_thoughts or body.calling is not None:
        constraint = chat_constraint(body, constraint, service.prompter, prompts)
    await constrain(context, options, constraint)
    generations = start(context, prompts, body.n or 1, body.max_tokens, LEGACY_MAX_TOKENS, options)
    answer = CompletionAnswer(service, body, prompts, StreamUsage(streaming, sum(map(len, prompts))))
    return await reply(context, answer, generations)


def chat_constraint(
    body: CompletionRequest, form: OutputConstraint | None, prompter: ChatPrompter, prompts: Sequence[Sequence[int]]
) -> OutputConstraint | None:
    """Of a chat's answer whose prompt came as token ids. Raises ApiError."""
    param = "calling" if body.calling is not None else "behind_thoughts"
    if len(prompts) > 1:
        raise bad_request(f"{param} is for one prompt", param)
    standing = prompter.standing(prompts[0])
    if body.calling is None:
        return None if form is None else behind_thoughts(form, prompter.tongue, standing)
    calling = body.calling
    tools = ToolUse(calling.tools, calling.tools, bool(calling.required), calling.max_calls or MAX_CALLS)
    return or_calls(form, tools, prompter.tongue, standing)


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
        return [service.prompter.encode_text(prompt)]
    if not prompt:
        raise bad_request("prompt is an empty list", "prompt")
    for kind in (list[TokenId], list[list[TokenId]], list[str]):
        try:
            given = cast(list[Any], msgspec.convert(prompt, kind))
        except msgspec.ValidationError:
            continue
        if isinstance(given[0], str):
            return [service.prompter.encode_text(text) for text in given]
        return given if isinstance(given[0], list) else [given]
    raise bad_request("prompt is a text, a list of texts, a list of token ids, or a list of such lists", "prompt")


@dataclass(slots=True)
class CompletionAnswer:
    """Writes the answer to one request. The choices of prompt p are numbers p * n to p * n + n - 1."""

    service: Service
    body: CompletionRequest
    prompts: Sequence[Sequence[int]]
    usage: StreamUsage
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
            "model": self.service.name_of(self.body.model),
            "system_fingerprint": self.service.fingerprint,
        }

    def _choice(self, index: int, completion: Completion) -> dict[str, Any]:
        prompt = self.prompt(index)
        echo = self.echo(index)
        choice: dict[str, Any] = {
            "index": index,
            "text": echo + completion.text,
            "logprobs": None,
            "finish_reason": completion.finish_reason,
        }
        if self.body.logprobs is not None:
            record = self.record()
            if self.body.echo:
                record.add_prompt(prompt, completion.prompt_logprobs, echo)
            record.add(completion.logprobs)
            choice["logprobs"] = record.report_rest(len(echo + completion.text))
        if self.body.return_token_ids:
            choice |= {"prompt_token_ids": prompt, "token_ids": completion.tokens}
        return choice | self._known_at_the_end(index, completion)

    def _known_at_the_end(self, index: int, completion: Completion) -> dict[str, Any]:
        """What a choice has beyond OpenAI's fields: vLLM's stop_reason, and what was asked for.

        jumped: indexes of forced tokens. stopped_by: the stop string that ended it.
        """
        known: dict[str, Any] = {"stop_reason": stop_reason(completion, self.body)}
        if self.body.prompt_logprobs is not None:
            prompt_len = len(self.prompt(index))
            known["prompt_logprobs"] = prompt_report(completion.prompt_logprobs, prompt_len, self.service.texts)
        if self.body.return_token_ids:
            known |= {"jumped": completion.jumped, "stopped_by": completion.stopped_by}
        return known

    def prompt(self, index: int) -> Sequence[int]:
        """Tokens of a choice's prompt."""
        return self.prompts[index // self._n]

    def record(self) -> LegacyLogprobs:
        """A collector of one choice's log-probabilities."""
        shown = shown_tokens(self.body, self.service)
        return LegacyLogprobs(self.service.texts, bool(self.body.return_token_ids), shown)

    def echo(self, index: int) -> str:
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
    async def chunks(self, generations: Sequence[Generation]) -> AsyncGenerator[dict[str, Any]]:
        """The answer in pieces."""
        streams = [ChoiceStream(self, index) for index in range(len(generations))]
        last: list[Completion | None] = [None] * len(generations)
        if self.body.echo or self.body.return_token_ids:
            for stream in streams:
                yield self._chunk(stream.index, stream.begin())
        async with aclosing(outputs(generations)) as items:
            async for index, what in items:
                if isinstance(what, Completion):
                    last[index] = what
                    end = streams[index].finish(what) | self._known_at_the_end(index, what)
                    yield self._chunk(index, end, what.finish_reason)
                    continue
                self.usage.num_completion += len(what.tokens)
                if (more := streams[index].take(what)) is not None:
                    yield self._chunk(index, more)
        if self.usage.options.include_usage:
            usages = [completion.usage for completion in last if completion is not None]
            yield {**self._head(), "choices": [], "usage": usage_report(usages, self._n)}

    def _chunk(self, index: int, more: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        chunk = self._head()
        chunk["choices"] = [{"index": index, "text": "", "logprobs": None, "finish_reason": reason, **more}]
        return chunk | self.usage.report()


class ChoiceStream:
    """One choice on its way: fields of its chunks.

    With log-probabilities, token ids come with theirs, which may be after their text.
    """

    def __init__(self, answer: CompletionAnswer, index: int) -> None:
        self._answer = answer
        self._body = answer.body
        self.index = index
        self._record = answer.record() if answer.body.logprobs is not None else None
        self._has_prompt = False
        self._num_echoed = 0  # tokens in the next report that are the prompt's
        self._echo = answer.echo(index)
        self._text_len = len(self._echo)

    def begin(self) -> dict[str, Any]:
        """What is asked for of the prompt, but for its log-probabilities."""
        chunk: dict[str, Any] = {"text": self._echo}
        if self._body.return_token_ids:
            chunk["prompt_token_ids"] = self._answer.prompt(self.index)
        return chunk

    def take(self, delta: Delta) -> dict[str, Any] | None:
        """What a delta adds; None for nothing that was asked for."""
        self._text_len += len(delta.text)
        chunk: dict[str, Any] = {"text": delta.text}
        if self._record is not None:
            self._add_prompt(self._record, delta.prompt_logprobs)
            self._record.add(delta.logprobs)
            chunk |= self._scores(self._record.report(self._text_len))
        elif self._body.return_token_ids:
            chunk["token_ids"] = delta.tokens
        return chunk if delta.text or len(chunk) > 1 else None

    def finish(self, completion: Completion) -> dict[str, Any]:
        """What was held back."""
        if self._record is None:
            return {}
        self._add_prompt(self._record, completion.prompt_logprobs)
        rest = self._record.report_rest(self._text_len)
        return self._scores(rest) if rest["tokens"] else {}

    def _add_prompt(self, record: LegacyLogprobs, logprobs: Sequence[TokenLogprob]) -> None:
        """They come with the first delta: where every token has a log-probability, none is told before its prompt."""
        if self._body.echo and not self._has_prompt:
            prompt = self._answer.prompt(self.index)
            record.add_prompt(prompt, logprobs, self._echo)
            self._num_echoed = len(prompt)
        self._has_prompt = True

    def _scores(self, report: dict[str, Any]) -> dict[str, Any]:
        if not self._body.return_token_ids:
            return {"logprobs": report}
        num_echoed = self._num_echoed
        self._num_echoed = 0
        return {"logprobs": report, "token_ids": report["token_ids"][num_echoed:]}

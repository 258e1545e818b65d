"""Starting generations for an HTTP request, and taking what several of them say in the order in which it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from typing import Any, NamedTuple

from stemma.runtime.engine import Completion, Delta, Generation, RequestOptions
from stemma.runtime.errors import EngineClosed, InvalidRequest
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import ApiError, bad_request
from stemma.server.outputs.constraints import OutputConstraint
from stemma.server.wire.common import GenerationRequest


class ChoiceOutput(NamedTuple):
    """What one choice said: more, or that it is complete."""

    choice: int
    what: Delta | Completion


async def constrain(
    context: RequestContext[Service, Any], options: RequestOptions, constraint: OutputConstraint | None
) -> None:
    """Have a constraint compiled, in bounded time, and put it among the options. Raises ApiError."""
    if constraint is None:
        return
    owned = partial(context.service.owned, context.tenant)
    constraint = constraint._replace(spec=owned(constraint.spec))
    try:
        with context.record.compiles():
            await _compiled(context.service, constraint)
    except ApiError:
        if constraint.otherwise is None:
            raise
        options["grammar"] = owned(constraint.otherwise)
    else:
        options["grammar"] = constraint.spec


async def _compiled(service: Service, constraint: OutputConstraint) -> None:
    config = service.config
    if constraint.num_bytes > config.max_grammar_bytes:
        message = (
            f"{constraint.param} has {constraint.num_bytes} bytes; no more than {config.max_grammar_bytes} are taken"
        )
        raise bad_request(message, constraint.param)
    try:
        await service.compilers.prepare(constraint.spec)
    except InvalidRequest as error:
        raise bad_request(str(error), constraint.param) from error


def start(
    context: RequestContext[Service, Any],
    prompts: Sequence[Sequence[int]],
    n: int,
    max_tokens: int | None,
    default_tokens: int,
    options: RequestOptions,
) -> list[Generation]:
    """`n` generations of each prompt, which end with the request. Raises ApiError, InvalidRequest or PromptTooLong.

    max_tokens: as asked. default_tokens: if nothing was asked, as far as the context has room.
    """
    service = context.service
    if len(prompts) * n > service.config.max_choices:
        param = "n" if n > 1 else "prompt"
        raise bad_request(
            f"a request may have {service.config.max_choices} choices; this has {len(prompts) * n}", param
        )
    context.cleanup.enter_context(service.limiter.enter(context.tenant.name, len(prompts) * n))
    generations: list[Generation] = []
    context.cleanup.enter_context(service.under_way(generations))
    context.record.submitted(generations, options.get("lora") or service.model_name)
    for prompt in prompts:
        submitted = options.copy()
        limit = max_tokens
        if limit is None:
            limit = max(0, min(default_tokens, service.engine.room(len(prompt))))
        submitted["max_tokens"] = limit
        generations += service.engine.submit_samples(prompt, n, **submitted)
    return generations


def truncated(
    prompts: Sequence[list[int]], body: GenerationRequest, max_tokens: int | None, service: Service
) -> list[list[int]]:
    """The prompts' last tokens, as many as `truncate_prompt_tokens` says. Raises ApiError."""
    limit = body.truncate_prompt_tokens
    if limit is None:
        return list(prompts)
    if limit == 0:
        raise bad_request(
            "truncate_prompt_tokens is a number of tokens, or -1 for what has room", "truncate_prompt_tokens"
        )
    if limit == -1:
        limit = max(1, service.engine.room(0) - max(1, max_tokens or 0))
    return [prompt[-limit:] for prompt in prompts]


@contextmanager
def errors_of_prompt_named(param: str) -> Iterator[None]:
    """What the engine says of its prompt is said of this field of the request."""
    try:
        yield
    except (ApiError, InvalidRequest) as error:
        if error.param in ("prompt", "messages"):
            error.param = param
        raise


async def completed(generations: Sequence[Generation]) -> list[Completion]:
    """All the completions, in order. Raises the first error."""
    completions = await asyncio.gather(*generations)
    for completion in completions:
        check(completion)
    return completions


async def outputs(generations: Sequence[Generation]) -> AsyncGenerator[ChoiceOutput]:
    """Deltas and completions as they come. What comes while the reader is busy is joined into one delta."""
    if len(generations) == 1:
        async with aclosing(aiter(generations[0])) as deltas:
            async for delta in deltas:
                yield ChoiceOutput(0, delta)
        yield ChoiceOutput(0, check(await generations[0]))
        return
    queue: asyncio.Queue[ChoiceOutput | Exception] = asyncio.Queue(maxsize=1)
    feeders = [asyncio.create_task(_feed(queue, index, item)) for index, item in enumerate(generations)]
    try:
        num_open = len(generations)
        while num_open:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            num_open -= isinstance(item.what, Completion)
            yield item
    finally:
        for feeder in feeders:
            feeder.cancel()
        await asyncio.gather(*feeders, return_exceptions=True)


async def _feed(queue: asyncio.Queue[ChoiceOutput | Exception], index: int, generation: Generation) -> None:
    try:
        async with aclosing(aiter(generation)) as deltas:
            async for delta in deltas:
                await queue.put(ChoiceOutput(index, delta))
        await queue.put(ChoiceOutput(index, check(await generation)))
    except Exception as error:
        await queue.put(error)


def check(completion: Completion) -> Completion:
    """Raises EngineClosed for a completion that was ended from outside."""
    if completion.finish_reason == "abort":
        raise EngineClosed("the request was ended before it was complete")
    return completion

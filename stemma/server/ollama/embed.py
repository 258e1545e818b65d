"""POST /api/embed and /api/embeddings: texts as vectors."""

from __future__ import annotations

import time
from typing import Any, cast

from starlette.responses import Response

from stemma.runtime.core.sequence import Usage
from stemma.runtime.engine.embedding import Embedding, EmbeddingOptions, EmbeddingRequest
from stemma.server.generation.readings import check_count, read, request_options
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import bad_request
from stemma.server.http.replies import json_reply
from stemma.server.ollama.answers import nanoseconds
from stemma.server.ollama.translation import model_of
from stemma.server.ollama.wire import OllamaEmbeddingsRequest, OllamaEmbedRequest

NO_TIME = 1
"""Nanoseconds for which a model that is there is loaded."""


async def embed(context: RequestContext[Service, OllamaEmbedRequest]) -> Response:
    """Texts as vectors of length 1. No text asks whether the model is there."""
    body, started = context.body, time.perf_counter()
    model_of(context, body.model)
    texts = [body.input] if isinstance(body.input, str) else body.input or []
    made: list[Embedding] = []
    if any(texts):
        options = EmbeddingOptions(normalize=True, dimensions=body.dimensions or None)
        made = await _vectors(context, texts, options, cuts=body.truncate is not False)
    vectors = [each.vector.tolist() for each in made]
    count = sum((each.usage for each in made), Usage()).prompt_tokens
    took = nanoseconds(time.perf_counter() - started)
    cost = {"total_duration": took, "load_duration": NO_TIME, "prompt_eval_count": count} if made else {}
    return await context.service.work(json_reply, {"model": body.model, "embeddings": vectors, **cost})


async def embeddings(context: RequestContext[Service, OllamaEmbeddingsRequest]) -> Response:
    """One text as a vector, of the length that it has."""
    model_of(context, context.body.model)
    if not context.body.prompt:
        return json_reply({"embedding": []})
    (made,) = await _vectors(context, [context.body.prompt], EmbeddingOptions(normalize=False), cuts=True)
    return await context.service.work(json_reply, {"embedding": made.vector.tolist()})


async def _vectors(
    context: RequestContext[Service, Any], texts: list[str], options: EmbeddingOptions, *, cuts: bool
) -> list[Embedding]:
    """cuts: what is too long loses its end."""
    service, body = context.service, context.body
    check_count(len(texts), "input")
    if not all(texts):
        raise bad_request("input has a text without content", "input")
    known = request_options(context, body)
    ask = service.engine.embedder.ask(cast(EmbeddingOptions, {**options, **known}))
    prompts = await service.work(lambda: [_tokens(service, ask, text, cuts=cuts) for text in texts])
    return [ask.embedding(completion) for completion in await read(context, prompts, ask.request, "input")]


def _tokens(service: Service, ask: EmbeddingRequest, text: str, *, cuts: bool) -> list[int]:
    """Of one text. Raises PromptTooLong."""
    if cuts:
        text = text[: service.prompter.max_characters]
    service.prompter.check_length(len(text), "input")
    tokens: list[int] = ask.tokens(text)
    room = service.engine.room(1)
    if not cuts or len(tokens) <= room:
        return tokens
    ending = service.tokenizer.suffix_ids
    return [*tokens[: room - len(ending)], *ending]

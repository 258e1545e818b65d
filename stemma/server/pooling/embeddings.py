"""POST /v1/embeddings: texts as vectors."""

from __future__ import annotations

import base64
from typing import Any, cast

import msgspec
import numpy as np
import numpy.typing as npt
from starlette.responses import Response

from stemma.runtime.engine.embedding import Embedding, EmbeddingOptions, EmbeddingRequest
from stemma.server.generation.readings import check_count, read, request_options, usage_report
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import bad_request
from stemma.server.http.replies import json_reply
from stemma.server.pooling.wire import EmbeddingsRequest
from stemma.server.wire.common import TokenId


async def embeddings(context: RequestContext[Service, EmbeddingsRequest]) -> Response:
    """Embed texts."""
    body, service = context.body, context.service
    named = {name: getattr(body, name) for name in ("pooling", "normalize", "dimensions", "prompt_name")}
    options = cast(EmbeddingOptions, {**named, **request_options(context, body)})
    ask = service.engine.embedder.ask(options)
    prompts = await service.work(_prompts, service, ask, body.input)
    completions = await read(context, prompts, ask.request, "input")
    made = [ask.embedding(completion) for completion in completions]
    return await service.work(json_reply, _report(made, body.encoding_format or "float", service.name_of(body.model)))


def _prompts(service: Service, ask: EmbeddingRequest, given: str | list[Any]) -> list[list[int]]:
    """Token ids of each text. Raises ApiError."""
    texts = [given] if isinstance(given, str) else given
    for kind in (list[str], list[list[TokenId]], list[TokenId]):
        try:
            read_as = cast(list[Any], msgspec.convert(texts, kind))
        except msgspec.ValidationError:
            continue
        if kind == list[TokenId]:
            read_as = [read_as]
        check_count(len(read_as), "input")
        if not all(read_as):
            raise bad_request("input has a text without content", "input")
        for text in read_as:
            if isinstance(text, str):
                service.prompter.check_length(len(text), "input")
        return [ask.tokens(text) for text in read_as]
    raise bad_request("input is a text, a list of texts, a list of token ids, or a list of such lists", "input")


def _report(made: list[Embedding], form: str, model: str) -> dict[str, Any]:
    data = [
        {"object": "embedding", "index": index, "embedding": _numbers(each.vector, form)}
        for index, each in enumerate(made)
    ]
    usage = usage_report([each.usage for each in made])
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _numbers(vector: npt.NDArray[np.float32], form: str) -> list[float] | str:
    """As JSON numbers, or as the bytes of little-endian floats of 32 bits."""
    return vector.tolist() if form == "float" else base64.b64encode(vector.astype("<f4").tobytes()).decode()

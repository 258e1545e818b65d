"""POST /v1/rerank and /v1/score: how well documents answer a query, by the model's word or by the angle between
embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from starlette.responses import Response

from stemma.runtime.engine.embedding import Score, ScoringOptions
from stemma.server.generation.readings import check_count, read, request_options, usage_report
from stemma.server.generation.reporting import new_id, now
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import bad_request
from stemma.server.http.replies import json_reply
from stemma.server.pooling.wire import PoolingRequest, RerankRequest, ScoreRequest


async def rerank(context: RequestContext[Service, RerankRequest]) -> Response:
    """Order documents by how well they answer a query."""
    body, service = context.body, context.service
    texts = [document if isinstance(document, str) else document.text for document in body.documents]
    scores = await _scores(context, body, [(body.query, text) for text in texts], body.instruction, "documents")
    order = sorted(range(len(texts)), key=lambda index: -scores[index].value)[: body.top_n or None]
    shows = body.return_documents is not False
    results = [
        {
            "index": index,
            "relevance_score": scores[index].value,
            **({"document": {"text": texts[index]}} if shows else {}),
        }
        for index in order
    ]
    usage = usage_report([score.usage for score in scores])
    return json_reply(
        {"id": new_id("rerank-"), "model": service.name_of(body.model), "results": results, "usage": usage}
    )


async def score(context: RequestContext[Service, ScoreRequest]) -> Response:
    """Score pairs of texts."""
    body, service = context.body, context.service
    first, second = ([side] if isinstance(side, str) else side for side in (body.text_1, body.text_2))
    if len(first) == 1:
        first = first * len(second)
    if len(first) != len(second):
        message = f"text_1 has {len(first)} texts and text_2 {len(second)}: give one, or as many as the other has"
        raise bad_request(message, "text_1")
    pairs = list(zip(first, second, strict=True))
    scores = await _scores(context, body, pairs, body.instruction, "text_2")
    data = [{"object": "score", "index": index, "score": each.value} for index, each in enumerate(scores)]
    usage = usage_report([each.usage for each in scores])
    head = {"id": new_id("score-"), "object": "list", "created": now(), "model": service.model_name}
    return json_reply({**head, "data": data, "usage": usage})


async def _scores(
    context: RequestContext[Service, Any], body: PoolingRequest, pairs: Sequence[tuple[str, str]],
    instruction: str | None, param: str,
) -> list[Score]:  # fmt: skip
    service = context.service
    check_count(len(pairs), param)
    for pair in pairs:
        service.prompter.check_length(sum(map(len, pair)), param)
    options = request_options(context, body)
    if instruction is not None:
        options["instruction"] = instruction
    asked = await service.work(service.engine.scorer.ask, pairs, cast(ScoringOptions, options))
    return asked.scores(await read(context, asked.prompts, asked.request, param))

"""An answer on its way out: whole, or as the stream that its request asks for."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Protocol

from starlette.responses import Response

from stemma.runtime.engine import Completion, Generation
from stemma.server.generation.generations import completed
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.replies import EventReply, json_reply


class AnswerWriter(Protocol):
    """What a dialect makes of the generations of one request. Used once: either whole or in chunks."""

    @property
    def id(self) -> str:
        """What the request is called in the log."""

    def whole(self, completions: Sequence[Completion]) -> Any:
        """The answer as JSON values."""

    def chunks(self, generations: Sequence[Generation]) -> AsyncGenerator[Any]:
        """The answer in pieces, which the request's dialect makes events of."""


async def reply(
    context: RequestContext[Service, Any], answer: AnswerWriter, generations: Sequence[Generation]
) -> Response:
    """Answer a request whose body has `stream`."""
    context.record.answer_id = answer.id
    if context.body.stream:
        events = context.dialect.events(answer.chunks(generations), answer.id)
        return EventReply(events, context.service.config, context.dialect.form)
    return json_reply(answer.whole(await completed(generations)))

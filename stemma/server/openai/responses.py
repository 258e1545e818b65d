"""POST /v1/responses: the same way to the engine as a chat; what was before is found, and the answer is kept."""

from __future__ import annotations

from starlette.responses import Response

from stemma.server.generation.answering import reply
from stemma.server.generation.chats import start_chat
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import bad_request
from stemma.server.http.replies import EventReply, json_reply
from stemma.server.openai import kept
from stemma.server.openai.keeping import Keeper, kept_events, kept_whole, what_was_before
from stemma.server.openai.response_answer import ResponseAnswer
from stemma.server.openai.response_input import as_chat
from stemma.server.openai.truncation import shortened
from stemma.server.openai.wire import ResponsesRequest


async def responses(context: RequestContext[Service, ResponsesRequest]) -> Response:
    """Answer a conversation."""
    body, service = context.body, context.service
    decide_storing(context)
    body.metadata = kept.checked_metadata(body.metadata)
    before = await what_was_before(context, body)
    chat = as_chat(body, context.reader, before.items)
    if body.truncation == "auto":
        chat = await service.work(shortened, service, chat)
    turn, generations = await start_chat(context, chat, "input")
    answer = ResponseAnswer(turn, body)
    context.record.answer_id = answer.id
    keeper = Keeper(service, context.tenant.name, before, body)
    if keeper.does_nothing:
        return await reply(context, answer, generations)
    if not (body.stream or body.background):
        return json_reply(await kept_whole(keeper, answer, generations))
    events = kept_events(keeper, answer, answer.chunks(generations))
    if body.background:
        await keeper.begin(answer.cut_off("queued"))
        context.record.is_outlived = True
        context.cleanup.callback(service.counts.generated, context.record)
        run = service.runs.begin(context.tenant.name, answer.id, events, context.cleanup.pop_all())
        if not body.stream:
            return json_reply(answer.cut_off("queued"))
        events = run.follow()
    return EventReply(context.dialect.events(events, answer.id), service.config)


def decide_storing(context: RequestContext[Service, ResponsesRequest]) -> None:
    """Answers are kept unless the request, or the server's configuration, says otherwise. Raises ApiError."""
    body, keeps = context.body, context.service.config.keep_state
    if body.background and (body.store is False or not keeps):
        why = "set store to true" if keeps else f"{kept.NOT_KEPT}: wait for the answer, or stream it"
        raise bad_request(f"an answer in the background is one that is kept: {why}", "background")
    if body.store and not keeps:
        context.reader.unused["store"] = None
    body.store = keeps and body.store is not False

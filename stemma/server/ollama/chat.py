"""POST /api/chat and /api/generate: the answer to a chat, to a question, or what a text goes on with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from stemma.runtime.engine import Generation
from stemma.runtime.errors import ChatTemplateError
from stemma.server.generation.answering import reply
from stemma.server.generation.chats import start_chat, template_values
from stemma.server.generation.generations import constrain, start
from stemma.server.generation.options import sampling_options
from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import bad_request
from stemma.server.http.replies import json_reply
from stemma.server.ollama.answers import ChatVoice, OllamaAnswer, PlainVoice, loaded
from stemma.server.ollama.translation import as_chat, messages_of, model_of, sampling_of
from stemma.server.ollama.wire import OllamaChatRequest, OllamaGenerateRequest
from stemma.server.outputs.constraints import text_constraint
from stemma.server.wire.chat import ChatRequest, Message
from stemma.server.wire.common import GenerationRequest


async def chat(context: RequestContext[Service, OllamaChatRequest]) -> Response:
    """Answer a chat. A last message of the assistant's goes on."""
    body, started = context.body, time.perf_counter()
    model_of(context, body.model)
    if not body.messages:
        return json_reply(loaded(body.model, is_chat=True))
    messages = messages_of(body.messages)
    asked = as_chat(context, body, messages)
    asked.continue_final_message = (messages[-1].role == "assistant" and not messages[-1].tool_calls) or None
    return await _answer_chat(context, asked, started, is_chat=True)


async def generate(context: RequestContext[Service, OllamaGenerateRequest]) -> Response:
    """Answer a question, or go on with a text."""
    body, started = context.body, time.perf_counter()
    model_of(context, body.model)
    if not body.prompt:
        return json_reply(loaded(body.model, is_chat=False))
    if body.raw:
        generations = await _go_on(context)
        answer = OllamaAnswer(PlainVoice(), context.service.texts, body.model, is_chat=False, started=started)
        return await reply(context, answer, generations)
    messages = [Message(role="system", content=body.system)] if body.system else []
    messages.append(Message(role="user", content=body.prompt))
    asked = as_chat(context, body, messages)
    if body.context:
        asked.prompt_token_ids = await context.service.work(_behind, context.service, body.context, asked)
        asked.messages = []
    return await _answer_chat(context, asked, started, is_chat=False)


async def _answer_chat(
    context: RequestContext[Service, Any], asked: ChatRequest, started: float, *, is_chat: bool
) -> Response:
    turn, generations = await start_chat(context, asked, "messages" if is_chat else "prompt")
    unused = context.reader.unused
    if "reasoning_effort" in unused:  # which has another name in these requests
        del unused["reasoning_effort"]
        unused["think"] = None
    answer = OllamaAnswer(
        ChatVoice(turn), context.service.texts, context.body.model, is_chat=is_chat, started=started
    )  # fmt: skip
    return await reply(context, answer, generations)


async def _go_on(context: RequestContext[Service, OllamaGenerateRequest]) -> list[Generation]:
    """A raw text, in which special tokens that are spelled out are special: clients write templates here."""
    body, service = context.body, context.service
    if body.system or body.context:
        raise bad_request("raw mode does not support template, system, or context", "raw")
    asked = GenerationRequest(**sampling_of(body, service))
    options = sampling_options(asked, context.tenant, service)
    if body.logprobs:
        options["logprobs"] = body.top_logprobs or 0
    await constrain(context, options, text_constraint(asked))
    prompt = body.prompt or ""
    service.prompter.check_length(len(prompt), "prompt")
    tokens = await service.work(service.tokenizer.encode_trusted_prompt, prompt)
    return start(context, [tokens], 1, asked.max_tokens, service.config.default_max_tokens, options)


def _behind(service: Service, before: Sequence[int], asked: ChatRequest) -> list[int]:
    """The tokens of an earlier answer's context, and behind them those of a question. Raises ApiError."""
    template = service.engine.loaded.chat_template
    if template is None:
        raise bad_request(f"{service.model_name} has no chat template: set raw to true", "raw")
    mark = template.absent_word([{"role": "user", "content": str(message.content)} for message in asked.messages])
    talk = [Message(role="user", content="-"), Message(role="assistant", content=mark), *asked.messages]
    given = service.prompter.for_template(talk, [])
    try:
        return [*before, *template.encode_after(given.messages, mark, **template_values(asked))]
    except ChatTemplateError as error:
        raise bad_request(str(error), "context") from error

"""Another API is its structs, what it makes of generations, and a `Dialect` that its endpoints name."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from stemma.fsm.matching.matcher import Matcher
from stemma.runtime.engine import Completion, Delta, Engine, Generation
from stemma.server import ApiKey, ServerConfig
from stemma.server.generation.answering import reply
from stemma.server.generation.generations import constrain, outputs, start
from stemma.server.generation.options import sampling_options
from stemma.server.generation.service import Service
from stemma.server.http.dialect import Dialect
from stemma.server.http.endpoint import Endpoint, EndpointApp, RequestContext
from stemma.server.http.errors import ApiError, bad_request
from stemma.server.outputs.constraints import text_constraint
from stemma.server.wire.common import GenerationRequest


class AskRequest(GenerationRequest, kw_only=True):
    question: str


class Spoken:
    """An API whose answers are bare texts."""

    id = "spoken"

    def whole(self, completions: Sequence[Completion]) -> str:
        return completions[0].text

    async def chunks(self, generations: Sequence[Generation]) -> AsyncGenerator[str]:
        async with aclosing(outputs(generations)) as items:
            async for _, what in items:
                if isinstance(what, Delta):
                    yield what.text


async def ask(context: RequestContext[Service, AskRequest]) -> Response:
    if not context.body.question:
        raise bad_request("ask something", "question")
    options = sampling_options(context.body, context.tenant, context.service)
    await constrain(context, options, text_constraint(context.body))
    prompt = context.service.prompter.encode_text(context.body.question)
    return await reply(context, Spoken(), start(context, [prompt], 1, context.body.max_tokens, 8, options))


def shouted(error: ApiError) -> str:
    return f"{error.status}!"


SPOKEN = Dialect(
    error=shouted, event=lambda chunk: b"data: " + json.dumps(chunk).encode() + b"\n\n", end=b"data: .\n\n"
)
ASK = Endpoint("POST", "/ask", ask, "Ask", AskRequest, dialect=SPOKEN)
ANSWER = {"question": "Who?", "regex": "Nobody", "temperature": 0}


@pytest.fixture
async def post(engine: Engine) -> Any:
    service = Service(engine, ServerConfig(api_keys=(ApiKey("me", "sesame"),), max_body_bytes=1000))
    application = Starlette(routes=[Route(ASK.path, EndpointApp(ASK, service), methods=[ASK.method])])
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:

        async def post(body: Any, key: str = "sesame") -> httpx.Response:
            return await http.post(ASK.path, json=body, headers={"authorization": f"Bearer {key}"})

        yield post
    service.close()


async def test_an_answer_comes_whole_or_in_the_dialects_events(post: Any) -> None:
    assert (await post(ANSWER)).json() == "Nobody"
    *events, rest = (await post({**ANSWER, "stream": True})).text.split("\n\n")
    assert (events.pop(), rest) == ("data: .", "")
    assert "".join(json.loads(event.removeprefix("data: ")) for event in events) == "Nobody"


@pytest.mark.parametrize(
    ("body", "key", "status"),
    [
        ({"question": ""}, "sesame", 400),
        ({"question": 1}, "sesame", 400),
        ({"question": "Who?", "use_beam_search": True}, "sesame", 400),
        (ANSWER, "wrong", 401),
        ({"question": "?" * 1000}, "sesame", 413),
    ],
)
async def test_every_error_is_the_dialects(post: Any, body: Any, key: str, status: int) -> None:
    response = await post(body, key)
    assert (response.status_code, response.json()) == (status, f"{status}!")


async def test_a_fault_is_the_dialects_too(post: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr("stemma.server.prompts.prompter.ChatPrompter.encode_text", broken)
    response = await post(ANSWER)
    assert (response.status_code, response.json()) == (500, "500!")


async def test_an_error_on_the_way_is_an_event_of_the_dialect(post: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Matcher, "advance", broken)
    events = (await post({**ANSWER, "stream": True})).text.split("\n\n")
    assert events[-3:] == ['data: "500!"', "data: .", ""]

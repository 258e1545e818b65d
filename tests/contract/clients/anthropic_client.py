"""Anthropic's Python client: messages, streams, forms, tools and their loop, prompt caching, counts, models, errors.
Every answer and event is held against the client's own types: what is required is there, what is there is known."""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.error
import urllib.request
from typing import Any, Literal

import anthropic
from anthropic import beta_tool
from anthropic.types import Message, MessageTokensCount, ModelInfo, RawMessageStreamEvent
from anthropic.types.shared import ErrorResponse
from pydantic import BaseModel, TypeAdapter

url, key, model = sys.argv[1:]
client = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)
hello: Any = [{"role": "user", "content": "Say hello."}]
tool: Any = {
    "name": "weather",
    "description": "The weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
        "required": ["city"],
        "additionalProperties": False,
    },
}


class City(BaseModel):
    name: Literal["Paris", "Rome"]
    size: Literal["small", "large"]


def known(value: Any) -> None:
    """Nothing in it that its type does not have."""
    if isinstance(value, BaseModel):
        assert not value.model_extra, (type(value).__name__, value.model_extra)
        for name in type(value).model_fields:
            known(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            known(item)


def held(kind: Any, value: Any) -> Any:
    made = TypeAdapter(kind).validate_python(value)
    known(made)
    return made


def asked(path: str, body: Any = None) -> str:
    """The bare answer."""
    headers = {"x-api-key": key, "anthropic-version": "2023-06-01", "content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url + path, data, headers)) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.read().decode()


def types() -> None:
    base = {"model": model, "max_tokens": 16, "messages": hello}
    called = {**base, "tools": [tool], "tool_choice": {"type": "any"}, "max_tokens": 100}
    cached = {**base, "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]}
    for body in (base, called, {**called, "max_tokens": 12}, cached, {**base, "stop_sequences": ["e", "o"]}):
        whole = held(Message, json.loads(asked("/v1/messages", body)))
        assert whole.stop_reason is not None
        assert whole.usage.service_tier == "standard"
        kinds = []
        for block in asked("/v1/messages", {**body, "stream": True}).strip().split("\n\n"):
            name, data = block.split("\n")
            event = json.loads(data.removeprefix("data: "))
            assert name == f"event: {event['type']}"
            kinds.append(event["type"])
            if event["type"] != "ping":
                held(RawMessageStreamEvent, event)
        assert (kinds[0], kinds[-2:]) == ("message_start", ["message_delta", "message_stop"])
    held(MessageTokensCount, json.loads(asked("/v1/messages/count_tokens", {"model": model, "messages": hello})))
    for info in json.loads(asked("/v1/models"))["data"]:
        held(ModelInfo, info)
    for path, body in (("/v1/messages", {**base, "messages": []}), ("/v1/models/none", None), ("/v1/nothing", {})):
        assert held(ErrorResponse, json.loads(asked(path, body))).error.message


def messages() -> None:
    answer = client.messages.create(model=model, max_tokens=12, messages=hello, extra_body={"temperature": 0})
    assert answer.content[0].type == "text"
    assert answer._request_id
    with client.messages.stream(model=model, max_tokens=12, messages=hello, extra_body={"temperature": 0}) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == answer.content[0].text == final.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == (answer.stop_reason, answer.usage.output_tokens)
    begun: Any = [*hello, {"role": "assistant", "content": "Hello, my"}]
    assert client.messages.create(model=model, max_tokens=6, messages=begun).content
    parsed = client.messages.parse(model=model, max_tokens=60, messages=hello, output_format=City)
    assert parsed.parsed_output.name in ("Paris", "Rome")
    with client.messages.stream(model=model, max_tokens=60, messages=hello, output_format=City) as stream:
        assert stream.get_final_message().parsed_output.size in ("small", "large")


def tools() -> None:
    with client.messages.stream(
        model=model, max_tokens=100, messages=hello, tools=[tool], tool_choice={"type": "tool", "name": "weather"}
    ) as stream:
        answer = stream.get_final_message()
    call = answer.content[-1]
    assert (answer.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "weather")
    assert call.input["city"] in ("Paris", "Rome")
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "sunny"}]}
    conversation: Any = [*hello, answer.to_param(), {"role": "user", "content": [result]}]
    told = client.messages.create(model=model, max_tokens=8, messages=conversation, tools=[tool])
    ran = answer.usage.input_tokens + answer.usage.cache_read_input_tokens + answer.usage.output_tokens
    assert told.usage.cache_read_input_tokens >= ran - 1, "a conversation hits to its last token"

    seen = []

    @beta_tool
    def weather(city: Literal["Paris", "Rome"]) -> str:
        """The weather of a city."""
        seen.append(city)
        return "sunny"

    runner = client.beta.messages.tool_runner(
        model=model, max_tokens=100, messages=hello, tools=[weather], tool_choice={"type": "any"}, max_iterations=2
    )
    assert [message.stop_reason for message in runner] == ["tool_use", "tool_use"]
    assert seen


def caching() -> None:
    system: Any = [{"type": "text", "text": "You keep a lighthouse. " * 20, "cache_control": {"type": "ephemeral"}}]
    first = client.beta.messages.create(
        model=model, max_tokens=4, messages=hello, system=system, betas=["prompt-caching-2024-07-31"],
        metadata={"user_id": "me"}, thinking={"type": "adaptive"}, service_tier="auto",
    )  # fmt: skip
    assert first.usage.cache_creation_input_tokens > 50
    second = client.messages.create(model=model, max_tokens=4, messages=hello, system=system)
    assert second.usage.cache_creation_input_tokens == 0
    assert second.usage.cache_read_input_tokens >= first.usage.cache_creation_input_tokens
    count = client.messages.count_tokens(model=model, messages=hello, system=system).input_tokens
    usage = second.usage
    assert count == usage.input_tokens + usage.cache_creation_input_tokens + usage.cache_read_input_tokens


def raised(ask: Any) -> Exception | None:
    try:
        ask()
    except Exception as error:
        return error
    return None


def models_and_errors() -> None:
    assert model in [each.id for each in client.models.list()]
    assert client.models.retrieve(model).max_input_tokens
    for kind, ask in (
        (anthropic.NotFoundError, lambda: client.messages.create(model="none", max_tokens=1, messages=hello)),
        (anthropic.NotFoundError, lambda: client.models.retrieve("none")),
        (anthropic.BadRequestError, lambda: client.messages.create(model=model, max_tokens=1, messages=[])),
        (
            anthropic.AuthenticationError,
            lambda: client.with_options(api_key="wrong").messages.create(model=model, max_tokens=1, messages=hello),
        ),
    ):
        error = raised(ask)
        assert isinstance(error, kind), error
        assert error.request_id
        assert error.api_message


async def at_once() -> None:
    async with anthropic.AsyncAnthropic(base_url=url, api_key=key, max_retries=0) as many:
        answers = await asyncio.gather(
            *(many.messages.create(model=model, max_tokens=4, messages=hello) for _ in range(6))
        )
        assert len({answer.id for answer in answers}) == 6
        async with many.messages.stream(model=model, max_tokens=4, messages=hello) as stream:
            assert await stream.get_final_text()


for part in (types, messages, tools, caching, models_and_errors):
    part()
asyncio.run(at_once())
print("ok")

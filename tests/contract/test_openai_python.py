"""OpenAI's Python client: chat, parse, stream, tools, completions, responses, errors."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel, Field

from tests.contract.conftest import Served


class City(BaseModel):
    name: Literal["Paris", "Rome", "Berlin"]
    population: Literal[1, 2, 3]
    tags: list[Literal["old", "large"]] = Field(max_length=3)  # a small model may never end a list by itself


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
ASK: Any = [{"role": "user", "content": "What is the weather in Paris?"}]


@pytest.fixture
def client(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=served.base, api_key=served.key, max_retries=0)


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["smollm2", "stemma"]


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        max_tokens=24,
        temperature=0,
    )
    assert "France" in (answer.choices[0].message.content or "")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens is not None


def test_a_conversation_is_cached_to_the_last_token(client: openai.OpenAI) -> None:
    messages: list[Any] = [{"role": "user", "content": "Tell me about the sea, briefly."}]
    ran = 0
    for turn in range(3):
        answer = client.chat.completions.create(model="smollm2", messages=messages, max_tokens=20, temperature=0.7)
        assert answer.usage is not None
        assert answer.usage.prompt_tokens_details is not None
        assert (answer.usage.prompt_tokens_details.cached_tokens or 0) >= ran
        ended = answer.choices[0].finish_reason == "stop"  # the end token is said, not part of the text
        ran = answer.usage.total_tokens - ended
        messages += [answer.choices[0].message, {"role": "user", "content": f"And then? ({turn})"}]


def test_a_stream(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": "Count to three."}],
        max_tokens=16,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text
    assert chunks[-1].usage is not None
    assert chunks[-2].choices[0].finish_reason in ("stop", "length")


def test_parse(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="smollm2", messages=[{"role": "user", "content": "A city"}], response_format=City
    )
    assert isinstance(answer.choices[0].message.parsed, City)


def test_the_stream_helper_parses_as_it_goes(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="smollm2", messages=[{"role": "user", "content": "A city"}], response_format=City
    ) as stream:
        kinds = {event.type for event in stream}
        assert {"chunk", "content.delta", "content.done"} <= kinds
        assert isinstance(stream.get_final_completion().choices[0].message.parsed, City)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "weather"}}])
def test_tools(client: openai.OpenAI, choice: Any) -> None:
    answer = client.chat.completions.create(model="smollm2", messages=ASK, tools=[WEATHER], tool_choice=choice)
    message = answer.choices[0].message
    assert message.tool_calls
    assert json.loads(message.tool_calls[0].function.arguments)["city"] in ("Paris", "Rome")  # type: ignore[union-attr]
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
    after = client.chat.completions.create(
        model="smollm2", messages=[*ASK, message, result], tools=[WEATHER], tool_choice="none", max_tokens=10
    )
    assert not after.choices[0].message.tool_calls


def test_tools_are_streamed(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="smollm2", messages=ASK, tools=[WEATHER], tool_choice="required", parallel_tool_calls=False
    ) as stream:
        kinds = [event.type for event in stream]
        assert "tool_calls.function.arguments.done" in kinds
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls
    assert message.tool_calls[0].function.parsed_arguments


def test_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="smollm2", messages=ASK, max_tokens=3, temperature=0, logprobs=True, top_logprobs=2
    )
    assert answer.choices[0].logprobs is not None
    assert len(answer.choices[0].logprobs.content or []) == 3


def test_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="smollm2", prompt=["The capital of France is", "Two plus two is"], max_tokens=4, temperature=0,
        logprobs=1, echo=True,
    )  # fmt: skip
    assert "Paris" in answer.choices[0].text
    assert answer.choices[0].logprobs is not None
    assert answer.choices[0].logprobs.token_logprobs is not None
    assert answer.choices[0].logprobs.token_logprobs[0] is None
    text = ""
    for chunk in client.completions.create(model="smollm2", prompt="Once", max_tokens=5, stream=True, temperature=0):
        text += chunk.choices[0].text
    assert text


def test_embeddings(client: openai.OpenAI) -> None:
    """The client asks for base64 by itself and decodes it."""
    texts = ["A cat sleeps on the sofa.", "A kitten naps on the couch.", "Interest rates rose by a quarter point."]
    answer = client.embeddings.create(model="smollm2", input=texts)
    vectors = [entry.embedding for entry in answer.data]
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    assert all(len(vector) == 576 and abs(sum(x * x for x in vector) - 1) < 1e-5 for vector in vectors)
    near, far = (sum(x * y for x, y in zip(vectors[0], other, strict=True)) for other in vectors[1:])
    assert near > far
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 20
    plain = client.embeddings.create(model="smollm2", input=texts[0], encoding_format="float", dimensions=8)
    assert len(plain.data[0].embedding) == 8


def test_responses(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="smollm2", input="Say hello.", max_output_tokens=12)
    assert answer.output_text
    parsed = client.responses.parse(model="smollm2", input="A city", text_format=City)
    assert isinstance(parsed.output_parsed, City)
    with client.responses.stream(model="smollm2", input="A city", text_format=City) as stream:
        kinds = [event.type for event in stream]
        assert isinstance(stream.get_final_response().output_parsed, City)
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"


def test_responses_with_tools(client: openai.OpenAI) -> None:
    tool: Any = {"type": "function", "name": "weather", "strict": True, **WEATHER["function"]}
    first = client.responses.create(model="smollm2", input=ASK, tools=[tool], tool_choice="required")
    call = first.output[0]
    assert call.type == "function_call"
    items: Any = [*ASK, *first.output, {"type": "function_call_output", "call_id": call.call_id, "output": "sunny"}]
    second = client.responses.create(
        model="smollm2", input=items, tools=[tool], tool_choice="none", max_output_tokens=9
    )
    assert second.output_text
    with client.responses.stream(model="smollm2", input=ASK, tools=[tool], tool_choice="required") as stream:
        kinds = [event.type for event in stream]
    assert "response.function_call_arguments.done" in kinds


def test_errors_are_typed(client: openai.OpenAI, served: Served) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="smollm2", messages=ASK, temperature=99999)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="gpt-5", messages=ASK)
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=served.base, api_key="wrong").models.list()
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="smollm2", messages=ASK, max_tokens=100_000)
    assert caught.value.code == "context_length_exceeded"


async def test_many_at_once(served: Served) -> None:
    async with openai.AsyncOpenAI(base_url=served.base, api_key=served.key) as client:
        asks: list[Any] = [[{"role": "user", "content": f"Number {number}?"}] for number in range(12)]
        answers = await asyncio.gather(
            *(client.chat.completions.create(model="smollm2", messages=ask, max_tokens=6) for ask in asks)
        )
    assert all(answer.choices[0].message.content is not None for answer in answers)

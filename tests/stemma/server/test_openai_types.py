"""What is answered, field by field, against the types of OpenAI's own package: whole, and every event of a stream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import types
from openai.types import chat, shared
from openai.types.responses import Response, ResponseStreamEvent

from tests.stemma.server.shapes import faults

USAGE = ("stemma",)
ADDED = {
    "CompletionUsage": USAGE,
    "ResponseUsage": USAGE,
    "ChatCompletion": ("prompt_token_ids",),
    "ChatCompletionChunk": ("prompt_token_ids",),
    "ChatCompletionMessage": ("reasoning_content",),
    "ChoiceDelta": ("reasoning_content",),
    "Choice": ("stop_reason", "token_ids"),
    "CompletionChoice": ("stop_reason", "token_ids", "prompt_token_ids", "prompt_logprobs", "jumped", "stopped_by"),
    "Response": ("store",),
    "Logprob": ("bytes",),
    "LogprobTopLogprob": ("bytes",),
    "ResponseFunctionCallArgumentsDoneEvent": ("name",),
    "Logprobs": ("token_ids", "top_token_ids"),
    "Usage": ("prompt_tokens_details", *USAGE),
    "Model": ("root", "parent", "max_model_len"),
}
"""What is in our answers beyond the fields of OpenAI's types."""

HI = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"q": {"enum": ["a", "b"]}}, "required": ["q"], "additionalProperties": False}
FUNCTION = {"name": "find", "parameters": SCHEMA}
CALLS: dict[str, Any] = {"tools": [{"type": "function", "function": FUNCTION}], "tool_choice": "required"}
FORM = {"type": "json_schema", "json_schema": {"name": "found", "schema": SCHEMA}}
CHATS: dict[str, dict[str, Any]] = {
    "text": {"max_tokens": 5},
    "none": {"max_tokens": 0},
    "stopped": {"max_tokens": 50, "regex": "[a-c]{3}d", "stop": "d"},
    "choices": {"max_tokens": 5, "n": 2, "seed": 1, "return_token_ids": True},
    "scores": {"max_tokens": 5, "logprobs": True, "top_logprobs": 2},
    "calls": CALLS,
    "cut": {**CALLS, "max_tokens": 30},
    "functions": {"functions": [FUNCTION], "function_call": {"name": "find"}},
    "form": {"response_format": FORM},
}


@pytest.mark.parametrize("name", CHATS)
async def test_chats(client: Any, name: str) -> None:
    body = {"model": "tiny", "messages": HI, **CHATS[name]}
    assert faults(await client.post("/v1/chat/completions", **body), chat.ChatCompletion, ADDED) == []
    for options in ({}, {"include_usage": True}, {"continuous_usage_stats": True, "include_usage": True}):
        chunks = await client.stream("/v1/chat/completions", **body, stream_options=options)
        assert chunks
        assert [faults(chunk, chat.ChatCompletionChunk, ADDED) for chunk in chunks] == [[]] * len(chunks)


COMPLETIONS: dict[str, dict[str, Any]] = {
    "text": {"prompt": "hi", "max_tokens": 5},
    "texts": {"prompt": ["hi", "you"], "n": 2, "max_tokens": 3},
    "echo": {"prompt": "hi", "echo": True, "logprobs": 2, "max_tokens": 3},
    "stop": {"prompt": "hi", "regex": "a{5}b", "stop": "b", "logprobs": 0, "return_token_ids": True},
}


@pytest.mark.parametrize("name", COMPLETIONS)
async def test_completions(client: Any, name: str) -> None:
    body = {"model": "tiny", **COMPLETIONS[name]}
    assert completion_faults(await client.post("/v1/completions", **body)) == []
    for options in ({}, {"include_usage": True}):
        chunks = await client.stream("/v1/completions", **body, stream_options=options)
        assert [completion_faults(chunk) for chunk in chunks] == [[]] * len(chunks)


def completion_faults(answer: dict[str, Any]) -> list[str]:
    """Without what OpenAI's API says and its types do not: a choice of a stream has no reason to end yet, and the first
    token of an echoed prompt no log-probability."""
    found = faults(answer, types.Completion, ADDED)
    is_chunk_of = [choice["finish_reason"] is None for choice in answer["choices"]]
    allowed = [f"$.choices[{at}].finish_reason: None is" for at, is_chunk in enumerate(is_chunk_of) if is_chunk]
    firsts = [f"$.choices[{at}].logprobs.{name}[0]: None is" for at in range(len(is_chunk_of)) for name in FIRST_OF]
    return [fault for fault in found if not fault.startswith((*allowed, *firsts))]


FIRST_OF = ("token_logprobs", "top_logprobs")


TOOL = {"type": "function", **FUNCTION}
RESPONSES: dict[str, dict[str, Any]] = {
    "text": {"max_output_tokens": 5, "instructions": "Be brief.", "metadata": {"a": "b"}, "user": "me"},
    "none": {"max_output_tokens": 0},
    "scores": {"max_output_tokens": 5, "top_logprobs": 2, "include": ["message.output_text.logprobs"]},
    "calls": {"tools": [TOOL], "tool_choice": "required"},
    "named": {"tools": [TOOL], "tool_choice": {"type": "function", "name": "find"}},
    "cut": {"tools": [TOOL], "tool_choice": "required", "max_output_tokens": 30},
    "form": {"text": {"format": {"type": "json_schema", "name": "found", "schema": SCHEMA}}},
    "object": {"text": {"format": {"type": "json_object"}}, "max_output_tokens": 9},
    "effort": {"reasoning": {"effort": "low", "summary": "auto"}, "max_output_tokens": 3},
}


@pytest.mark.parametrize("name", RESPONSES)
async def test_responses(client: Any, name: str) -> None:
    body = {"model": "tiny", "input": "hi", **RESPONSES[name]}
    assert faults(await client.post("/v1/responses", **body), Response, ADDED) == []
    events = await response_events(client, body)
    assert [faults(event, ResponseStreamEvent, ADDED) for event in events] == [[]] * len(events)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


async def response_events(client: Any, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of a stream of /v1/responses, whose names are their types."""
    text = (await client.http.post("/v1/responses", json={**body, "stream": True})).text
    blocks = [block.split("\n") for block in text.split("\n\n") if block]
    events = [json.loads(data.removeprefix("data: ")) for _, data in blocks]
    assert [name for name, _ in blocks] == [f"event: {event['type']}" for event in events]
    return events


async def test_models(client: Any) -> None:
    listed = await client.get("/v1/models")
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == ["tiny", "stemma"]
    assert [faults(model, types.Model, ADDED) for model in listed["data"]] == [[], []]
    assert faults(await client.get("/v1/models/tiny"), types.Model, ADDED) == []


async def test_embeddings(client: Any) -> None:
    for given in ("hi", ["hi", "you"], [1, 2], [[1, 2], [3]]):
        answer = await client.post("/v1/embeddings", model="tiny", input=given)
        assert faults(answer, types.CreateEmbeddingResponse, ADDED) == []


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/v1/chat/completions", 400, {"messages": HI, "temperature": "hot"}),
        ("/v1/chat/completions", 400, {"messages": HI, "max_tokens": 10**6}),
        ("/v1/chat/completions", 400, {}),
        ("/v1/chat/completions", 404, {"messages": HI, "model": "another"}),
        ("/v1/completions", 400, {"prompt": 1}),
        ("/v1/responses", 400, {"input": [{"type": "unheard"}]}),
        ("/v1/embeddings", 400, {"input": []}),
        ("/v1/nothing", 404, {}),
    ],
)
async def test_errors(client: Any, path: str, status: int, body: dict[str, Any]) -> None:
    error = (await client.post(path, status, **body))["error"]
    assert faults(error, shared.ErrorObject) == []
    assert list(error) == ["message", "type", "param", "code"]

"""The policy for fields: null is not given, what has no effect is taken and named, what cannot be honoured is a 400."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from msgspec import inspect

from docs.draw_fields import endpoints, structs
from stemma.runtime.engine import Engine
from stemma.server import ServerConfig
from stemma.server.http.decoding import BodyReader
from stemma.server.http.errors import ApiError
from stemma.server.wire.chat import ChatRequest
from stemma.server.wire.fields import Only, Refused, Taken, Wire, rules_of

HI = [{"role": "user", "content": "hi"}]
CHAT = {"messages": HI, "max_tokens": 2}
NEEDED: dict[str, Any] = {
    "messages": HI, "input": "hi", "prompt": "hi", "text": "hi", "query": "hi", "documents": ["hi"], "text_1": "hi",
    "text_2": "hi", "role": "user", "type": "text", "name": "f", "function": {"name": "f", "arguments": "{}"},
    "id": "1", "arguments": "{}", "json_schema": {"schema": {}}, "call_id": "1", "output": "hi", "schema": {},
    "tools": [], "items": [], "input_file_id": "file-1", "endpoint": "/v1/embeddings", "completion_window": "24h",
    "max_tokens": 1, "content": "hi", "source": {"type": "text", "data": "hi"}, "title": "hi",
    "data": "hi", "thinking": "hi", "tool_use_id": "1", "tool_name": "f",
    "mode": "auto", "syntax": "regex", "definition": "a", "model": "m", "destination": "n",
}  # fmt: skip
ALSO: dict[str, Any] = {
    "Calling": {"tools": [{"function": {"name": "f"}}]},
    "AllowedTool": {"name": "f"},
    "AllowedTools": {"mode": "auto", "tools": [{"name": "f"}]},
    "GrammarText": {"syntax": "regex", "definition": "a"},
    "CustomCall": {"input": "hi"},
    "InputCustomCall": {"input": "hi"},
    "NamedChoice": {"name": "f"},
    "NamedToolChoice": {"function": {"name": "f"}},
    "ResponseTool": {"name": "f"},
    "ToolCall": {"function": {"name": "f", "arguments": "{}"}},
    "TextPart": {"text": "hi"},
    "Tool": {"function": {"name": "f"}},
    "CacheControl": {"type": "ephemeral"},
    "JsonFormat": {"type": "json_schema", "schema": {}},
    "OllamaCopyRequest": {"source": "m", "destination": "n"},
    "OllamaTool": {"function": {"name": "f"}},
    "OllamaToolCall": {"function": {"name": "f"}},
    "OllamaToolChoice": {"name": "f"},
    **{
        f"Ollama{name}Request": {"model": "m"}
        for name in ("Chat", "Embed", "Embeddings", "Generate", "Show", "Transfer")
    },
    "SearchResultBlock": {"source": "hi", "content": []},
    "ThinkingParam": {"type": "adaptive"},
    "ToolChoiceParam": {"type": "auto"},
    "ToolParam": {"input_schema": {}},
    "ToolUseBlock": {"input": {}},
}
FOUND = {kind for _, body in endpoints() for _, kind in structs(body)}
KINDS = sorted((kind for kind in FOUND if not issubclass(kind, Refused)), key=lambda kind: kind.__name__)
REFUSED = sorted(FOUND - set(KINDS), key=lambda kind: kind.__name__)


def least(kind: type[Wire]) -> dict[str, Any]:
    """A value of this type with what it must have."""
    config = kind.__struct_config__
    tag = {} if config.tag_field is None else {config.tag_field: config.tag}
    made = inspect.type_info(kind)
    assert isinstance(made, inspect.StructType)
    required = [field.name for field in made.fields if field.required]
    return {name: NEEDED[name] for name in required} | tag | ALSO.get(kind.__name__, {})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_null_is_not_given(kind: type[Wire]) -> None:
    """Of each field that may be left out, of each that has a rule, and of any that nobody knows."""
    names = [name for name in kind.__struct_fields__ if name not in least(kind)]
    reader = BodyReader(is_strict=True)
    for name in (*names, *rules_of(kind), "nobody_knows"):
        given = reader.convert({**least(kind), name: None}, kind)
        assert given == reader.convert(least(kind), kind), name
    assert not reader.unused


@pytest.mark.parametrize("kind", REFUSED, ids=lambda kind: kind.__name__)
def test_what_is_refused_says_what_to_do(kind: type[Refused]) -> None:
    with pytest.raises(ApiError) as refused:
        BodyReader().convert({kind.__struct_config__.tag_field: kind.__struct_config__.tag}, kind, "x")
    assert (refused.value.status, refused.value.message) == (400, f"x: {kind.instead}")


RULES = [(kind, name, rule) for kind in KINDS for name, rule in rules_of(kind).items()]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_rule_is_followed(kind: type[Wire]) -> None:
    for name, rule in rules_of(kind).items():
        reader = BodyReader()
        match rule:
            case Taken():
                for value in (True, 7, "x", [1], {"a": 1}):
                    reader.convert({**least(kind), name: value}, kind)
                assert list(reader.unused) == [name]
            case Only(values, instead):
                for value in values:
                    reader.convert({**least(kind), name: value}, kind)
                assert not reader.unused
                with pytest.raises(ApiError) as refused:
                    reader.convert({**least(kind), name: "something else"}, kind)
                assert (refused.value.status, refused.value.param) == (400, name)
                assert refused.value.message.endswith(f": {instead}")
                assert refused.value.code == "unsupported_parameter"


def test_a_fields_rule_never_hides_a_field() -> None:
    assert all(name not in kind.__struct_fields__ for kind, name, _ in RULES)
    assert len(RULES) > 300


def test_places_are_named_once_wherever_they_stand() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "index": 0}
    said = {"role": "assistant", "content": None, "tool_calls": [call, call], "parsed": {"a": 1}, "parsed_also": 1}
    part = {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral"}, "of_nobody": True}
    reader = BodyReader()
    reader.convert({"messages": [said, said, {"role": "user", "content": [part]}], "user": "me", "x": 1}, ChatRequest)
    assert list(reader.unused) == [
        "messages[].tool_calls[].index", "messages[].parsed", "messages[].parsed_also",
        "messages[].content[].cache_control", "messages[].content[].of_nobody", "user", "x",
    ]  # fmt: skip


async def test_what_has_no_effect_is_named_in_a_header_and_once_in_the_log(client: Any, caplog: Any) -> None:
    with caplog.at_level(logging.INFO, "stemma.server"):
        for stream in (False, True, False):
            body = {**CHAT, "user": "me", "made\r\nup": 1, "": 1, "stream": stream}
            answer = await client.http.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            assert answer.headers["stemma-unused-fields"] == "user, made??up, ?"
    told = [record.getMessage() for record in caplog.records if "no effect" in record.getMessage()]
    assert told == [f"/v1/chat/completions: {name} has no effect" for name in ("user", "made??up", "?")]


async def test_the_header_is_bounded(client: Any) -> None:
    body = {**CHAT, **{f"{index:03}" * 100: 1 for index in range(500)}}
    answer = await client.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200
    assert answer.headers["stemma-unused-fields"].endswith(", and 468 more")
    assert len(answer.headers["stemma-unused-fields"]) < 4096


async def test_an_answer_that_took_everything_has_no_such_header(client: Any) -> None:
    answer = await client.http.post("/v1/chat/completions", json={**CHAT, "best_of": 1, "echo": False, "audio": None})
    assert answer.status_code == 200
    assert "stemma-unused-fields" not in answer.headers


async def test_a_strict_server_refuses_what_nobody_knows_and_nothing_else(engine: Engine, serve_with: Any) -> None:
    async with serve_with(engine, ServerConfig(strict_fields=True)) as strict:
        await strict.post("/v1/chat/completions", store=True, nobody_knows=None, **CHAT)
        error = (await strict.post("/v1/chat/completions", status=400, temprature=0.5, **CHAT))["error"]
        assert (error["param"], error["code"]) == ("temprature", "unknown_parameter")
        message = {**HI[0], "contents": "x"}
        error = (await strict.post("/v1/chat/completions", status=400, messages=[message]))["error"]
        assert error["param"] == "messages[].contents"
        item = {"role": "user", "content": "hi", "contents": "x"}
        error = (await strict.post("/v1/responses", status=400, input=[item]))["error"]
        assert error["param"] == "input[0].contents"


HISTORIES = [
    ("/v1/chat/completions", {"messages": [*HI, {"role": "assistant", "content": "ho", "refusal": None, "audio": None,
      "function_call": None, "annotations": [], "reasoning": None, "parsed": None, "id": "m1",
      "provider_specific_fields": None, "tool_calls": None}, *HI], "max_tokens": 2}),
    ("/v1/chat/completions", {"messages": [*HI, {"role": "assistant", "content": [{"type": "refusal",
      "refusal": "no"}]}, *HI], "max_tokens": 2}),
    ("/v1/responses", {"input": [*HI, {"type": "message", "id": "m", "status": "completed", "role": "assistant",
      "content": [{"type": "output_text", "text": "ho", "annotations": [{"type": "x"}], "logprobs": []}]}, *HI],
      "max_output_tokens": 2}),
    ("/v1/responses", {"input": "hi", "reasoning": {}, "store": True, "service_tier": "flex", "truncation": "auto",
      "stop": None, "max_tool_calls": None, "prompt": None, "top_k": 3, "ignore_eos": True, "parallel_tool_calls": True,
      "include": ["file_search_call.results"], "max_output_tokens": 2}),
    ("/v1/chat/completions", {**CHAT, "stream_options": None, "parallel_tool_calls": False, "top_p": 0,
      "service_tier": "priority", "store": True, "verbosity": "medium", "modalities": ["text"],
      "prediction": {"type": "content", "content": "hi"}, "reasoning_effort": None, "web_search_options": None}),
    ("/generate", {"text": "hi", "sampling_params": {"max_new_tokens": 2, "stop_regex": [], "length_penalty": 1.0}}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body"), HISTORIES, ids=[str(index) for index in range(len(HISTORIES))])
async def test_what_clients_send_is_taken(client: Any, path: str, body: dict[str, Any]) -> None:
    await client.post(path, **body)


async def test_a_top_p_of_nothing_is_the_most_likely_token(client: Any) -> None:
    zero = await client.post("/v1/completions", prompt="hi", max_tokens=6, top_p=0, temperature=2)
    greedy = await client.post("/v1/completions", prompt="hi", max_tokens=6, temperature=0)
    assert zero["choices"][0]["text"] == greedy["choices"][0]["text"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_usage_in_every_chunk(client: Any, path: str) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    body = {"messages": HI} if "chat" in path else {"prompt": "hi"}
    *chunks, last = await client.stream(path, max_tokens=5, temperature=0, stream_options=options, **body)
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts)
    assert counts[-1] == last["usage"]["completion_tokens"]
    assert all(chunk["usage"]["prompt_tokens"] == last["usage"]["prompt_tokens"] for chunk in chunks)
    json.dumps(chunks)

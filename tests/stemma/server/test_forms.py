"""Constrained answers and calls: whatever the tiny model would say, what comes back has the form that was asked for."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from stemma.runtime.tongues.closed_schema import closed
from stemma.server import ServerConfig
from stemma.server.outputs.prompt_schema import prompt_schema
from stemma.server.wire.chat import Message

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]
POINT = {
    "type": "object",
    "properties": {"x": {"enum": [1, 2, 3]}, "name": {"type": "string", "maxLength": 5}},
    "required": ["x", "name"],
}
TOOLS = [
    {"type": "function", "function": {"name": "move", "description": "moves", "parameters": POINT}},
    {"type": "function", "function": {"name": "stop"}},
]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "point", "schema": POINT, "strict": True}}


def is_point(value: Any) -> bool:
    return set(value) == {"x", "name"} and value["x"] in (1, 2, 3) and len(value["name"]) <= 5


@pytest.mark.parametrize("seed", range(4))
async def test_a_json_schema_holds(client: Any, seed: int) -> None:
    answer = await client.post(CHAT, messages=HI, response_format=SCHEMA, seed=seed)
    assert answer["choices"][0]["finish_reason"] == "stop"
    content = answer["choices"][0]["message"]["content"]
    assert is_point(json.loads(content))
    assert not re.search(r"[:,] ", content.replace(json.loads(content)["name"], ""))  # compact
    chunks = await client.stream(CHAT, messages=HI, response_format=SCHEMA, seed=seed)
    assert "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"]) == content
    assert answer["usage"]["stemma"]["jumped_tokens"] > 0


async def test_json_object_is_an_object(client: Any) -> None:
    options = {"seed": 1, "max_tokens": 400, "logit_bias": {"125": 12, "34": 4}}
    answer = await client.post(CHAT, messages=HI, response_format={"type": "json_object"}, **options)
    content = answer["choices"][0]["message"]["content"]
    if answer["choices"][0]["finish_reason"] == "stop":
        assert isinstance(json.loads(content), dict)
    assert content.startswith("{")


TOLD = json.dumps(POINT, indent=2)
LANGCHAIN = (
    'conforms to the JSON schema below.\n\nAs an example, for the schema {"properties": {"foo": {"type": "array"}}} '
    'the object {"foo": ["bar"]} is well-formatted. The object {"properties": {"foo": ["bar"]}} is not.\n\n'
    f"Here is the output schema:\n```\n{TOLD}\n```"
)


@pytest.mark.parametrize(
    "told",
    [
        f"return objects in json that match the following json_schema:\n\n\n   {TOLD}\n\nReturn an instance",
        f"Always respond with a JSON object that's compatible with this schema:\n\n{TOLD}\n\nNo fencing.",
        f"Here's a JSON schema to follow:\n{TOLD}\n\nOutput a valid JSON object but do not repeat the schema.",
        LANGCHAIN,
    ],
)
async def test_a_json_object_is_one_of_the_schema_that_the_prompt_demands(client: Any, told: str) -> None:
    asked = [{"role": "system", "content": told}, *HI]
    for seed in range(3):
        answer = await client.post(CHAT, messages=asked, response_format={"type": "json_object"}, seed=seed)
        assert is_point(json.loads(answer["choices"][0]["message"]["content"]))


@pytest.mark.parametrize(
    "told",
    [
        f"Explain {TOLD} as JSON.",  # no demand
        'Follow the JSON schema {"properties": 3}.',
        'Follow the JSON schema {"type": "array", "properties": {}}.',
        "Follow the schema { of the house }.",
        "Follow the schema.",
    ],
)
def test_what_is_no_demand_or_no_schema_of_objects_is_not_followed(told: str) -> None:
    assert prompt_schema([Message(role="user", content=told)]) is None


async def test_where_a_told_schema_cannot_be_compiled_any_object_will_do(client: Any) -> None:
    asked = [{"role": "user", "content": 'Follow the JSON schema {"properties": {"a": {"type": "nothing"}}}.'}]
    options = {"seed": 1, "max_tokens": 40}
    answer = await client.post(CHAT, messages=asked, response_format={"type": "json_object"}, **options)
    assert answer["choices"][0]["message"]["content"].startswith("{")


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ({"structured_outputs": {"regex": "[ab]{3}"}}, "[ab]{3}"),
        ({"structured_outputs": {"choice": ["one", "two"]}}, "one|two"),
        ({"structured_outputs": {"json": {"enum": ["x"]}}}, '"x"'),
        ({"structured_outputs": {"grammar": 'root ::= "g"'}}, "g"),
        ({"structured_outputs": {"json_object": True}}, r"\{.*"),
        ({"guided_json": '{"enum": [1]}'}, "1"),
        ({"guided_regex": "z{2}"}, "zz"),
        ({"guided_choice": ["c"]}, "c"),
        ({"guided_grammar": 'start: "l"'}, "l"),
        ({"ebnf": 'root ::= "e"'}, "e"),
    ],
)
async def test_forms_under_the_names_of_other_servers(client: Any, form: dict[str, Any], pattern: str) -> None:
    for path, prompt in ((CHAT, {"messages": HI}), ("/v1/completions", {"prompt": "x"})):
        choice = (await client.post(path, **prompt, **form, max_tokens=12))["choices"][0]
        text = choice["text"] if "text" in choice else choice["message"]["content"]
        assert re.fullmatch(pattern, text, re.DOTALL)


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": "3"}, "guided_json"),
        ({"guided_regex": "a", "regex": "b"}, "guided_regex"),
        ({"structured_outputs": {"regex": "("}}, "structured_outputs.regex"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"structured_outputs": {"structural_tag": "x"}}, "structured_outputs.structural_tag"),
        ({"response_format": {"type": "json_object"}, "guided_choice": ["a"]}, "response_format"),
    ],
)
async def test_wrong_forms_are_refused_by_name(client: Any, form: dict[str, Any], param: str) -> None:
    assert (await client.post(CHAT, status=400, messages=HI, **form))["error"]["param"] == param


async def test_a_regex_holds_for_chats_and_completions(client: Any) -> None:
    pattern = r"(north|south)-[0-9]{2,3}"
    chat = await client.post(CHAT, messages=HI, regex=pattern)
    assert re.fullmatch(pattern, chat["choices"][0]["message"]["content"])
    completion = await client.post("/v1/completions", prompt=["a", "b"], regex=pattern, n=2, max_tokens=30)
    texts = [choice["text"] for choice in completion["choices"]]
    assert len(texts) == 4
    assert [text for text in texts if not re.fullmatch(pattern, text)] == []


@pytest.mark.parametrize("grammar", ['root ::= [a-c]+ "-" root2\nroot2 ::= [0-9]', 'start: /[a-c]+/ "-" /[0-9]/'])
async def test_a_grammar_holds_in_both_languages(client: Any, grammar: str) -> None:
    answer = await client.post("/v1/completions", prompt="x", grammar=grammar, max_tokens=60, logit_bias={"45": 3})
    assert re.fullmatch(r"[a-c]+-[0-9]", answer["choices"][0]["text"])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("seed", range(3))
async def test_required_calls_are_calls(client: Any, seed: int, stream: bool) -> None:
    asked = {"messages": HI, "tools": TOOLS, "tool_choice": "required", "seed": seed, "parallel_tool_calls": True}
    if stream:
        calls, reason = collected(await client.stream(CHAT, **asked))
    else:
        choice = (await client.post(CHAT, **asked))["choices"][0]
        assert choice["message"]["content"] is None
        calls, reason = choice["message"]["tool_calls"], choice["finish_reason"]
    assert reason == "tool_calls"
    assert 1 <= len(calls) <= 8
    assert len({call["id"] for call in calls}) == len(calls)
    for call in calls:
        arguments = json.loads(call["function"]["arguments"])
        assert is_point(arguments) if call["function"]["name"] == "move" else arguments == {}


def collected(chunks: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], str]:
    """The calls of a stream, put together as clients do."""
    calls: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        for part in chunk["choices"][0]["delta"].get("tool_calls", []):
            call = calls.setdefault(part["index"], {"function": {"arguments": ""}})
            call["id"] = part.get("id", call.get("id"))
            call["function"]["name"] = part["function"].get("name", call["function"].get("name"))
            call["function"]["arguments"] += part["function"]["arguments"]
    return list(calls.values()), chunks[-1]["choices"][0]["finish_reason"]


async def test_a_named_function_is_called_once(client: Any) -> None:
    choice = {"type": "function", "function": {"name": "move"}}
    answer = await client.post(CHAT, messages=HI, tools=TOOLS, tool_choice=choice)
    (call,) = answer["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "move"
    assert is_point(json.loads(call["function"]["arguments"]))


async def test_a_call_that_must_be_made_is_one_unless_several_are_asked_for(client: Any) -> None:
    named = [{"type": "function", "function": {"name": tool["function"]["name"]}} for tool in TOOLS]
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": named}}
    for seed in range(6):
        for asked in ({"tool_choice": "required"}, {"tool_choice": allowed}):
            for parallel in ({}, {"parallel_tool_calls": None}, {"parallel_tool_calls": False}):
                answer = await client.post(CHAT, messages=HI, tools=TOOLS, seed=seed, **asked, **parallel)
                assert len(answer["choices"][0]["message"]["tool_calls"]) == 1
        tools = [{"type": "function", **tool["function"]} for tool in TOOLS]
        answer = await client.post("/v1/responses", input="hi", tools=tools, tool_choice="required", temperature=1.2)
        assert [item["type"] for item in answer["output"]] == ["function_call"]


async def test_tools_and_a_schema_give_calls_or_the_object(client: Any) -> None:
    kinds = set()
    for seed in range(12):
        bias = {"60": 100} if seed % 2 else {"123": 100}  # "<" begins a call, "{" the object
        asked = {"messages": HI, "tools": TOOLS, "response_format": SCHEMA, "seed": seed, "logit_bias": bias}
        message = (await client.post(CHAT, **asked, max_tokens=600))["choices"][0]["message"]
        if message.get("tool_calls"):
            kinds.add("calls")
            assert message["tool_calls"][0]["function"]["name"] in ("move", "stop")
        else:
            kinds.add("object")
            assert is_point(json.loads(message["content"]))
    assert kinds == {"calls", "object"}


async def test_auto_leaves_text_free_and_none_makes_no_call(client: Any) -> None:
    for choice in ("auto", "none", None):
        answer = await client.post(CHAT, messages=HI, tools=TOOLS, tool_choice=choice, max_tokens=20, seed=3)
        assert "<tool_call>" not in (answer["choices"][0]["message"]["content"] or "")
    assert not answer["choices"][0]["message"].get("tool_calls")


async def test_calls_that_come_back_are_cached_to_the_last_token(client: Any) -> None:
    messages = [{"role": "user", "content": "call something that comes back"}]
    asked = {"tools": TOOLS, "return_token_ids": True, "seed": 2, "parallel_tool_calls": False}
    first = await client.post(CHAT, messages=messages, tool_choice="required", **asked)
    message = first["choices"][0]["message"]
    call_id = message["tool_calls"][0]["id"]
    messages += [message, {"role": "tool", "tool_call_id": call_id, "content": "done"}]
    second = await client.post(CHAT, messages=messages, tool_choice="none", max_tokens=1, **asked)
    said = [token for token in first["choices"][0]["token_ids"] if token < 256]
    third = await client.post(CHAT, messages=messages, max_tokens=1, **asked)
    ran = [*first["prompt_token_ids"], *said]
    assert third["prompt_token_ids"][: len(ran)] == ran
    assert third["usage"]["prompt_tokens_details"]["cached_tokens"] >= len(ran)
    assert second["choices"][0]["message"].get("tool_calls") is None


async def test_responses_have_forms_and_calls_too(client: Any) -> None:
    form = {"format": {"type": "json_schema", "name": "point", "schema": POINT}}
    answer = await client.post("/v1/responses", input="hi", text=form)
    assert is_point(json.loads(answer["output"][0]["content"][0]["text"]))
    tool = {"type": "function", "name": "move", "parameters": POINT}
    answer = await client.post("/v1/responses", input="hi", tools=[tool], tool_choice="required")
    assert {item["type"] for item in answer["output"]} == {"function_call"}
    assert is_point(json.loads(answer["output"][0]["arguments"]))
    response = await client.http.post(
        "/v1/responses",
        json={"input": "hi", "tools": [tool], "tool_choice": {"type": "function", "name": "move"}, "stream": True},
    )
    events = [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]
    kinds = [event["type"] for event in events]
    assert kinds[2] == "response.output_item.added"
    assert kinds[-3:] == ["response.function_call_arguments.done", "response.output_item.done", "response.completed"]
    arguments = "".join(e["delta"] for e in events if e["type"] == "response.function_call_arguments.delta")
    assert is_point(json.loads(arguments))
    assert events[-1]["response"]["output"][0]["arguments"] == arguments


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"regex": "("}, "regex"),
        ({"grammar": "root ::= ("}, "grammar"),
        ({"grammar": "begin: 'a'"}, "grammar"),
        ({"regex": "a", "response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nope"}}}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": False}}}, "response_format"),
        ({"regex": "a" * 5000}, "regex"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}}]}, "tools"),
        ({"tools": [TOOLS[0], TOOLS[0]]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools[0]"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "fly"}}}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": "sometimes"}, "tool_choice"),
    ],
)
async def test_what_is_wrong_is_a_400_that_names_the_field(
    engine: Any, serve_with: Any, body: dict[str, Any], param: str
) -> None:
    async with serve_with(engine, ServerConfig(max_grammar_bytes=4096)) as client:
        error = (await client.post(CHAT, status=400, messages=HI, **body))["error"]
        assert error["param"].startswith(param), error


def test_closing_a_schema_touches_only_what_is_safe() -> None:
    inner = {"type": "object", "properties": {"a": {"type": "string"}}}
    shut = {**inner, "additionalProperties": False}
    bounded = {"type": "integer", "minimum": -(2**53) + 1, "maximum": 2**53 - 1}
    assert closed({"type": "integer"}) == bounded
    assert closed(inner) == shut
    assert closed({"type": "array", "items": inner}) == {"type": "array", "items": shut}
    assert closed({"$defs": {"d": inner}, "anyOf": [inner, {"$ref": "#/$defs/d"}]}) == {
        "$defs": {"d": shut}, "anyOf": [shut, {"$ref": "#/$defs/d"}],
    }  # fmt: skip
    for schema in (
        {"allOf": [inner, {"properties": {"b": {}}}]},
        {"oneOf": [inner, inner]},
        {**inner, "additionalProperties": True},
        {**inner, "required": ["b"]},
        {**inner, "patternProperties": {"^x": {}}},
        {"type": "object"},
        {"type": "integer", "minimum": 1},
        {"enum": [{"properties": {}}]},
    ):
        assert closed(schema) == schema


DISTINCT = {"type": "array", "uniqueItems": True, "items": {"enum": list(range(100))}, "minItems": 50}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


@pytest.mark.parametrize("depth", [30, 100, 200, 400])
async def test_a_deep_schema_is_honoured_or_refused(client: Any, depth: int) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "deep", "schema": nested(depth)}}
    tool = {"type": "function", "function": {"name": "f", "parameters": nested(depth)}}
    for body in ({"response_format": form}, {"tools": [tool], "tool_choice": "required"}):
        response = await client.http.post(CHAT, json={"messages": HI, "max_tokens": 20, **body})
        assert response.status_code in (200, 400)
        if response.status_code == 400:
            assert response.json()["error"]["message"]
    await client.get("/health")


@pytest.mark.parametrize(
    "body",
    [
        {"regex": "(a{1,1000}){1,1000}b"},
        {"grammar": "root ::= root"},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "#"}}}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"$ref": "http://x/y"}}}},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "string", "minLength": 10**9}}}},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"properties": 3}}}]},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": DISTINCT}}},
    ],
)
async def test_a_hostile_form_is_answered(client: Any, body: dict[str, Any]) -> None:
    response = await client.http.post(CHAT, json={"messages": HI, "max_tokens": 10, **body})
    assert response.status_code in (200, 400)
    await client.get("/health")

"""Which tools an answer may call, tools that are given a text of a grammar, and schemas that are enforced or not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from stemma.runtime.engine import Engine
from stemma.server.generation.inputs import InputReader
from tests.runtime.tongues.making import speaking
from tests.runtime.tongues.templates import FUNCTIONS, MISTRAL_LIST
from tests.stemma.server.streams import CHAT, RESPONSES, both

HI = [{"role": "user", "content": "hi"}]
ON = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"], "additionalProperties": False}
REGEX = r'[ab]{2}"\\[cd]'
LARK = 'start: "(" start ")" | "a" ["\\n"]'
FORMATS = {
    "regex": {"syntax": "regex", "definition": REGEX},
    "lark": {"syntax": "lark", "definition": LARK},
}
NESTED = re.compile(r"(\(*)a\n?(\)*)")
BOUND = {"max_tokens": 200, "finish_in_time": True, "seed": 1, "temperature": 1.0}


def functions(*names: str) -> list[dict[str, Any]]:
    return [{"type": "function", "function": {"name": name, "parameters": ON}} for name in names]


def custom(kind: str) -> dict[str, Any]:
    return {"type": "custom", "custom": {"name": "run", "format": {"type": "grammar", "grammar": FORMATS[kind]}}}


def is_in(kind: str, text: str) -> bool:
    if kind == "regex":
        return re.fullmatch(REGEX, text) is not None
    found = NESTED.fullmatch(text)
    return found is not None and len(found[1]) == len(found[2])


@pytest.fixture(scope="module", params=[MISTRAL_LIST, FUNCTIONS], ids=["json", "raw"])
def engine(request: Any) -> Iterator[Engine]:
    with speaking(request.param) as made:
        yield made


async def test_only_allowed_tools_are_called_and_the_prompt_stays(client: Any) -> None:
    tools = functions("one", "two", "three")
    plain = await client.post(CHAT, messages=HI, tools=tools, max_tokens=1)
    for name in ("one", "two"):
        named = [{"type": "function", "function": {"name": name}}]
        chosen = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": named}}
        answer = await client.post(CHAT, messages=HI, tools=tools, tool_choice=chosen, **BOUND)
        (choice,) = answer["choices"]
        assert {call["function"]["name"] for call in choice["message"]["tool_calls"]} == {name}
        assert answer["usage"]["prompt_tokens"] == plain["usage"]["prompt_tokens"], "all of them are told"
        flat = [{"type": "function", **tool["function"]} for tool in tools]
        chosen = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": name}]}
        asked = {"input": "hi", "tools": flat, "tool_choice": chosen, "max_output_tokens": 200}
        response = await client.post(RESPONSES, **asked)
        assert {item["name"] for item in response["output"] if item["type"] == "function_call"} == {name}
        assert response["tool_choice"] == chosen


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"function": {"name": "none"}}]}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}},
        {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "mcp"}]}},
        {"type": "allowed_tools"},
        {"type": "custom", "function": {"name": "one"}},
        {"type": "custom", "custom": {"name": "none"}},
    ],
)
async def test_choices_of_what_there_is_not_are_refused(client: Any, choice: Any) -> None:
    response = await client.http.post(CHAT, json={"messages": HI, "tools": functions("one"), "tool_choice": choice})
    assert response.status_code == 400
    assert "tool_choice" in response.json()["error"]["param"]


@pytest.mark.parametrize("kind", FORMATS)
async def test_custom_tools_are_given_texts_of_their_grammars(client: Any, kind: str) -> None:
    asked = {"messages": HI, "tools": [custom(kind), *functions("one")], **BOUND}
    for choice in ({"type": "custom", "custom": {"name": "run"}}, "required", "auto"):
        whole, streamed = await both(client, CHAT, {**asked, "tool_choice": choice, "return_token_ids": True})
        assert whole == streamed
        ((made,), *_) = whole
        texts = [text for name, text in made["calls"] if name == "run"]
        assert texts or choice != {"type": "custom", "custom": {"name": "run"}}
        assert all(is_in(kind, text) for text in texts), texts


@pytest.mark.parametrize("kind", FORMATS)
async def test_their_calls_come_back_cached(client: Any, kind: str) -> None:
    asked = {"messages": HI, "tools": [custom(kind)], "tool_choice": "required", "parallel_tool_calls": False, **BOUND}
    first = await client.post(CHAT, **asked)
    message = first["choices"][0]["message"]
    (call,) = message["tool_calls"]
    assert (call["type"], call["custom"]["name"]) == ("custom", "run")
    result = {"role": "tool", "tool_call_id": call["id"], "content": "done"}
    second = await client.post(CHAT, messages=[*HI, message, result], tools=[custom(kind)], max_tokens=2)
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached >= first["usage"]["prompt_tokens"] + first["usage"]["completion_tokens"] - 2


async def test_items_and_events_of_custom_tools(client: Any) -> None:
    tool = {"type": "custom", "name": "run", "description": "d", "format": {"type": "grammar", **FORMATS["lark"]}}
    asked = {"input": "hi", "tools": [tool], "tool_choice": {"type": "custom", "name": "run"}, "seed": 2}
    whole, streamed = await both(client, RESPONSES, {**asked, "max_output_tokens": 200})
    assert whole == streamed
    answer = await client.post(RESPONSES, **asked, max_output_tokens=200)
    assert answer["tools"] == [tool]
    (item,) = [item for item in answer["output"] if item["type"] == "custom_tool_call"]
    assert item["id"].startswith("ctc_")
    result = {"type": "custom_tool_call_output", "call_id": item["call_id"], "output": "done"}
    given = [{"role": "user", "content": "hi"}, *answer["output"], result]
    after = await client.post(RESPONSES, input=given, tools=[tool], max_output_tokens=2)
    assert after["usage"]["input_tokens_details"]["cached_tokens"] > answer["usage"]["input_tokens"]


async def test_custom_tools_that_make_no_sense_are_refused(client: Any) -> None:
    for spec in (
        {"type": "custom", "custom": {"name": "run", "format": {"type": "grammar"}}},
        {"type": "custom", "function": {"name": "run"}},
        {"type": "custom"},
        {"type": "custom", "custom": {"name": "run", "format": {"type": "grammar", "grammar": {
            "syntax": "lark", "definition": "start: missing"}}}},
        {"type": "custom", "custom": {"name": "run", "format": {"type": "grammar", "grammar": {
            "syntax": "regex", "definition": "(a"}}}},
    ):  # fmt: skip
        response = await client.http.post(CHAT, json={"messages": HI, "tools": [spec]})
        assert response.status_code == 400, spec
    url = {"type": "mcp", "server_label": "x", "server_url": "http://x"}
    response = await client.http.post(RESPONSES, json={"input": "hi", "tools": [url]})
    assert response.status_code == 400
    assert "mcp are not run by this server" in response.json()["error"]["message"]


async def test_schemas_that_cannot_be_enforced_bind_names_unless_they_are_strict(client: Any) -> None:
    schema = {"type": "object", "properties": {"on": {"$dynamicRef": "#x"}}, "required": ["on"]}
    for strict in (None, False, True):
        tool = {"type": "function", "function": {"name": "f", "parameters": schema, "strict": strict}}
        asked = {"messages": HI, "tools": [tool], "tool_choice": "required", **BOUND}
        response = await client.http.post(CHAT, json=asked)
        assert response.status_code == (400 if strict else 200), response.text
        if not strict:
            (call, *_) = response.json()["choices"][0]["message"]["tool_calls"]
            assert set(json.loads(call["function"]["arguments"])) == {"on"}


def test_texts_are_read_out_of_json_however_it_is_cut() -> None:
    for text in ("", 'a"b\\c\n\t/', "é😀\x00", "}", '"}'):
        for is_ascii in (True, False):
            written = json.dumps({"input": text}, ensure_ascii=is_ascii)
            for piece_len in (1, 2, 5, 100):
                reader = InputReader()
                pieces = [written[at : at + piece_len] for at in range(0, len(written), piece_len)]
                assert "".join(map(reader.push, pieces)) == text

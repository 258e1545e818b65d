"""Functions as chats had them before tools: offered, called, answered, streamed, and what makes no sense."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.stemma.server.streams import CHAT

HI = [{"role": "user", "content": "hi"}]
ON = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"], "additionalProperties": False}
FUNCTIONS = [{"name": name, "description": "d", "parameters": ON} for name in ("find", "keep")]
NAMED = {"functions": FUNCTIONS, "function_call": {"name": "keep"}}
CALL = {"name": "keep", "arguments": '{"on":true}'}
CALLS = [{"id": "a", "type": "function", "function": CALL}]
BOTH = {"role": "assistant", "content": None, "function_call": CALL, "tool_calls": CALLS}
LIMIT = {"max_tokens": 120, "finish_in_time": True, "seed": 1}


async def test_one_is_called_in_the_older_form(client: Any) -> None:
    asked = {"messages": HI, **NAMED, **LIMIT}
    (choice,) = (await client.post(CHAT, **asked))["choices"]
    assert choice["finish_reason"] == "function_call"
    message = choice["message"]
    assert "tool_calls" not in message
    assert message["content"] is None
    assert message["function_call"]["name"] == "keep"
    assert set(json.loads(message["function_call"]["arguments"])) == {"on"}

    choices = [chunk["choices"][0] for chunk in await client.stream(CHAT, **asked)]
    told = [each["delta"]["function_call"] for each in choices if "function_call" in each["delta"]]
    assert [each["name"] for each in told if "name" in each] == ["keep"]
    assert "".join(each["arguments"] for each in told) == message["function_call"]["arguments"]
    assert not any("tool_calls" in each["delta"] for each in choices)
    assert choices[-1]["finish_reason"] == "function_call"


async def test_the_prompt_is_that_of_tools(client: Any) -> None:
    tools = [{"type": "function", "function": function} for function in FUNCTIONS]
    said = {"role": "assistant", "content": None}
    old = [*HI, {**said, "function_call": CALL}, {"role": "function", "name": "keep", "content": "done"}]
    new = [*HI, {**said, "tool_calls": CALLS}, {"role": "tool", "tool_call_id": "a", "content": "done"}]
    in_old = await client.post(CHAT, messages=old, functions=FUNCTIONS, max_tokens=1, return_token_ids=True)
    in_new = await client.post(CHAT, messages=new, tools=tools, max_tokens=1, return_token_ids=True)
    assert in_old["prompt_token_ids"] == in_new["prompt_token_ids"]


async def test_none_is_called_where_none_shall_be(client: Any) -> None:
    answer = await client.post(CHAT, messages=HI, functions=FUNCTIONS, function_call="none", max_tokens=4)
    assert answer["choices"][0]["finish_reason"] in ("length", "stop")
    nothing: list[dict[str, Any]] = [{"functions": []}, {"functions": None}, {"function_call": "auto"}]
    for empty in nothing:
        await client.post(CHAT, messages=HI, max_tokens=1, **empty)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"function_call": {"name": "keep"}}, "there are none"),
        ({"functions": FUNCTIONS, "function_call": {"name": "other"}}, "there is no tool 'other'"),
        ({**NAMED, "tools": [{"type": "function", "function": FUNCTIONS[0]}]}, "give tools and tool_choice"),
        ({**NAMED, "tool_choice": "auto"}, "give tools and tool_choice"),
        ({"functions": FUNCTIONS, "function_call": "required"}, "function_call"),
        ({"messages": [*HI, BOTH]}, "give one of them"),
    ],
)
async def test_what_makes_no_sense_is_refused(client: Any, body: Any, words: str) -> None:
    answer = await client.post(CHAT, 400, **{"messages": HI, "max_tokens": 1, **body})
    assert words in answer["error"]["message"]

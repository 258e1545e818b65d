"""Calls and thoughts over HTTP, in the form that the model's own template has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from stemma.runtime.engine import Engine
from stemma.server import ServerConfig
from tests.runtime.tongues.making import speaking
from tests.runtime.tongues.templates import HERMES, MISTRAL_LIST, OPENED, PAIRED
from tests.stemma.server.streams import CHAT, RESPONSES, both

HI = [{"role": "user", "content": "hi"}]
PARAMETERS = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
TOOLS = [{"type": "function", "function": {"name": "find", "description": "d", "parameters": PARAMETERS}}]
ASKED = {"messages": HI, "tools": TOOLS, "tool_choice": "required", "seed": 3, "finish_in_time": True}

FORM = {"type": "json_schema", "json_schema": {"name": "x", "schema": PARAMETERS}}
BOUND = {"seed": 1, "max_tokens": 40, "finish_in_time": True, "response_format": FORM}


@pytest.fixture(scope="module", params=[HERMES, OPENED, PAIRED, MISTRAL_LIST], ids=["hermes", "opened", "pairs", "ids"])
def engine(request: Any) -> Iterator[Engine]:
    with speaking(request.param) as made:
        yield made


def is_opened(engine: Engine) -> bool:
    return engine.chat_template.source == OPENED


async def test_a_call_is_one_in_the_models_own_form(client: Any, engine: Engine) -> None:
    answer = await client.post(CHAT, **ASKED, max_tokens=120, return_token_ids=True)
    (choice,) = answer["choices"]
    (call, *_) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert call["function"]["name"] == "find"
    assert set(json.loads(call["function"]["arguments"])) == {"on"}
    marks = {engine.tokenizer.special[text] for text in engine.tongue.marks.inside(engine.tongue.calls.begins)}
    assert marks
    assert marks <= set(choice["token_ids"]), "marks are tokens, not their letters"
    assert len(call["id"]) == (9 if engine.tongue.has_short_ids else 29)


async def test_streams_of_calls_and_thoughts_are_the_whole_answers(client: Any) -> None:
    for limit in (3, 40, 120):
        whole, streamed = await both(client, CHAT, {**ASKED, "max_tokens": limit, "return_token_ids": True})
        assert whole == streamed


async def test_a_call_that_comes_back_is_cached_to_its_last_token(client: Any, engine: Engine) -> None:
    if is_opened(engine):
        pytest.skip("this template leaves thoughts out of earlier turns")
    first = await client.post(CHAT, **{**ASKED, "parallel_tool_calls": False}, max_tokens=120)
    message = first["choices"][0]["message"]
    message.pop("refusal")
    result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "done"}
    second = await client.post(CHAT, messages=[*HI, message, result], tools=TOOLS, max_tokens=2)
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached >= first["usage"]["prompt_tokens"] + first["usage"]["completion_tokens"] - 1


async def test_thoughts_are_no_content(client: Any, engine: Engine) -> None:
    if not is_opened(engine):
        pytest.skip("this template's prompt opens no thoughts")
    answer = await client.post(CHAT, messages=HI, max_tokens=12, seed=1, ignore_eos=True)
    (choice,) = answer["choices"]
    assert choice["message"]["reasoning_content"]
    assert choice["message"]["content"] == ""
    assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] >= 10
    bound = await client.post(CHAT, messages=HI, **BOUND)
    (choice,) = bound["choices"]
    assert choice["finish_reason"] == "stop"
    assert set(json.loads(choice["message"]["content"])) == {"on"}
    assert choice["message"]["reasoning_content"]
    thoughts = bound["usage"]["completion_tokens_details"]["reasoning_tokens"]
    assert 0 < thoughts < bound["usage"]["completion_tokens"]
    streamed = await client.stream(CHAT, messages=HI, **BOUND)
    deltas = [chunk["choices"][0]["delta"] for chunk in streamed]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == choice["message"]["reasoning_content"]
    assert "".join(delta.get("content", "") for delta in deltas) == choice["message"]["content"]


async def test_thoughts_are_items_of_responses(client: Any, engine: Engine) -> None:
    if not is_opened(engine):
        pytest.skip("this template's prompt opens no thoughts")
    asked = {"input": "hi", "max_output_tokens": 12, "seed": 1, "reasoning": {"effort": "high"}}
    whole, streamed = await both(client, RESPONSES, asked)
    assert whole == streamed
    answer = await client.post(RESPONSES, **asked)
    (thoughts,) = answer["output"]
    assert (thoughts["type"], thoughts["content"][0]["type"]) == ("reasoning", "reasoning_text")
    assert answer["usage"]["output_tokens_details"]["reasoning_tokens"] > 0
    again = [{"role": "user", "content": "hi"}, thoughts, {"role": "assistant", "content": "A"}]
    await client.post(RESPONSES, input=[*again, {"role": "user", "content": "more"}], max_output_tokens=2)


async def test_what_the_template_does_not_look_at_is_named_in_a_header(client: Any, engine: Engine) -> None:
    """These templates read no switch for thinking."""
    asked = {"messages": HI, "max_tokens": 2}
    told = {"reasoning_effort": "low", "chat_template_kwargs": {"messages_are_long": True}}
    named = "chat_template_kwargs.messages_are_long, reasoning_effort"
    for path, body, expected in (
        (CHAT, asked, None),
        (CHAT, {**asked, **told}, named),
        (CHAT, {**asked, **told, "stream": True}, named),
        (CHAT, {**asked, "reasoning_effort": "none"}, "reasoning_effort" if engine.tongue.reasoning else None),
        (RESPONSES, {"input": "hi", "max_output_tokens": 2, "reasoning": {"effort": "high"}}, "reasoning_effort"),
    ):
        response = await client.http.post(path, json=body)
        assert response.status_code == 200
        assert response.headers.get("stemma-unused-fields") == expected


async def test_history_has_the_thoughts_that_the_template_writes(client: Any, engine: Engine) -> None:
    chat = [*HI, {"role": "assistant", "content": "A", "reasoning_content": "Because."}]
    bare = [*HI, {"role": "assistant", "content": "A"}]
    told = [(await client.post("/tokenize", messages=messages))["count"] for messages in (chat, bare)]
    reasoning = engine.tongue.reasoning
    assert (told[0] > told[1]) == (reasoning is not None and reasoning.field is not None)


async def test_a_turn_that_the_template_changes_is_computed_before_it_is_needed(client: Any, engine: Engine) -> None:
    if not is_opened(engine):
        pytest.skip("this template changes no turn")
    question = [{"role": "user", "content": "a question that is rather long"}]
    first = await client.post(CHAT, messages=question, **BOUND)
    message = {name: first["choices"][0]["message"][name] for name in ("role", "content", "reasoning_content")}
    chat = [*question, message, {"role": "user", "content": "more"}]
    found = await client.post("/cache/explain", messages=chat)
    assert (found["changed_turn"]["turn"], found["changed_turn"]["role"]) == (1, "assistant")
    await is_computed(client, engine, {"messages": chat}, 12)
    second = await client.post(CHAT, messages=chat, max_tokens=2)
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] > found["num_tokens"] - 12


async def test_what_follows_a_call_is_its_result(client: Any, engine: Engine) -> None:
    if not is_opened(engine):
        pytest.skip("this template changes no turn")
    first = await client.post(CHAT, **ASKED, max_tokens=120)
    message = first["choices"][0]["message"]
    message.pop("refusal")
    results = [{"role": "tool", "tool_call_id": call["id"], "content": "done"} for call in message["tool_calls"]]
    asked = {"messages": [*HI, message, *results], "tools": TOOLS}
    await is_computed(client, engine, asked, 40 * len(results))


async def test_nothing_is_computed_ahead_where_that_is_turned_off(engine: Engine, serve_with: Any) -> None:
    if not is_opened(engine):
        pytest.skip("this template changes no turn")
    question = [{"role": "user", "content": "another question that is rather long"}]
    async with serve_with(engine, ServerConfig(model_name="tiny", compute_ahead=False)) as client:
        first = await client.post(CHAT, messages=question, **BOUND)
        message = {name: first["choices"][0]["message"][name] for name in ("role", "content", "reasoning_content")}
        await asyncio.sleep(0.1)
        found = await client.post("/cache/explain", messages=[*question, message, {"role": "user", "content": "more"}])
        assert found["num_tokens"] - found["hit_len"] > 20, "the answer, too"


async def is_computed(client: Any, engine: Engine, asked: dict[str, Any], num_new: int) -> None:
    """Wait until all but so many tokens are cached."""
    for _ in range(200):
        found = await client.post("/cache/explain", **asked)
        if found["num_tokens"] - found["hit_len"] < num_new:
            return
        await asyncio.sleep(0.02)
    raise AssertionError(found)

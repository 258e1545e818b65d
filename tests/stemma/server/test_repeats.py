"""Answers that would make a call twice end before it, over HTTP, in the form that the model's own template has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from stemma.lang.states.state import State
from stemma.lang.values.tools import Tool
from stemma.runtime.engine import Engine
from stemma.runtime.tongues.calls import Call
from tests.runtime.tongues.making import shown, speaking
from tests.runtime.tongues.templates import FUNCTIONS, MISTRAL_LIST, NUMBERED
from tests.stemma.server.streams import CHAT, RESPONSES, both

HI = [{"role": "user", "content": "hi"}]
SAME = {"type": "object", "properties": {"at": {"type": "string", "pattern": "^same$"}}, "required": ["at"]}
CALL = ("pick", '{"at": "same"}')
TOOLS = [{"type": "function", "function": {"name": "pick", "parameters": SAME}}]
MANY = {"tool_choice": "required", "parallel_tool_calls": True}
ASKED = {"messages": HI, "tools": TOOLS, **MANY, "max_tokens": 600, "temperature": 1.5}
SEEDS = range(2)


@pytest.fixture(scope="module", params=[FUNCTIONS, MISTRAL_LIST, NUMBERED], ids=["values", "ids", "numbers"])
def engine(request: Any) -> Iterator[Engine]:
    with speaking(request.param) as made:
        yield made


def written(engine: Engine) -> list[int]:
    """Tokens of an answer with the call."""
    return engine.tokenizer.encode_template(engine.tongue.calls.write([Call("pick", {"at": "same"}, "0" * 9)]))


async def test_the_same_call_is_not_told_twice(client: Any, engine: Engine) -> None:
    num_tokens = []
    for seed in SEEDS:
        whole, streamed = await both(client, CHAT, {**ASKED, "seed": seed, "return_token_ids": True})
        assert whole == streamed
        ((choice,), usage, *_) = whole
        assert choice["calls"] == [CALL]
        assert choice["finish"] == "tool_calls"
        assert usage["completion_tokens"] == len(choice["tokens"]), "what was cut off was generated all the same"
        num_tokens.append(len(choice["tokens"]))
    assert max(num_tokens) > len(written(engine)) + 8, "one began a second call"


async def test_an_answer_that_was_ended_comes_back_cached_to_its_last_token(client: Any, engine: Engine) -> None:
    for seed in SEEDS:
        numbers = []
        for parallel in (True, False):
            asked = {**ASKED, "parallel_tool_calls": parallel, "seed": seed, "cache_salt": str(parallel)}
            first = await client.post(CHAT, **asked)
            message = first["choices"][0]["message"]
            message.pop("refusal")
            result = {"role": "tool", "tool_call_id": message["tool_calls"][0]["id"], "content": "done"}
            asked = {"messages": [*HI, message, result], "tools": TOOLS, "max_tokens": 2, "cache_salt": str(parallel)}
            second = await client.post(CHAT, **asked)
            numbers.append(second["usage"]["prompt_tokens"])
            cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
            assert cached >= first["usage"]["prompt_tokens"] + len(written(engine)) - 2
        assert numbers[0] == numbers[1], "its history is that of an answer with one call"


async def test_items_of_responses_end_likewise(client: Any) -> None:
    tools = [{"type": "function", **TOOLS[0]["function"]}]
    asked = {"input": "hi", "tools": tools, **MANY, "max_output_tokens": 600, "temperature": 1.5}
    for seed in SEEDS:
        whole, streamed = await both(client, RESPONSES, {**asked, "seed": seed})
        assert whole == streamed
        items, status, *_ = whole
        assert [item[0] for item in items] == ["function_call"]
        assert status == "completed"


async def test_a_least_number_of_tokens_lets_it_repeat(client: Any, engine: Engine) -> None:
    answers = [await client.post(CHAT, **ASKED, seed=seed, min_tokens=200) for seed in SEEDS]
    assert max(len(answer["choices"][0]["message"]["tool_calls"]) for answer in answers) > 1


def test_a_state_goes_on_behind_what_was_told(engine: Engine) -> None:
    for seed in SEEDS:
        told = []
        for max_calls in (1, 8):
            with State(engine).tools(Tool("pick", "", SAME)).user("hi") as state:
                asked = state.call(required=True, max_calls=max_calls, max_tokens=600, temperature=1.5, seed=seed)
                (call,) = asked.result().calls
                told.append(shown(state.result(call, "done").assistant().tokens).replace(call.id, ""))
        assert told[0] == told[1]

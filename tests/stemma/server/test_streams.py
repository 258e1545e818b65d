"""A stream put together is the whole answer: its text, token ids, log-probabilities, calls, usage and reason to end."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemma.fsm import FormError, Matcher
from stemma.server import ServerConfig
from tests.stemma.server.streams import CHAT, COMPLETIONS, GENERATE, MESSAGES, RESPONSES, both

HI = [{"role": "user", "content": "hi"}]
FIND = {
    "type": "object",
    "properties": {"q": {"enum": ["añb", "c<}d"]}, "k": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["q", "k"],
    "additionalProperties": False,
}
TOOLS = [{"type": "function", "function": {"name": "find", "parameters": FIND}}]
OBJECT = {"type": "json_schema", "name": "p", "schema": FIND}
FORCED = ["hello world", "", "naïve 日本 😀", "</tool_call>", "<tool_call>", "\u2028\x85\n\r\x0b"]


def whole_or_cut(choice: dict[str, Any]) -> None:
    """What must hold of every choice of a chat with tools."""
    assert "tool_call" not in choice["content"]
    if choice["finish"] == "tool_calls":
        assert choice["calls"]
    for name, arguments in choice["calls"]:
        assert name == "find"
        if choice["finish"] == "tool_calls":
            assert set(json.loads(arguments)) == {"q", "k"}


@pytest.mark.parametrize("text", FORCED)
async def test_what_a_form_forces_whole_is_streamed(client: Any, text: str) -> None:
    form = {"structured_outputs": {"choice": [text]}}
    whole, streamed = await both(client, CHAT, {"messages": HI, **form})
    assert whole == streamed
    assert streamed[0][0]["content"] == text
    whole, streamed = await both(client, COMPLETIONS, {"prompt": "hi", "max_tokens": 60, "echo": True, **form})
    assert whole == streamed
    assert streamed[0][0]["text"] == "hi" + text
    schema = {"type": "json_schema", "schema": {"const": {"t": text}}, "name": "c"}
    whole, streamed = await both(client, RESPONSES, {"input": "hi", "text": {"format": schema}})
    assert whole == streamed
    assert json.loads(streamed[0][0][2]) == {"t": text}
    whole, streamed = await both(
        client, GENERATE, {"text": "hi", "sampling_params": {"json_schema": json.dumps({"const": text})}}
    )
    assert whole == streamed
    assert json.loads(streamed[0][0]) == text


async def test_calls_are_cut_by_a_limit_at_every_token(client: Any) -> None:
    asked = {"messages": HI, "tools": TOOLS, "tool_choice": "required", "seed": 4, "return_token_ids": True}
    (full,), usage, _ = (await both(client, CHAT, {**asked, "max_tokens": 400}))[0]
    assert full["finish"] == "tool_calls"
    first = '<tool_call>\n{"name": "find", "arguments": '
    length = usage["completion_tokens"]
    for limit in [*range(0, 40, 4), *range(40, length - 18), *range(length - 18, length, 3), length - 1]:
        body = {**asked, "max_tokens": limit}
        whole, streamed = await both(client, CHAT, body)
        assert whole == streamed
        ((choice,), _, _) = whole
        whole_or_cut(choice)
        assert choice["finish"] == "length"
        assert choice["content"] == ""
        assert bool(choice["calls"]) == (limit >= len(first))
        message = (await client.post(CHAT, **body))["choices"][0]["message"]
        assert message["content"] is None or limit == 0
        tool = {"type": "function", "name": "find", "parameters": FIND}
        body = {"input": "hi", "tools": [tool], "tool_choice": "required", "max_output_tokens": limit}
        whole, streamed = await both(client, RESPONSES, {**body, "temperature": 0})
        assert whole == streamed
        items, status, _, _ = whole
        assert status == "incomplete"
        for kind, item_status, *_, said in items:
            assert kind == "function_call" or not said
            if kind == "function_call" and item_status == "completed":
                assert set(json.loads(said)) == {"q", "k"}


async def test_calls_are_cut_by_every_stop_string(client: Any) -> None:
    asked = {"messages": HI, "tools": TOOLS, "tool_choice": "required", "seed": 4, "parallel_tool_calls": False}
    (full,), _, _ = (await both(client, CHAT, asked))[0]
    ((_, arguments),) = full["calls"]
    text = f'<tool_call>\n{{"name": "find", "arguments": {arguments}}}\n</tool_call>'
    stops = {text[at : at + length] for at in range(len(text)) for length in (1, 3)}
    for stop in sorted(stops):
        whole, streamed = await both(client, CHAT, {**asked, "stop": stop})
        assert whole == streamed, stop
        ((choice,), _, _) = whole
        whole_or_cut(choice)
        kept = text[: text.index(stop)]
        is_whole = len(kept) >= text.index(arguments) + len(arguments)
        assert choice["finish"] == ("tool_calls" if is_whole else "stop"), stop
        assert choice["content"] == ""
    for char in set(arguments):
        for token in char.encode():
            whole, streamed = await both(client, CHAT, {**asked, "stop_token_ids": [token]})
            assert whole == streamed
            whole_or_cut(whole[0][0])


async def test_a_second_call_that_is_cut_is_no_call(client: Any) -> None:
    bias = {str(ord("\n")): 100}  # another call
    for seed in range(4):
        asked = {"messages": HI, "tools": TOOLS, "tool_choice": "required", "seed": seed, "logit_bias": bias}
        asked["parallel_tool_calls"] = True
        ((full,), _, _), _ = await both(client, CHAT, asked)
        arguments = [said for _, said in full["calls"]]
        other = next((said for said in arguments if said != arguments[0]), None)
        if other is not None:
            break
    assert other is not None
    at = arguments.index(other)
    ((choice,), _, _), streamed = await both(client, CHAT, {**asked, "stop": other[:-1]})
    assert [choice] == streamed[0]
    assert choice["finish"] == "stop"
    assert [said for _, said in choice["calls"]][:at] == arguments[:at]
    assert len(choice["calls"]) <= at + 1
    for limit in range(8):
        spent = (
            at * len(f'<tool_call>\n{{"name": "find", "arguments": {arguments[0]}}}\n</tool_call>\n'.encode()) + limit
        )
        whole, streamed = await both(client, CHAT, {**asked, "max_tokens": spent})
        assert whole == streamed
        assert [said for _, said in whole[0][0]["calls"]] == arguments[:at]
        assert (whole[0][0]["finish"], whole[0][0]["content"]) == ("length", "")


async def test_a_form_beside_tools_may_say_what_a_call_begins_with(client: Any) -> None:
    said = {"t": "see <tool_call> {"}
    form = {"type": "json_schema", "json_schema": {"name": "c", "schema": {"const": said}}}
    body = {"messages": HI, "tools": TOOLS, "response_format": form, "logit_bias": {str(ord("{")): 100}}
    whole, streamed = await both(client, CHAT, body)
    assert whole == streamed
    assert json.loads(whole[0][0]["content"]) == said
    assert whole[0][0]["finish"] == "stop"


FORMS = st.sampled_from([
    {}, {"regex": "hello wörld"}, {"regex": "[a-c]{2,5} wörld [0-9]{1,3}"}, {"regex": "(añb|añc|x😀)*"},
    {"structured_outputs": {"choice": ["only"]}}, {"structured_outputs": {"choice": ["yes", "yés", "no"]}},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "p", "schema": FIND}}},
    {"grammar": 'root ::= "a" root | "b"'},
])  # fmt: skip
STOPS = st.lists(
    st.sampled_from(
        ["o", "wör", "ö", "}", '"', "\ufffd", "<tool", "name", "ld 1", ": ", "ñb", "n", "es", "\n", "añbx"]
    ),
    max_size=2,
)
BODIES = st.fixed_dictionaries({
    "stop": STOPS, "max_tokens": st.integers(0, 40), "seed": st.integers(0, 9), "n": st.integers(1, 3),
    "temperature": st.sampled_from([0, 1.0]), "finish_in_time": st.booleans(),
})  # fmt: skip


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=BODIES, form=FORMS, data=st.data())
async def test_any_stream_is_the_whole_answer(exact: Any, body: dict[str, Any], form: Any, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from([CHAT, COMPLETIONS, RESPONSES, GENERATE, MESSAGES]))
    scores = data.draw(st.sampled_from([None, 0, 2]))
    if scores is not None:
        body["finish_in_time"] = False
    if path == GENERATE:
        sampling = {name: body[name] for name in ("stop", "n", "temperature")}
        sampling |= {"max_new_tokens": body["max_tokens"], "sampling_seed": body["seed"]}
        sampling |= {"regex": form["regex"]} if "regex" in form else {}
        asked: dict[str, Any] = {"text": "hi é", "sampling_params": sampling}
        if scores is not None:
            asked |= {"return_logprob": True, "top_logprobs_num": scores, "logprob_start_len": 1}
    elif path == MESSAGES:
        asked = {name: body[name] for name in ("max_tokens", "seed", "temperature")}
        asked |= {"messages": HI, "stop_sequences": body["stop"]}
        if data.draw(st.booleans()):
            asked |= {"output_config": {"format": {"type": "json_schema", "schema": FIND}}}
        if data.draw(st.booleans()):
            choice = {"type": data.draw(st.sampled_from(["auto", "any"])), "disable_parallel_tool_use": True}
            asked |= {"tools": [{"name": "find", "input_schema": FIND}], "tool_choice": choice}
    elif path == RESPONSES:
        asked = {"input": "hi é", "max_output_tokens": body["max_tokens"], "temperature": 0}
        if scores is not None:
            asked |= {"include": ["message.output_text.logprobs"], "top_logprobs": scores}
        if data.draw(st.booleans()):
            tool = {"type": "function", "name": "find", "parameters": FIND}
            asked |= {"tools": [tool], "tool_choice": data.draw(st.sampled_from(["auto", "required"]))}
    elif path == COMPLETIONS:
        flags = {name: data.draw(st.booleans()) for name in ("echo", "return_token_ids")}
        asked = {"prompt": ["hi é", "you"], **body, **form, **flags, "logprobs": scores}
    else:
        asked = {"messages": HI, **body, **form, "return_token_ids": data.draw(st.booleans())}
        asked |= {} if scores is None else {"logprobs": True, "top_logprobs": scores}
        if not form and data.draw(st.booleans()):
            asked |= {"tools": TOOLS, "tool_choice": data.draw(st.sampled_from(["auto", "required"]))}
    whole, streamed = await both(exact, path, asked)
    assert streamed == whole


@pytest.fixture
async def exact(exact_engine: Any, serve_with: Any) -> Any:
    async with serve_with(exact_engine, ServerConfig(model_name="tiny")) as client:
        yield client


@pytest.fixture(scope="module")
def exact_engine(tiny_loaded: Any) -> Any:
    """In float64, so that what is cached changes no token."""
    from stemma.runtime.engine import Engine

    with Engine.of(tiny_loaded, kv_tokens=16384) as made:
        yield made
        assert made.stats().cache.leased == 0


@pytest.mark.parametrize("num_choices", [1, 2])
async def test_an_error_on_the_way_is_said_behind_what_came(client: Any, monkeypatch: Any, num_choices: int) -> None:
    form = {"regex": "ab[ab]{30}", "max_tokens": 60, "seed": 1}
    advance, count = Matcher.advance, itertools.count()
    expected = (await client.post(CHAT, messages=HI, **form))["choices"][0]["message"]["content"]

    def breaks(matcher: Matcher, token: int) -> bool:
        if next(count) >= 9 * num_choices:
            raise FormError("this form breaks here")
        return advance(matcher, token)

    monkeypatch.setattr(Matcher, "advance", breaks)
    chunks = await client.stream(CHAT, messages=HI, n=num_choices, **form)
    assert "breaks here" in chunks.pop()["error"]["message"]
    said = [
        choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"] if choice["index"] == 0
    ]
    assert expected.startswith("".join(said))
    assert not any(choice["finish_reason"] for chunk in chunks for choice in chunk["choices"])
    chunks = await client.stream(COMPLETIONS, prompt="x", n=num_choices, **form)
    assert "breaks here" in chunks.pop()["error"]["message"]
    response = await client.http.post(RESPONSES, json={"input": "x", "text": {"format": OBJECT}, "stream": True})
    last = json.loads(response.text.split("\n\n")[-2].split("\n")[1].removeprefix("data: "))
    assert last["type"] == "response.failed"
    assert "breaks here" in last["response"]["error"]["message"]

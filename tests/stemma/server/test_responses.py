"""POST /v1/responses on the tiny model."""

from __future__ import annotations

import json
from typing import Any

import pytest

PATH = "/v1/responses"


async def events_of(client: Any, **body: Any) -> list[dict[str, Any]]:
    response = await client.http.post(PATH, json={**body, "stream": True})
    assert response.status_code == 200, response.text
    events = []
    for block in response.text.split("\n\n"):
        if block:
            name, data = block.split("\n")
            value = json.loads(data.removeprefix("data: "))
            assert name == f"event: {value['type']}"
            events.append(value)
    return events


async def test_an_answer_has_openais_shape(client: Any) -> None:
    answer = await client.post(PATH, input="hi", max_output_tokens=5, instructions="be brief", temperature=0)
    assert answer["object"] == "response"
    assert answer["store"] is True
    (item,) = answer["output"]
    assert item["type"] == "message"
    assert item["content"][0]["type"] == "output_text"
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert answer["status"] == "incomplete"
    assert answer["incomplete_details"] == {"reason": "max_output_tokens"}
    again = await client.post(PATH, input="hi", max_output_tokens=5, instructions="be brief")
    assert again["usage"]["input_tokens_details"]["cached_tokens"] >= usage["input_tokens"] - 1


async def test_the_events_come_in_openais_order(client: Any) -> None:
    asked = {"input": "hi", "max_output_tokens": 8, "seed": 1}
    whole = await client.post(PATH, **asked)
    events = await events_of(client, **asked)
    kinds = [event["type"] for event in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert set(kinds[4:-4]) == {"response.output_text.delta"}
    assert kinds[-4:] == [
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        f"response.{whole['status']}",
    ]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    assert text == whole["output"][0]["content"][0]["text"] == events[-4]["text"]
    assert events[-1]["response"]["usage"] == whole["usage"] | {
        "input_tokens_details": events[-1]["response"]["usage"]["input_tokens_details"],
        "stemma": events[-1]["response"]["usage"]["stemma"],
    }


async def test_an_answer_that_comes_back_is_cached_to_its_last_token(client: Any) -> None:
    first = await client.post(PATH, input="remember me", max_output_tokens=12, seed=3)
    conversation = [
        {"role": "user", "content": "remember me"},
        *first["output"],
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go on"}]},
    ]
    second = await client.post(PATH, input=conversation, max_output_tokens=1)
    ran = first["usage"]["input_tokens"] + first["usage"]["output_tokens"]
    assert second["usage"]["input_tokens_details"]["cached_tokens"] >= ran


async def test_calls_and_their_outputs_are_part_of_the_prompt(client: Any) -> None:
    tool = {"type": "function", "name": "add", "parameters": {"type": "object"}}
    conversation = [
        {"role": "user", "content": "add"},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "c1", "output": "2"},
    ]
    answer = await client.post(PATH, input=conversation, tools=[tool], max_output_tokens=1)
    shorter = await client.post(PATH, input=conversation[:1], tools=[tool], max_output_tokens=1)
    assert answer["usage"]["input_tokens"] > shorter["usage"]["input_tokens"]
    assert answer["tools"][0]["name"] == "add"


async def test_logprobs_are_on_request(client: Any) -> None:
    include = ["message.output_text.logprobs"]
    answer = await client.post(PATH, input="hi", max_output_tokens=4, include=include, top_logprobs=2, temperature=0)
    entries = answer["output"][0]["content"][0]["logprobs"]
    assert len(entries) == answer["usage"]["output_tokens"]
    assert len(entries[0]["top_logprobs"]) == 2


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": "x", "background": True, "store": False}, "background"),
        ({"input": "x", "previous_response_id": "r"}, "previous_response_id"),
        ({"input": "x", "previous_response_id": "r", "conversation": "c"}, "previous_response_id"),
        ({"input": "x", "metadata": {"k": "v" * 513}}, "metadata"),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "tools"),
        ({"input": "x", "top_logprobs": 2}, "top_logprobs"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content"),
        ({"input": [{"role": "user", "content": 1}]}, "input[0]"),
        ({"input": "x" * 3000}, "input"),
        ({"input": []}, "input"),
    ],
)
async def test_what_is_not_supported_is_a_400_that_names_the_field(
    client: Any, body: dict[str, Any], param: str
) -> None:
    assert (await client.post(PATH, status=400, **body))["error"]["param"].startswith(param)

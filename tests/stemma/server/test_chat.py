"""POST /v1/chat/completions on the tiny model."""

from __future__ import annotations

import json
from typing import Any

import pytest

CHAT = "/v1/chat/completions"
HI = [{"role": "user", "content": "hi"}]


def text_of(chunks: list[dict[str, Any]], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


async def test_an_answer_has_openais_shape(client: Any) -> None:
    answer = await client.post(CHAT, messages=HI, max_tokens=5, seed=1, model="tiny")
    assert answer["object"] == "chat.completion"
    assert answer["model"] == "tiny"
    choice = answer["choices"][0]
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] in ("stop", "length")
    assert choice["logprobs"] is None
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    again = await client.post(CHAT, messages=HI, max_tokens=5, seed=1, model="tiny")
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] >= usage["prompt_tokens"] - 1


async def test_a_stream_says_what_the_whole_answer_says(client: Any) -> None:
    asked = {"messages": HI, "max_tokens": 24, "seed": 3, "n": 2}
    whole = await client.post(CHAT, **asked)
    chunks = await client.stream(CHAT, **asked, stream_options={"include_usage": True})
    for index in range(2):
        assert text_of(chunks, index) == whole["choices"][index]["message"]["content"]
    last = chunks.pop()
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert last["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"]
    assert all(chunk["usage"] is None for chunk in chunks)
    reasons = [c["finish_reason"] for chunk in chunks for c in chunk["choices"] if c["finish_reason"]]
    assert sorted(reasons) == sorted(choice["finish_reason"] for choice in whole["choices"])


async def test_without_include_usage_no_chunk_has_usage(client: Any) -> None:
    chunks = await client.stream(CHAT, messages=HI, max_tokens=3, temperature=0)
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"
    keys = {"id", "object", "created", "model", "system_fingerprint", "choices"}
    assert {key for chunk in chunks for key in chunk} == keys


async def test_the_seed_decides_and_the_default_temperature_is_not_greedy(client: Any) -> None:
    answers = [
        (await client.post(CHAT, messages=HI, max_tokens=12, seed=seed))["choices"][0]["message"]["content"]
        for seed in (1, 1, 2, 3)
    ]
    assert answers[0] == answers[1]
    assert len(set(answers)) > 1


async def test_logprobs_are_of_the_tokens_said(client: Any) -> None:
    answer = await client.post(CHAT, messages=HI, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3)
    entries = answer["choices"][0]["logprobs"]["content"]
    assert len(entries) == answer["usage"]["completion_tokens"]
    for entry in entries:
        assert len(entry["top_logprobs"]) == 3
        assert entry["top_logprobs"][0]["token"] == entry["token"]  # greedy
        assert entry["logprob"] <= 0
    chunks = await client.stream(CHAT, messages=HI, max_tokens=6, temperature=0, logprobs=True, top_logprobs=3)
    streamed = [
        entry
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["logprobs"]
        for entry in choice["logprobs"]["content"]
    ]
    assert [entry["token"] for entry in streamed] == [entry["token"] for entry in entries]


async def test_a_stop_string_ends_the_answer_and_is_no_part_of_it(client: Any) -> None:
    whole = await client.post(CHAT, messages=HI, max_tokens=40, seed=5)
    text = whole["choices"][0]["message"]["content"]
    stop = next(char for char in text[5:] if char.isprintable() and char != "\ufffd")
    cut = await client.post(CHAT, messages=HI, max_tokens=40, seed=5, stop=stop)
    assert cut["choices"][0]["message"]["content"] == text[: text.index(stop)]
    assert cut["choices"][0]["finish_reason"] == "stop"
    chunks = await client.stream(CHAT, messages=HI, max_tokens=40, seed=5, stop=[stop])
    assert text_of(chunks) == text[: text.index(stop)]


async def test_logit_bias_forces_a_token(client: Any) -> None:
    answer = await client.post(CHAT, messages=HI, max_tokens=4, temperature=0, logit_bias={"65": 100})
    assert answer["choices"][0]["message"]["content"] == "AAAA"
    assert answer["choices"][0]["finish_reason"] == "length"


async def test_token_ids_are_reported(client: Any) -> None:
    asked = {"messages": HI, "max_tokens": 6, "seed": 4, "return_token_ids": True}
    whole = await client.post(CHAT, **asked)
    assert len(whole["choices"][0]["token_ids"]) == whole["usage"]["completion_tokens"]
    assert len(whole["prompt_token_ids"]) == whole["usage"]["prompt_tokens"]
    chunks = await client.stream(CHAT, **asked)
    streamed = [token for chunk in chunks for choice in chunk["choices"] for token in choice.get("token_ids", [])]
    assert streamed == whole["choices"][0]["token_ids"]
    again = await client.post(CHAT, messages=[], prompt_token_ids=whole["prompt_token_ids"], max_tokens=6, seed=4)
    assert again["choices"][0]["message"]["content"] == whole["choices"][0]["message"]["content"]


async def test_content_may_come_in_parts(client: Any) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    split = await client.post(CHAT, messages=[{"role": "user", "content": parts}], max_tokens=4, seed=1)
    joined = await client.post(CHAT, messages=[{"role": "user", "content": "a\nb"}], max_tokens=4, seed=1)
    assert split["choices"][0]["message"] == joined["choices"][0]["message"]


async def test_without_a_limit_the_answer_takes_the_room_that_is_left(client: Any) -> None:
    answer = await client.post(CHAT, messages=[{"role": "user", "content": "x" * 2000}], logit_bias={"65": 100})
    assert answer["usage"]["total_tokens"] == 2048
    assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": HI, "verbosity": "low"}, "verbosity"),
        ({"messages": HI, "audio": {}}, "audio"),
        ({"messages": HI, "use_beam_search": True}, "use_beam_search"),
        ({}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "bob", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "messages"),
        ({"messages": HI, "temperature": 1000}, "temperature"),
        ({"messages": HI, "temperature": "hot"}, "temperature"),
        ({"messages": HI, "top_p": -0.1}, "top_p"),
        ({"messages": HI, "n": 0}, "n"),
        ({"messages": HI, "top_logprobs": 2}, "top_logprobs"),
        ({"messages": HI, "logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"messages": HI, "max_tokens": 3000}, "max_tokens"),
        ({"messages": HI, "max_tokens": 3, "max_completion_tokens": 4}, "max_tokens"),
        ({"messages": HI, "max_tokens": -1}, "max_tokens"),
        ({"messages": HI, "logit_bias": {"a": 1}}, "logit_bias"),
        ({"messages": HI, "logit_bias": {"999999": 1}}, "logit_bias"),
        ({"messages": HI, "stop": [""]}, "stop"),
        ({"messages": HI, "seed": 2**64}, "seed"),
        ({"messages": HI, "stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": HI, "stream": True, "stream_options": 1}, "stream_options"),
        ({"messages": HI, "min_tokens": 5, "max_tokens": 4}, "min_tokens"),
        ({"messages": HI, "truncate_prompt_tokens": 0}, "truncate_prompt_tokens"),
        ({"messages": HI, "continue_final_message": True, "add_generation_prompt": True}, "add_generation_prompt"),
        ({"messages": HI, "tool_choice": "required"}, "tool_choice"),
        ({"messages": [{"role": "user", "content": "x" * 3000}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 2040}]}, "messages"),
        ({"messages": [{"role": "user", "content": "x" * 100_000}]}, "messages"),
        *(
            ({"messages": HI, "chat_template_kwargs": {name: 1}}, "chat_template_kwargs")
            for name in (
                "self",
                "messages",
                "tools",
                "tokenize",
                "add_generation_prompt",
                "template",
                "chat_template",
                "bos_token",
                "eos_token",
                "raise_exception",
                "range",
            )
        ),
        ({"messages": HI, "prompt_token_ids": [1]}, "prompt_token_ids"),
    ],
)
async def test_what_is_wrong_is_a_400_that_names_the_field(client: Any, body: dict[str, Any], param: str) -> None:
    error = (await client.post(CHAT, status=400, **body))["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] is not None
    assert error["param"].startswith(param)
    assert error["message"]


async def test_any_other_name_is_the_templates(client: Any) -> None:
    names = ("context", "loop", "kwargs", "args", "values", "cls", "", "a b", "\0")
    await client.post(CHAT, messages=HI, max_tokens=1, chat_template_kwargs={name: [1e300] for name in names})


async def test_depth_is_no_fault_of_the_servers(client: Any) -> None:
    for depth in (100, 300, 600, 900, 2000, 5000):
        deep = "[" * depth + "]" * depth
        hi = json.dumps(HI)
        body = f'{{"messages": {hi}, "max_tokens": 1, "chat_template_kwargs": {{"a": {deep}}}}}'
        answered = await client.http.post(CHAT, content=body)
        assert answered.status_code in ((200, 400) if depth < 900 else (400,)), answered.text
        call = {"id": "1", "function": {"name": "f", "arguments": deep}}
        messages = [*HI, {"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "1"}]
        answered = await client.http.post(CHAT, json={"messages": messages, "max_tokens": 1})
        assert answered.status_code in (200, 400), answered.text


async def test_an_unknown_model_is_a_404(client: Any) -> None:
    error = (await client.post(CHAT, status=404, messages=HI, model="gpt-9"))["error"]
    assert error["param"] == "model"
    assert error["code"] == "model_not_found"


@pytest.mark.parametrize(
    "part", [{"type": "image_url", "image_url": {"url": "data:,"}}, {"type": "input_audio"}, {"type": "file"}]
)
async def test_what_is_no_text_is_refused_with_what_to_do(client: Any, part: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "what is this?"}, part]}]
    error = (await client.post(CHAT, status=400, messages=messages))["error"]
    assert error["param"] == "messages[0].content[1]"
    assert part["type"] in error["message"]
    assert "send what it says as text" in error["message"]

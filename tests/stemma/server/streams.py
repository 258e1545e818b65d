"""Streams put together as a client does it, and whole answers in the same shape: equal, whatever was asked for."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import from_json

CHAT, COMPLETIONS, RESPONSES, GENERATE = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/generate"
MESSAGES = "/v1/messages"


async def both(client: Any, path: str, body: dict[str, Any]) -> tuple[Any, Any]:
    """The answer whole, and the answer streamed, in one shape."""
    extra = {"stream_options": {"include_usage": True}} if path in (CHAT, COMPLETIONS) else {}
    whole = await client.post(path, **body)
    response = await client.http.post(path, json={**body, **extra, "stream": True})
    assert response.status_code == 200, response.text
    lines = [line for block in response.text.split("\n\n") for line in block.split("\n")]
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: ") and line != "data: [DONE]"]
    assert response.text.endswith("\n\ndata: [DONE]\n\n") == (path not in (RESPONSES, MESSAGES))
    shapes = {CHAT: (_chat, _chat_stream), COMPLETIONS: (_completion, _completion_stream),
              RESPONSES: (_response, _response_stream), GENERATE: (_native, _native_stream),
              MESSAGES: (_message, _message_stream)}  # fmt: skip
    of_whole, of_stream = shapes[path]
    return of_whole(whole), of_stream(events)


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    """What does not depend on what was cached."""
    stemma = usage["stemma"]
    names = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens")
    return {name: usage[name] for name in names if name in usage} | {
        name: stemma[name] for name in ("decoded_tokens", "jumped_tokens")
    }


def _scores(entries: Any) -> Any:
    """Log-probabilities rounded: what is cached may change their last digits."""
    if isinstance(entries, float):
        return round(entries, 2)
    if isinstance(entries, list):
        return [_scores(entry) for entry in entries]
    return {name: _scores(value) for name, value in entries.items()} if isinstance(entries, dict) else entries


def _call(call: dict[str, Any]) -> tuple[str, str]:
    assert call["id"]
    if call["type"] == "custom":
        return call["custom"]["name"], call["custom"]["input"]
    assert call["type"] == "function"
    return call["function"]["name"], call["function"]["arguments"]


def _chat(answer: dict[str, Any]) -> Any:
    choices = [
        {
            "content": choice["message"]["content"] or "",
            "thoughts": choice["message"].get("reasoning_content", ""),
            "calls": [_call(call) for call in choice["message"].get("tool_calls", ())],
            "logprobs": _scores(choice["logprobs"]["content"]) if choice["logprobs"] else [],
            "tokens": choice.get("token_ids", []),
            "finish": choice["finish_reason"],
        }
        for choice in answer["choices"]
    ]
    return choices, _usage(answer["usage"]), answer.get("prompt_token_ids")


def _chat_stream(chunks: list[dict[str, Any]]) -> Any:
    num_choices = 1 + max(choice["index"] for chunk in chunks for choice in chunk["choices"])
    choices: list[dict[str, Any]] = [
        {"content": "", "thoughts": "", "calls": [], "logprobs": [], "tokens": [], "finish": None}
        for _ in range(num_choices)
    ]
    for chunk in chunks:
        for choice in chunk["choices"]:
            made, delta = choices[choice["index"]], choice["delta"]
            assert made["finish"] is None, "nothing comes behind the end"
            made["content"] += delta.get("content") or ""
            made["thoughts"] += delta.get("reasoning_content", "")
            for part in delta.get("tool_calls", ()):
                if "id" in part:
                    assert part["index"] == len(made["calls"])
                    made["calls"].append(_call(part))
                else:
                    name, arguments = made["calls"][part["index"]]
                    more = part["custom"]["input"] if "custom" in part else part["function"]["arguments"]
                    made["calls"][part["index"]] = (name, arguments + more)
            made["logprobs"] += _scores(choice["logprobs"]["content"]) if choice["logprobs"] else []
            made["tokens"] += choice.get("token_ids", [])
            made["finish"] = choice["finish_reason"]
    return choices, _usage(chunks[-1]["usage"]), chunks[0].get("prompt_token_ids")


LISTS = ("tokens", "token_logprobs", "top_logprobs", "text_offset", "token_ids", "top_token_ids")


def _completion(answer: dict[str, Any]) -> Any:
    choices = [
        {
            "text": choice["text"],
            "logprobs": {name: _scores((choice["logprobs"] or {}).get(name, [])) for name in LISTS},
            "tokens": choice.get("token_ids", []),
            "prompt": choice.get("prompt_token_ids"),
            "jumped": choice.get("jumped"),
            "finish": choice["finish_reason"],
        }
        for choice in answer["choices"]
    ]
    return choices, _usage(answer["usage"])


def _completion_stream(chunks: list[dict[str, Any]]) -> Any:
    num_choices = 1 + max(choice["index"] for chunk in chunks for choice in chunk["choices"])
    choices: list[dict[str, Any]] = [
        {
            "text": "",
            "logprobs": {name: [] for name in LISTS},
            "tokens": [],
            "prompt": None,
            "jumped": None,
            "finish": None,
        }
        for _ in range(num_choices)
    ]
    for chunk in chunks:
        for choice in chunk["choices"]:
            made = choices[choice["index"]]
            assert made["finish"] is None, "nothing comes behind the end"
            made["text"] += choice["text"]
            for name in LISTS if choice["logprobs"] else ():
                made["logprobs"][name] += _scores(choice["logprobs"].get(name, []))
            made["tokens"] += choice.get("token_ids", [])
            made["prompt"] = choice.get("prompt_token_ids", made["prompt"])
            made["jumped"], made["finish"] = choice.get("jumped"), choice["finish_reason"]
            assert all(at <= len(made["text"]) for at in made["logprobs"]["text_offset"])
    return choices, _usage(chunks[-1]["usage"])


def _items(answer: dict[str, Any]) -> list[Any]:
    return [
        (item["type"], item["status"], item["name"], item.get("arguments", item.get("input")))
        if item["type"] in ("function_call", "custom_tool_call")
        else (item["type"], item["status"], item["content"][0]["text"], _scores(item["content"][0].get("logprobs", [])))
        for item in answer["output"]
    ]


def _response(answer: dict[str, Any]) -> Any:
    return _items(answer), answer["status"], answer["incomplete_details"], _usage(answer["usage"])


def _response_stream(events: list[dict[str, Any]]) -> Any:
    items: list[list[Any]] = []
    for event in events:
        match event["type"]:
            case "response.output_item.added":
                item = event["item"]
                items.append([item["type"], None, item.get("name", ""), "" if "name" in item else []])
            case "response.output_text.delta":
                items[event["output_index"]][2] += event["delta"]
                items[event["output_index"]][3] += _scores(event["logprobs"])
            case "response.reasoning_text.delta":
                items[event["output_index"]][2] += event["delta"]
            case "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta":
                items[event["output_index"]][3] += event["delta"]
            case "response.output_item.done":
                items[event["output_index"]][1] = event["item"]["status"]
    last = events[-1]["response"]
    assert events[-1]["type"] == f"response.{last['status']}"
    assert _items(last) == [tuple(item) for item in items]
    return _response(last)


def _native(answer: Any) -> Any:
    answers = answer if isinstance(answer, list) else [answer]
    names = ("finish_reason", "prompt_tokens", "completion_tokens", "output_token_logprobs", "output_top_logprobs",
             "input_token_logprobs", "output_token_logprobs_length")  # fmt: skip
    return [
        (each["text"], each["output_ids"], {name: _scores(each["meta_info"].get(name)) for name in names})
        for each in answers
    ]


def _native_stream(chunks: list[dict[str, Any]]) -> Any:
    last: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        index = chunk.get("index", 0)
        before = last.get(index, {"text": "", "output_ids": []})
        assert chunk["text"].startswith(before["text"])
        assert chunk["output_ids"][: len(before["output_ids"])] == before["output_ids"]
        last[index] = chunk
    return _native([last[index] for index in sorted(last)])


def _message(answer: dict[str, Any]) -> Any:
    blocks = [
        {name: value for name, value in block.items() if name != "id"} | {"has_id": "id" in block}
        for block in answer["content"]
    ]
    usage = answer["usage"]
    read = usage["input_tokens"] + usage["cache_creation_input_tokens"] + usage["cache_read_input_tokens"]
    said = usage["output_tokens"], usage["output_tokens_details"]
    return blocks, answer["stop_reason"], answer["stop_sequence"], read, said


def _message_stream(events: list[dict[str, Any]]) -> Any:
    """As Anthropic's own clients put it together."""
    begin, ping, *rest, last, stop = events
    assert (begin["type"], ping["type"]) == ("message_start", "ping")
    assert (last["type"], stop) == ("message_delta", {"type": "message_stop"})
    message, inputs, is_open = begin["message"], "", False
    assert (message["content"], message["stop_reason"]) == ([], None)
    for event in rest:
        match event["type"]:
            case "content_block_start":
                assert not is_open
                assert event["index"] == len(message["content"])
                message["content"].append(event["content_block"])
                is_open, inputs = True, ""
            case "content_block_stop":
                assert is_open
                is_open = False
                if message["content"][-1]["type"] == "tool_use" and inputs:
                    message["content"][-1]["input"] = from_json(inputs, allow_partial=True)
            case _:
                assert event["type"] == "content_block_delta"
                assert event["index"] == len(message["content"]) - 1
                for name, value in event["delta"].items():
                    if name == "partial_json":
                        inputs += value
                    elif name != "type":
                        message["content"][-1][name] += value
    assert not is_open
    assert message["usage"]["output_tokens"] == 0
    usage = {**message["usage"], **last["usage"]}
    return _message({**message, **last["delta"], "usage": usage})

"""The events of a response that has ended, made from what it says: for who asks later, with one delta a part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stemma.server.store.records import Value


def events_of(response: Value) -> list[Value]:
    """As if it were streamed now."""
    return [{"type": kind, "sequence_number": at, **value} for at, (kind, value) in enumerate(_events(response))]


def _events(response: Value) -> Iterator[tuple[str, Value]]:
    begun = {
        **response, "status": "in_progress", "output": [], "usage": None, "error": None, "incomplete_details": None,
        "completed_at": None,
    }  # fmt: skip
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    for place, item in enumerate(response["output"]):
        yield from _item(item, place)
    end = response["status"] if response["status"] in ("completed", "incomplete") else "failed"
    yield f"response.{end}", {"response": response}


def _item(item: Value, place: int) -> Iterator[tuple[str, Value]]:
    at = {"item_id": item["id"], "output_index": place}
    match item["type"]:
        case "function_call":
            yield "response.output_item.added", _placed({**item, "arguments": "", "status": "in_progress"}, place)
            told = item["arguments"]
            yield "response.function_call_arguments.delta", {**at, "delta": told}
            yield "response.function_call_arguments.done", {**at, "name": item["name"], "arguments": told}
        case "custom_tool_call":
            yield "response.output_item.added", _placed({**item, "input": "", "status": "in_progress"}, place)
            yield "response.custom_tool_call_input.delta", {**at, "delta": item["input"]}
            yield "response.custom_tool_call_input.done", {**at, "input": item["input"]}
        case "message" | "reasoning":
            yield "response.output_item.added", _placed({**item, "content": [], "status": "in_progress"}, place)
            for index, part in enumerate(item["content"]):
                yield from _part(part, {**at, "content_index": index})
        case _:
            yield "response.output_item.added", _placed(item, place)
    yield "response.output_item.done", _placed(item, place)


def _part(part: Value, at: dict[str, Any]) -> Iterator[tuple[str, Value]]:
    kind, text = part["type"], part["text"]
    scores = {"logprobs": part["logprobs"]} if kind == "output_text" else {}
    empty: Value = {"logprobs": []} if scores else {}
    yield "response.content_part.added", {**at, "part": {**part, "text": "", **empty}}
    yield f"response.{kind}.delta", {**at, "delta": text, **scores}
    yield f"response.{kind}.done", {**at, "text": text, **scores}
    yield "response.content_part.done", {**at, "part": part}


def _placed(item: Value, place: int) -> Value:
    return {"output_index": place, "item": item}

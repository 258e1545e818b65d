"""What an answer of the server says, in whichever of its forms: its texts, why they ended, what a stream adds up to."""

from __future__ import annotations

from typing import Any


def schema_of(sampling: dict[str, Any]) -> dict[str, Any] | None:
    if "json_schema" in sampling:
        return sampling["json_schema"]  # type: ignore[no-any-return]
    if "response_format" in sampling:
        return sampling["response_format"]["json_schema"]["schema"]  # type: ignore[no-any-return]
    return sampling.get("text", {}).get("format", {}).get("schema") if "input" in sampling else None


def texts_of(kind: str, said: Any) -> list[str]:
    if kind == "chat":
        return [message_text(choice["message"]) for choice in said["choices"]]
    if kind == "completions":
        return [choice["text"] for choice in said["choices"]]
    if kind == "responses":
        return [
            "".join(part["text"] for item in said["output"] if item["type"] == "message" for part in item["content"])
        ]
    return [each["text"] for each in (said if isinstance(said, list) else [said])]


def message_text(message: dict[str, Any]) -> str:
    calls = [call["function"] for call in message.get("tool_calls") or []]
    return (message.get("content") or "") + "".join(call["name"] + call["arguments"] for call in calls)


def reasons_of(kind: str, said: Any) -> list[Any]:
    if kind == "responses":
        return ["stop" if said["status"] == "completed" else "length"]
    if kind == "generate":
        return [each["meta_info"]["finish_reason"]["type"] for each in (said if isinstance(said, list) else [said])]
    return [choice["finish_reason"] for choice in said["choices"]]


def joined(kind: str, events: list[dict[str, Any]], n: int) -> list[str] | None:
    """The texts that a stream's deltas make; None if it does not say that it ended."""
    texts, num_ended = [""] * n, 0
    if kind == "responses":
        if not events or events[-1].get("type") not in ("response.completed", "response.incomplete"):
            return None
        return ["".join(each["delta"] for each in events if each["type"] == "response.output_text.delta")]
    for each in events:
        if kind == "generate":
            texts[each.get("index", 0)] = each["text"]
            num_ended += each["meta_info"]["finish_reason"] is not None
            continue
        for choice in each["choices"]:
            if kind == "completions":
                texts[choice["index"]] += choice["text"]
            else:
                texts[choice["index"]] += message_text(_asmessage_text(choice["delta"]))
            num_ended += choice["finish_reason"] is not None
    return texts if num_ended == n else None


def _asmessage_text(delta: dict[str, Any]) -> dict[str, Any]:
    calls = [{"function": {"name": "", "arguments": "", **call["function"]}} for call in delta.get("tool_calls") or []]
    return {"content": delta.get("content"), "tool_calls": calls}

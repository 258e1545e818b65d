"""Items of a conversation as they are kept and shown: with an id and a status, and contents in parts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from stemma.server.generation.reporting import new_id
from stemma.server.store.records import Value

PREFIXES = {
    "message": "msg_", "function_call": "fc_", "function_call_output": "fco_", "reasoning": "rs_",
    "custom_tool_call": "ctc_", "custom_tool_call_output": "ctco_",
}  # fmt: skip
WITH_STATUS = ("message", "function_call", "function_call_output")
ID = re.compile(r"[\w-]{1,64}", re.ASCII)


def is_reference(value: Value) -> bool:
    """Whether an item of the input stands for one that is kept. Its type may be left out."""
    kind = value.get("type")
    return kind == "item_reference" or (kind is None and "id" in value and not {"role", "content"} & value.keys())


def kept_items(given: str | Sequence[Value]) -> list[Value]:
    """The items of an input."""
    if isinstance(given, str):
        given = [{"role": "user", "content": given}]
    return [_kept(value) for value in given]


def _kept(value: Value) -> Value:
    kind = value.get("type") or "message"
    made = {name: field for name, field in value.items() if field is not None} | {"type": kind}
    name = made.get("id")
    if not (isinstance(name, str) and ID.fullmatch(name)):
        made["id"] = new_id(PREFIXES.get(kind, "item_"))
    if kind in WITH_STATUS:
        made.setdefault("status", "completed")
    if kind == "message":
        made["content"] = _parts(made.get("content") or "", made.get("role") == "assistant")
    if kind == "reasoning":
        made.setdefault("summary", [])
    return made


def _parts(content: str | Sequence[Value], is_answer: bool) -> list[Value]:
    kind = "output_text" if is_answer else "input_text"
    extra: Value = {"annotations": [], "logprobs": []} if is_answer else {}
    if isinstance(content, str):
        return [{"type": kind, "text": content, **extra}]
    plain = ("text", "input_text", "output_text")
    parts: list[Value] = [dict(part) for part in content]
    return [{**extra, **part, "type": kind} if part.get("type") in plain else part for part in parts]

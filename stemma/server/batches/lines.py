"""The lines of a batch: read, put into the order in which they are answered, and what is written of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from stemma.server.batches.wire import LineRequest
from stemma.server.generation.reporting import new_id
from stemma.server.http.decoding import BodyReader
from stemma.server.http.errors import ApiError
from stemma.server.http.inside import Answered

KEY_BYTES = 2048
PREFIX = ("model", "tools", "instructions", "conversation", "previous_response_id", "messages", "prompt", "input")
DONE, FAILED = b"+", b"-"
LOWEST = -(2**30)
"""The priority of a line: live requests go first."""


class Line(NamedTuple):
    """One request. place: its number in the file, from 1. key: like texts are next to each other by it. wrong: why it
    is not asked at all."""

    place: int
    key: bytes
    custom_id: str | None = None
    body: dict[str, Any] | None = None
    wrong: ApiError | None = None


def lines_of(data: bytes, endpoint: str) -> list[Line]:
    """The requests of a file, in its order; empty lines are none."""
    found, ids = list[Line](), set[str]()
    for place, text in enumerate(data.split(b"\n"), start=1):
        if not text.strip():
            continue
        line = _line(text, place, endpoint)
        if line.custom_id in ids:
            line = _wrong(line.place, f"the custom_id {line.custom_id!r} was given before", "duplicate_custom_id", line)
        elif line.custom_id is not None:
            ids.add(line.custom_id)
        found.append(line)
    return found


def in_order(lines: Sequence[Line]) -> list[Line]:
    """Those that begin alike one after the other, so that a beginning is computed once."""
    return sorted(lines, key=lambda line: line.key)


def _line(text: bytes, place: int, endpoint: str) -> Line:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return _wrong(place, f"it is no JSON: {error}", "invalid_json_line")
    try:
        request = BodyReader().convert(value, LineRequest)
    except ApiError as error:
        name = value.get("custom_id") if isinstance(value, dict) else None
        known = Line(place, b"", name if isinstance(name, str) else None)
        return _wrong(place, error.message, error.code or "invalid_request", known)
    line = Line(place, _key(request.body), request.custom_id, request.body)
    if request.method != "POST":
        return _wrong(place, f"the method is POST; it is {request.method[:20]!r}", "invalid_method", line)
    if request.url != endpoint:
        return _wrong(
            place, f"the url is that of the batch, {endpoint}; it is {request.url[:80]!r}", "invalid_url", line
        )
    for name, instead in (("stream", "a batch is answered whole"), ("background", "a batch is in the background")):
        if request.body.get(name):
            return _wrong(place, f"{name}: {instead}; leave it out", f"{name}_unsupported", line)
    return line


def _key(body: dict[str, Any]) -> bytes:
    return msgspec.json.encode([body.get(name) for name in PREFIX])[:KEY_BYTES]


def _wrong(place: int, message: str, code: str, line: Line | None = None) -> Line:
    return Line(
        place, b"", None if line is None else line.custom_id, None, ApiError(400, f"line {place}: {message}", code=code)
    )


def answered(line: Line, answer: Answered) -> bytes:
    """What is written of a line that was answered, an error or not; its first byte says which."""
    mark = DONE if answer.status < 400 else FAILED
    response = {"status_code": answer.status, "request_id": new_id("req_"), "body": msgspec.Raw(answer.body)}
    return mark + _written(line, response, None)


def not_answered(line: Line, code: str, message: str) -> bytes:
    """What is written of a line that nobody was asked."""
    return FAILED + _written(line, None, {"code": code, "message": message})


def _written(line: Line, response: Any, error: Any) -> bytes:
    value = {"id": new_id("batch_req_"), "custom_id": line.custom_id, "response": response, "error": error}
    return msgspec.json.encode(value)


def with_usage(batch: dict[str, Any], answer: Answered | None) -> dict[str, Any]:
    """A batch's counts and usage with one more line. None: a line that was not asked."""
    counts = dict(batch["request_counts"])
    is_done = answer is not None and answer.status < 400
    counts["completed" if is_done else "failed"] += 1
    made = {**batch, "request_counts": counts}
    if answer is None or not is_done:
        return made
    body = msgspec.json.decode(answer.body)
    used = body.get("usage") or {}
    told, total = _usage(used), batch["usage"]
    made["usage"] = {
        name: {part: total[name][part] + value[part] for part in value} if isinstance(value, dict)
        else total[name] + value for name, value in told.items()
    }  # fmt: skip
    made["model"] = batch["model"] or body.get("model")
    return made


def _usage(used: dict[str, Any]) -> dict[str, Any]:
    """The usage of an answer in the words of responses, whichever it has."""
    before = used.get("input_tokens_details") or used.get("prompt_tokens_details") or {}
    after = used.get("output_tokens_details") or used.get("completion_tokens_details") or {}
    return {
        "input_tokens": used.get("input_tokens", used.get("prompt_tokens", 0)),
        "input_tokens_details": {"cached_tokens": before.get("cached_tokens", 0)},
        "output_tokens": used.get("output_tokens", used.get("completion_tokens", 0)),
        "output_tokens_details": {"reasoning_tokens": after.get("reasoning_tokens", 0)},
        "total_tokens": used.get("total_tokens", 0),
    }


NO_USAGE = _usage({})

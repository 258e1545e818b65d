"""Where one request's time went, from the line that a server's log has of it (`stemma serve --log-format json`)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from stemma.doctor.diagnosis import Answer, Figure
from stemma.runtime.errors import InvalidRequest


class Seconds(msgspec.Struct):
    """Of one request."""

    request: float
    queue: float
    first_token: float
    total: float
    prefill: dict[str, float]
    decode: dict[str, float]


class Told(msgspec.Struct):
    """What a line must have."""

    request_id: str
    seconds: Seconds
    tokens: dict[str, int]


def find(lines: Iterable[str], request_id: str) -> dict[str, Any]:
    """The last line of this id. Raises InvalidRequest."""
    found: dict[str, Any] | None = None
    for line in lines:
        if request_id in line:
            try:
                told = json.loads(line)
            except ValueError:
                continue
            if isinstance(told, dict) and request_id in (told.get("request_id"), told.get("answer_id")):
                found = told
    if found is None:
        raise InvalidRequest(f"the log has no request {request_id!r}: its lines must be JSON", "request")
    seconds = found.get("seconds")
    if isinstance(seconds, dict) and "prefill" not in seconds:
        raise InvalidRequest(f"request {request_id!r} has no times: it gave no completion", "request")
    try:
        msgspec.convert(found, Told)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"what the log has of request {request_id!r} is another version's ({error}): ask its own `stemma doctor`",
            "request",
        ) from error
    return found


def explain(told: dict[str, Any]) -> Answer:
    """The stages in their order, and what each was spent on."""
    seconds, tokens = told["seconds"], told["tokens"]
    before = max(seconds["request"] - seconds["total"], 0.0)
    stages = {
        "before the engine (reading, compiling a form)": before,
        "queue": seconds["queue"],
        "prefill": seconds["first_token"] - seconds["queue"],
        "decode": seconds["total"] - seconds["first_token"],
    }
    figures = [Figure(name, taken, "seconds") for name, taken in stages.items()]
    for stage in ("prefill", "decode"):
        figures += [Figure(f"{stage}: {phase}", taken, "seconds") for phase, taken in seconds[stage].items() if taken]
    figures += [Figure(f"{name} tokens", count, "tokens") for name, count in tokens.items() if count]
    longest = max(stages, key=lambda name: stages[name])
    whole = sum(stages.values()) or 1e-12
    return Answer(
        f"Where did the time of {told['request_id']} go?", f"{longest}, {stages[longest] / whole:.0%}", figures,
        _changes(longest, seconds, tokens),
    )  # fmt: skip


def _changes(longest: str, seconds: dict[str, Any], tokens: dict[str, int]) -> list[str]:
    changes = []
    if longest == "queue":
        changes.append("others ran: raise max_running while memory lasts, give it a priority, or add a replica")
    if longest == "prefill" and tokens.get("cached", 0) < tokens.get("prefilled", 0):
        changes.append(
            f"{tokens['prefilled']} prompt tokens were not cached: `stemma cache explain` says where the prompt parts"
        )
    masks = sum(seconds[stage].get("masks", 0.0) for stage in ("prefill", "decode"))
    if masks > 0.2 * seconds["total"]:
        changes.append(
            "masks took a fifth or more: a schema seen for the first time, or a large one (`stemma schema lint`)"
        )
    if longest == "decode" and not changes:
        decoded, jumped = tokens.get("decoded", 0), tokens.get("jumped", 0)
        changes.append(f"{decoded} tokens were asked of the model one by one, {jumped} were jumped over")
    return changes

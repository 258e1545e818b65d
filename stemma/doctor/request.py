"""Where one request's time went, from the line that a server's log has of it (`stemma serve --log-format json`)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from stemma.doctor.diagnosis import Answer, Figure
from stemma.runtime.errors import InvalidRequest


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
    if "prefill" not in found.get("seconds", {}):
        raise InvalidRequest(f"request {request_id!r} has no times: it gave no completion", "request")
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
    if longest == "prefill" and tokens["cached"] < tokens["prefilled"]:
        changes.append(
            f"{tokens['prefilled']} prompt tokens were not cached: `stemma cache explain` says where the prompt parts"
        )
    masks = seconds["prefill"]["masks"] + seconds["decode"]["masks"]
    if masks > 0.2 * seconds["total"]:
        changes.append(
            "masks took a fifth or more: a schema seen for the first time, or a large one (`stemma schema lint`)"
        )
    if longest == "decode" and not changes:
        changes.append(
            f"{tokens['decoded']} tokens were asked of the model one by one, {tokens['jumped']} were jumped over"
        )
    return changes

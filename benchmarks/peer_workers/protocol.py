"""What every worker of `peers.py` does: read waves of requests, run each wave at once, answer with the outputs.

A request: {"id", "parent": id or null, "append": token ids, "max": new tokens} continues all tokens of its parent; or
{"id", "text", "schema", "max"} asks for JSON. A wave's answer: {"seconds", "outputs": {id: token ids or text}, "first":
{id: seconds to its first token}}, the last empty where a worker does not tell. Standard library only: workers run in
environments of their own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

Request = dict[str, Any]


class Timed(NamedTuple):
    """What each request completed to, and the seconds until its first token."""

    outputs: list[Any]
    first: list[float]


Run = Callable[[list[Request], list[list[int]]], "list[Any] | Timed"]


def serve(run: Run) -> None:
    """run(requests, token ids of their prompts) -> token ids (or text, for a schema) of each completion."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print goes to the log
    print(json.dumps({"ready": True}), file=answers, flush=True)
    history: dict[str, list[int]] = {}
    for line in sys.stdin:
        wave: list[Request] = json.loads(line)
        prompts = [history.get(r.get("parent") or "", []) + r.get("append", []) for r in wave]
        started = time.perf_counter()
        done = run(wave, prompts)
        seconds = time.perf_counter() - started
        outputs, first = done if isinstance(done, Timed) else (done, [])
        for request, prompt, output in zip(wave, prompts, outputs, strict=True):
            if "schema" not in request:
                history[request["id"]] = prompt + list(output)
        ids = [request["id"] for request in wave]
        answer = {
            "seconds": seconds,
            "outputs": dict(zip(ids, outputs, strict=True)),
            "first": dict(zip(ids, first, strict=False)),
        }
        print(json.dumps(answer), file=answers, flush=True)

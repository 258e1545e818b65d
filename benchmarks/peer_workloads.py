"""The seven workloads of `peers.py` as waves of requests (see peer_workers/protocol.py), and what an answer must be.

Prompts are token ids, new ones for each seed, so that caches are cold; W6 is text. All is greedy, of equal length but
for W6, whose records end by themselves.
"""

from __future__ import annotations

import json
import random
from typing import Any

Wave = list[dict[str, Any]]

RECORD = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 30},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "city": {"type": "string", "maxLength": 30},
        "role": {"enum": ["engineer", "teacher", "doctor", "artist", "farmer"]},
        "languages": {"type": "array", "items": {"type": "string", "maxLength": 15}, "minItems": 1, "maxItems": 3},
        "remote": {"type": "boolean"},
    },
    "required": ["name", "age", "city", "role", "languages", "remote"],
    "additionalProperties": False,
}


class Workloads:
    """The waves of each workload. `label` keeps the ids of rounds apart."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.label = str(seed)

    def ids(self, count: int) -> list[int]:
        return [self.random.randrange(1000, 40_000) for _ in range(count)]

    def request(self, name: str, append: list[int], new: int, parent: str | None = None) -> dict[str, Any]:
        parent = None if parent is None else f"{self.label}/{parent}"
        return {"id": f"{self.label}/{name}", "parent": parent, "append": append, "max": new}

    def w1(self) -> list[Wave]:
        return [[self.request("first", self.ids(128), 1)], [self.request("all", self.ids(128), 128)]]

    def w2(self) -> list[Wave]:
        return [[self.request(f"{i}", self.ids(128), 64) for i in range(16)]]

    def w3(self) -> list[Wave]:
        prefix = self.ids(1500)
        return [[self.request(f"{i}", prefix + self.ids(self.random.randrange(35, 45)), 16) for i in range(32)]]

    def w4(self) -> list[Wave]:
        system = self.ids(400)
        first = [self.request(f"{chat}.0", system + self.ids(30), 32) for chat in range(4)]
        later = [
            [self.request(f"{chat}.{turn}", self.ids(30), 32, f"{chat}.{turn - 1}") for chat in range(4)]
            for turn in range(1, 5)
        ]
        return [first, *later]

    def w5(self) -> list[Wave]:
        context = self.ids(1000)
        waves = [[self.request(f"{i}", context + self.ids(8), 32) for i in range(3)]]
        names = ["0", "1", "2"]
        for _ in range(2):
            waves.append([self.request(f"{name}{i}", self.ids(8), 32, name) for name in names for i in range(3)])
            names = [f"{name}{i}" for name in names for i in range(3)]
        return waves

    def w6(self) -> list[Wave]:
        rule = f"You keep register {self.label} of a village. " + "Write each record as JSON with all fields. " * 28
        people = [f"{rule}\nPerson {i}: write the record.\n" for i in range(16)]
        return [
            [{"id": f"{self.label}/{i}", "text": text, "schema": RECORD, "max": 160} for i, text in enumerate(people)]
        ]

    def w7(self) -> list[Wave]:
        prompt = self.ids(2000)
        return [[self.request("cold", prompt, 1)], [self.request("hit", prompt, 1)]]


def check(workload: str, wave: Wave, outputs: dict[str, Any]) -> None:
    """Raises ValueError, with what is wrong, if an answer is not what was asked for."""
    if workload == "W6":
        invalid = [output for output in outputs.values() if not _is_record(output)]
        if invalid:
            raise ValueError(f"{len(invalid)} of {len(wave)} records are not valid, such as {invalid[0]!r:.200}")
        return
    for request in wave:
        count = len(outputs[request["id"]])
        if count != request["max"]:
            raise ValueError(f"{workload}: {count} tokens instead of {request['max']}")


def _is_record(output: str) -> bool:
    try:
        record = json.loads(output)
    except json.JSONDecodeError:
        return False
    return (
        isinstance(record, dict)
        and set(record) == set(RECORD["properties"])  # type: ignore[call-overload]
        and all(isinstance(record[name], str) and len(record[name]) <= 30 for name in ("name", "city"))
        and isinstance(record["age"], int)
        and 0 <= record["age"] <= 120
        and record["role"] in RECORD["properties"]["role"]["enum"]  # type: ignore[index]
        and 1 <= len(record["languages"]) <= 3
        and isinstance(record["remote"], bool)
    )

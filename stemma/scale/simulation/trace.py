"""Recorded traffic, one JSON object a line, in the forms of Mooncake and of Bailian; read from files, never fetched.

    Mooncake   {"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [of blocks of 512 tokens]}
    Bailian    {"chat_id": i, "parent_chat_id": i or -1, "timestamp": s, "input_length": n, "output_length": n,
                "type": "text", "turn": n, "hash_ids": [of blocks of 16 tokens]}

Equal ids mean equal prefixes. (github.com/kvcache-ai/Mooncake, FAST25-release/traces; github.com/alibaba-edu/
qwen-bailian-usagetraces-anon.) A request's output has no ids: they are those that the next turn of its chat has there.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from stemma.runtime.errors import InvalidRequest
from stemma.scale.fleet import hashes_of

MOONCAKE_BLOCK = 512
BAILIAN_BLOCK = 16
NOBODY = -1


class Record(NamedTuple):
    """A line of a trace. chat, parent: NOBODY where there is none, or the trace does not say."""

    at: float  # seconds from the first
    input_len: int
    output_len: int
    ids: tuple[int, ...]
    chat: int
    parent: int
    kind: str
    turn: int


@dataclass(frozen=True, slots=True)
class Request:
    """What arrives. A token of the simulated caches is a block of the trace: `prompt` and `output` are blocks.

    hashes: the event hashes of `prompt`. input_len, output_len: in real tokens.
    """

    number: int
    at: float
    prompt: array[int]
    output: array[int]
    hashes: list[bytes]
    input_len: int
    output_len: int
    session: str | None


@dataclass(frozen=True, slots=True)
class Trace:
    """Requests in the order of their arrival. block_len: real tokens of a block. endless_hit: share of all tokens of
    prompts that one cache which never evicts would have found."""

    name: str
    block_len: int
    requests: list[Request]
    endless_hit: float


def read_records(path: Path) -> tuple[list[Record], int]:
    """The records of a file, and the tokens of their blocks. Raises InvalidRequest for what is neither form."""
    records: list[Record] = []
    block_len = 0
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                record, size = _record(line, f"{path.name}, line {number}")
                if block_len not in (0, size):
                    raise InvalidRequest(f"{path.name}, line {number}: of another form than the lines before", "trace")
                block_len = size
                records.append(record)
    if not records:
        raise InvalidRequest(f"{path.name} has no requests", "trace")
    records.sort(key=lambda record: record.at)
    first = records[0].at
    return [record._replace(at=record.at - first) for record in records], block_len


def _record(line: str, where: str) -> tuple[Record, int]:
    try:
        fields: dict[str, Any] = json.loads(line)
        ids = tuple(int(block) for block in fields["hash_ids"])
        lengths = int(fields["input_length"]), int(fields["output_length"])
        at = float(fields["timestamp"])
        if "chat_id" in fields:
            chat, parent, turn = int(fields["chat_id"]), int(fields["parent_chat_id"]), int(fields["turn"])
            record = Record(at, *lengths, ids, chat, parent, str(fields["type"]), turn)
            size = BAILIAN_BLOCK
        else:
            record, size = Record(at / 1000, *lengths, ids, NOBODY, NOBODY, "", 0), MOONCAKE_BLOCK
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(f"{where}: no request of Mooncake's or Bailian's form ({error!r})", "trace") from error
    if record.input_len < 1 or record.output_len < 0 or not at >= 0 or len(ids) > -(-record.input_len // size):
        raise InvalidRequest(f"{where}: lengths, time and number of blocks do not go together", "trace")
    return record, size


def write_records(path: Path, records: Iterable[Record]) -> None:
    """In Bailian's form."""
    with path.open("w", encoding="utf-8") as file:
        for record in records:
            fields = {
                "chat_id": record.chat, "parent_chat_id": record.parent, "timestamp": round(record.at, 3),
                "input_length": record.input_len, "output_length": record.output_len, "type": record.kind,
                "turn": record.turn, "hash_ids": record.ids,
            }  # fmt: skip
            file.write(json.dumps(fields) + "\n")


def make_trace(name: str, records: Sequence[Record], block_len: int, *, coarser: int = 1, speed: float = 1.0) -> Trace:
    """Ready for a simulation. coarser: so many of the trace's blocks are one. speed: how much faster they arrive."""
    if coarser < 1 or not speed > 0:
        raise InvalidRequest("coarser must be at least 1 and speed more than 0", "coarser" if coarser < 1 else "speed")
    size = block_len * coarser
    numbers: dict[int, int] = {}
    outputs = _outputs(records, block_len)
    sessions = _sessions(records)
    requests: list[Request] = []
    fresh = -1
    for place, record in enumerate(records):
        # A chain's id stands for all before it: every `coarser`th id names a larger block.
        full = min(len(record.ids), record.input_len // block_len)
        prompt = _numbered(record.ids[coarser - 1 : full : coarser], numbers)
        num_output = (record.input_len + record.output_len) // size - len(prompt)
        text = record.ids[:full] + outputs[place]
        output = _numbered(text[coarser * (len(prompt) + 1) - 1 :: coarser][:num_output], numbers)
        while len(output) < num_output:  # nobody goes on from there
            output.append(fresh)
            fresh -= 1
        hashes = hashes_of(prompt, "", 1)
        at = record.at / speed
        requests.append(
            Request(place, at, prompt, output, hashes, record.input_len, record.output_len, sessions[place])
        )
    return Trace(name, size, requests, _endless_hit(requests, size))


def _numbered(ids: Sequence[int], numbers: dict[int, int]) -> array[int]:
    return array("i", [numbers.setdefault(block, len(numbers)) for block in ids])


def _outputs(records: Sequence[Record], block_len: int) -> list[tuple[int, ...]]:
    """Of each record the ids of its full blocks behind those of its prompt, as far as the next turn has them."""
    places = {record.chat: place for place, record in enumerate(records) if record.chat != NOBODY}
    found: list[tuple[int, ...]] = [()] * len(records)
    for record in records:
        place = places.get(record.parent) if record.parent != NOBODY else None
        if place is not None and not found[place]:
            before = records[place]
            full = min(len(before.ids), before.input_len // block_len)
            end = (before.input_len + before.output_len) // block_len
            if record.ids[:full] == before.ids[:full]:
                found[place] = record.ids[full : min(end, record.input_len // block_len)]
    return found


def _sessions(records: Sequence[Record]) -> list[str | None]:
    """The first chat of those that continue each other."""
    roots: dict[int, int] = {}
    names: list[str | None] = []
    for record in records:
        if record.chat == NOBODY:
            names.append(None)
            continue
        roots[record.chat] = roots.get(record.parent, record.chat)
        names.append(str(roots[record.chat]))
    return names


def _endless_hit(requests: Sequence[Request], block_len: int) -> float:
    seen: set[int] = set()
    hit = 0
    for request in requests:
        depth = 0
        while depth < len(request.prompt) and request.prompt[depth] in seen:
            depth += 1
        hit += min(depth * block_len, request.input_len - 1)
        seen.update(request.prompt, request.output)
    return hit / sum(request.input_len for request in requests)

"""Traces of real traffic as sessions. Three forms, of which each line of a file is one request:

    Mooncake, milliseconds   {"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 7]}
    Bailian, seconds         {"timestamp": 61.4, "input_length": 9, "output_length": 80, "hash_ids": [3], "chat_id": 7}
    texts, seconds           {"prompt": "...", "max_tokens": 64, "timestamp": 1.5}

Of the first two there are lengths only. An id in `hash_ids` stands for a block of tokens, 512 in Mooncake's and 16 in
Bailian's: blocks of equal ids become equal texts, so that what is shared in the trace is shared here.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stemma.bench.workloads import Session, Texts, Turn
from stemma.runtime.errors import InvalidRequest

BLOCKS = (512, 16)
"""Tokens of a block: the first that the line's lengths agree with."""


def read_trace(path: Path, tokens_a_word: float, count: int | None = None, salt: int = 0) -> list[Session]:
    """Sessions of one turn each, by time from the first. salt: another one makes other texts of the same ids.

    Raises InvalidRequest for a line that is none of these."""
    sessions: list[Session] = []
    for number, line in enumerate(_lines(path), start=1):
        if count is not None and len(sessions) == count:
            break
        try:
            sessions.append(_session(json.loads(line), tokens_a_word, salt))
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise InvalidRequest(
                f"line {number} of {path} is no request of a trace ({error!r}): it needs a prompt, or input_length, "
                "output_length and hash_ids", "trace",
            ) from error  # fmt: skip
    if not sessions:
        raise InvalidRequest(f"{path} has no requests", "trace")
    first = min((session.at for session in sessions if session.at is not None), default=0.0)
    moved = [
        Session(session.turns, session.system, None if session.at is None else session.at - first)
        for session in sessions
    ]
    return sorted(moved, key=lambda session: session.at or 0.0)


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from (line for line in file if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}", "trace") from error


def _session(entry: Mapping[str, Any], tokens_a_word: float, salt: int) -> Session:
    if "prompt" in entry:
        prompt = entry["prompt"]
        if not isinstance(prompt, str):
            raise TypeError("the prompt is no text")
        at = entry.get("timestamp")
        max_tokens = int(entry.get("max_tokens", 128))
        if max_tokens < 1:
            raise ValueError(f"max_tokens is {max_tokens}")
        return Session([Turn(prompt, max_tokens)], at=None if at is None else _time(at))
    text = _text(entry["hash_ids"], int(entry["input_length"]), tokens_a_word, salt)
    seconds = _time(entry["timestamp"]) / (1 if "chat_id" in entry else 1000)
    return Session([Turn(text, max(1, int(entry["output_length"])))], at=seconds)


def _time(at: Any) -> float:
    seconds = float(at)
    if not math.isfinite(seconds):
        raise ValueError(f"the timestamp is {seconds}")
    return seconds


def _text(ids: Sequence[int], num_tokens: int, tokens_a_word: float, salt: int) -> str:
    """Each block's words are its id's own; the last block may be a part."""
    size = next((size for size in BLOCKS if (len(ids) - 1) * size < num_tokens <= len(ids) * size), None)
    if size is None:
        raise ValueError(f"{len(ids)} blocks cannot hold {num_tokens} tokens")
    lengths = [size] * (len(ids) - 1) + [num_tokens - size * (len(ids) - 1)]
    return " ".join(
        Texts(random.Random(f"{salt} {block}"), tokens_a_word).of(length)
        for block, length in zip(ids, lengths, strict=True)
    )

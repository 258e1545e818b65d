"""How a cache's events are published."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stemma.runtime.core.checking import check_fields
from stemma.runtime.errors import InvalidRequest
from stemma.scale.events.forms import Form, Hashes

TCP = re.compile(r"tcp://(?P<host>\[[^\]]+\]|[^:\[\]]+):(?P<port>\d+)")
HERE = re.compile(r"\*|0\.0\.0\.0|\[::\]|\[::1\]|127(\.\d+){3}|localhost")


@dataclass(frozen=True, slots=True)
class EventOptions:
    """What a publisher does, by vLLM's defaults.

    endpoint: `tcp://*:5557` and the like are listened at, as is this machine's own loopback; any other host is
        connected to: a reader there listens.
    replay: where readers ask for what they missed; always listened at.
    topic: the first frame of each message; llm-d wants `kv@ADDRESS@MODEL`.
    form: maps, as vLLM sends them today, or arrays, as it did before 2026's summer.
    hashes: int are 64 bits, which all readers take; bytes are whole.
    kept: messages that are kept to be asked for again.
    marks: models with windows or states also tell where one can go on, in events that others skip.
    rank: of this replica among those that serve as one.
    max_queued: events that may wait to be sent. With more, all is told anew: memory is bounded, nobody is misled.
    """

    endpoint: str
    replay: str | None = None
    topic: str = ""
    form: Form = "maps"
    hashes: Hashes = "int"
    kept: int = 10_000
    marks: bool = False
    rank: int = 0
    max_queued: int = 100_000

    def __post_init__(self) -> None:
        check_fields(self)
        check_endpoint(self.endpoint, "kv_events")
        if self.replay is not None:
            check_endpoint(self.replay, "kv_events_replay")
        for name in ("kept", "max_queued"):
            if getattr(self, name) < 1:
                raise InvalidRequest(f"{name} must be at least 1", f"kv_events_{name}")


def check_endpoint(endpoint: str, param: str) -> None:
    """Raises InvalidRequest for what is no endpoint of ZeroMQ's that two processes can share."""
    found = TCP.fullmatch(endpoint)
    if endpoint.startswith(("ipc://", "inproc://")) or (found is not None and int(found["port"]) < 2**16):
        return
    raise InvalidRequest(f"{param} is an endpoint such as tcp://*:5557 or ipc:///run/kv; not {endpoint!r}", param)


def is_listened_at(endpoint: str) -> bool:
    """Whether an endpoint is this process's own, to which others connect."""
    found = TCP.fullmatch(endpoint)
    return found is None or HERE.fullmatch(found["host"]) is not None

"""`stemma doctor`: of a running server, of its metrics in a file, or of one request in its log."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from stemma.commands.given import HERE, Json, Key, Url
from stemma.commands.planning import a_second
from stemma.runtime.errors import InvalidRequest
from stemma.terminal.options import takes
from stemma.terminal.remote import ask_text

if TYPE_CHECKING:
    from stemma.doctor.reading import Reading
    from stemma.runtime.planning import Rates


MAX_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """What is looked at.

    metrics: a file with a server's /metrics, instead of a running server.
    before: an earlier file, to look at what was counted since.
    seconds: watch a running server for so long; 0 looks at its whole life.
    measure: measure what this machine can do, which takes a second and disturbs a server that runs here.
    machine_bandwidth: GB/s at which the server's machine reads weights.
    machine_compute: its billions of operations a second.
    log: a server's log of JSON lines, for the request in question.
    request: where the time of this request went, by its id.
    """

    metrics: Path | None = None
    before: Path | None = None
    seconds: float = 0.0
    measure: bool = False
    machine_bandwidth: float | None = None
    machine_compute: float | None = None
    log: Path | None = None
    request: str | None = None

    def __post_init__(self) -> None:
        if (self.log is None) != (self.request is None):
            raise InvalidRequest("request and log go together: the log has the request's times", "request")
        if self.log is not None and (self.metrics or self.before or self.seconds or self.measure):
            raise InvalidRequest("a log tells of one request, and metrics of all: give one of them", "log")
        if not 0 <= self.seconds <= MAX_SECONDS:
            raise InvalidRequest(f"seconds must be between 0 and {MAX_SECONDS:g}", "seconds")
        if self.seconds and (self.metrics or self.before):
            raise InvalidRequest("a file cannot be watched: give an earlier one as before, or seconds alone", "seconds")


@takes(DoctorOptions)
def doctor(url: Url = HERE, key: Key = None, as_json: Json = False, **options: Any) -> None:
    """Prefill or decode? Bandwidth bound? What is the KV doing? Who waits? With figures, and what to change."""
    from stemma.doctor.diagnosis import diagnose
    from stemma.doctor.request import explain, find
    from stemma.terminal.doctor import show

    asked = DoctorOptions(**options)
    if asked.log is not None and asked.request is not None:
        answers = [explain(find(_text(asked.log, "log").splitlines(), asked.request))]
    else:
        reading = _reading(url, key, asked)
        answers = diagnose(reading, _rates(reading, asked))
    if as_json:
        print(json.dumps([answer.as_json() for answer in answers]))
    else:
        Console().print(show(answers))


def _reading(url: str, key: str | None, asked: DoctorOptions) -> Reading:
    from stemma.doctor.reading import read

    now = read(_text(asked.metrics, "metrics") if asked.metrics is not None else ask_text(url, "/metrics", key))
    if asked.before is not None:
        return now.since(read(_text(asked.before, "before")))
    if asked.seconds <= 0:
        return now
    time.sleep(asked.seconds)
    return read(ask_text(url, "/metrics", key)).since(now)


def _rates(reading: Reading, asked: DoctorOptions) -> Rates | None:
    bandwidth, compute = a_second(asked.machine_bandwidth), a_second(asked.machine_compute)
    if not asked.measure and (bandwidth is None or compute is None):
        return None
    from stemma.kernels.select import select_ops
    from stemma.runtime.planning import given_rates

    return given_rates(select_ops("cpu", "auto"), reading.label("stemma_model_bytes", "storage"), bandwidth, compute)


def _text(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}", name) from error

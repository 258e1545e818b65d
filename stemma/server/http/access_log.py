"""One line for each request, for people or as JSON. Lines have names, numbers and times, never a text of a request."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from stemma.runtime.core.stopwatch import Phases
from stemma.server.http.record import RequestRecord

log = logging.getLogger("stemma.access")


def write(record: RequestRecord) -> None:
    """Log a request that has ended."""
    if log.isEnabledFor(logging.INFO):
        told = fields_of(record)
        usage = (
            f" {record.usage.cached_tokens} cached {record.usage.prefilled_tokens} prefilled" if told["tokens"] else ""
        )
        line = (
            f"{record.method} {record.path} {record.status or 'gone'} {record.seconds * 1000:.0f} ms{usage} {record.id}"
        )
        log.info("%s", line, extra={"told": told})


def fields_of(record: RequestRecord) -> dict[str, Any]:
    """What a line of JSON has of a request. seconds: all but `request` are the slowest choice's;
    `prefill` and `decode`: where the engine's time went before its first token, and behind it."""
    usage, timing = record.usage, record.timing
    tokens = {name.removesuffix("_tokens"): count for name, count in usage._asdict().items()}
    seconds: dict[str, Any] = {"request": round(record.seconds, 6)}
    if timing is not None:
        seconds |= {
            "queue": round(timing.queue, 6),
            "first_token": round(timing.ttft, 6),
            "total": round(timing.total, 6),
            "prefill": _rounded(timing.prefill),
            "decode": _rounded(timing.decode),
        }
    return {
        "request_id": record.id,
        "answer_id": record.answer_id,
        "tenant": record.tenant,
        "method": record.method,
        "path": record.path,
        "status": record.status or None,
        "model": record.model,
        "finish_reasons": [completion.finish_reason for completion in record.completions],
        "tokens": tokens if record.completions else None,
        "seconds": seconds,
    }


def _rounded(phases: Phases) -> dict[str, float]:
    return {phase: round(seconds, 6) for phase, seconds in phases._asdict().items()}


class JsonFormatter(logging.Formatter):
    """A line of JSON for each record, whoever logs it."""

    def format(self, record: logging.LogRecord) -> str:
        """Time, level, logger; then what a request has, or the message."""
        told: dict[str, Any] = getattr(record, "told", {"message": record.getMessage()})
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line = {"time": when, "level": record.levelname.lower(), "logger": record.name, **told}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def set_up(*, as_json: bool, tells_requests: bool) -> None:
    """Have what the server logs on standard error, in one of the two forms. For a process that is a server."""
    handler = logging.StreamHandler()
    handler.setFormatter(
        JsonFormatter() if as_json else logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    )
    for name, level in (("stemma", logging.INFO), ("uvicorn", logging.WARNING)):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
    log.setLevel(logging.INFO if tells_requests or as_json else logging.WARNING)

"""What first_hour.py says last, of the lines that it has: how stages ended, what failed, what was not run, figures.

STAGE      ended          seconds   passed   failed   not run   figures
FAILED     stage, case: why
NOT RUN    why: how many cases, of which stages
FIGURES    case, ours with its unit, what it stands beside, ours over that
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

WIDTH = 58
"""Of a case's name."""

Line = dict[str, Any]


def table_of(lines: Sequence[Line], stages: Sequence[str]) -> str:
    """Of all lines; stages in this order."""
    parts = [stage_rows(lines, stages), failures(lines), skipped(lines), figures(lines, stages)]
    return "\n\n".join("\n".join(part) for part in map(list, parts) if part) + "\n"


def stage_rows(lines: Sequence[Line], stages: Sequence[str]) -> Iterator[str]:
    yield f"{'STAGE':10} {'ended':14} {'seconds':>8} {'passed':>7} {'failed':>7} {'not run':>8} {'figures':>8}"
    for stage in stages:
        own = [line for line in lines if line["stage"] == stage]
        ends = [line for line in own if "ended" in line]
        seconds = sum(line["seconds"] for line in ends)
        ended = ends[-1]["ended"] if ends else "not begun"
        passed, failed = (sum(line.get("passed") is what for line in own) for what in (True, False))
        counts = [passed, failed, sum("skipped" in line for line in own), sum("metric" in line for line in own)]
        yield f"{stage:10} {ended:14} {seconds:8.1f} {counts[0]:7} {counts[1]:7} {counts[2]:8} {counts[3]:8}"


def failures(lines: Sequence[Line]) -> Iterator[str]:
    """Cases that did, and the last of each stage that ended otherwise than it should."""
    last = {line["stage"]: line for line in lines if "ended" in line}
    for line in lines:
        if line.get("passed") is False:
            yield f"FAILED     {line['stage']}, {line['case']}: {shortened(line['note'])}"
    for stage, line in last.items():
        if line["ended"] == "failed":
            yield f"FAILED     {stage}: {shortened(line['tail'])}"


def shortened(text: str) -> str:
    """Its end, in one line: a traceback's last line says most."""
    return " ".join(text.split())[-400:]


def skipped(lines: Sequence[Line]) -> Iterator[str]:
    by_reason: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if "skipped" in line:
            by_reason[line["skipped"]].append(line)
    for why, found in by_reason.items():
        stages = ", ".join(sorted({line["stage"] for line in found}))
        yield f"NOT RUN    {why}: {len(found)} of {stages}"


def figures(lines: Sequence[Line], stages: Sequence[str]) -> Iterator[str]:
    for stage in stages:
        own = [line for line in lines if line["stage"] == stage and ("metric" in line or line.get("note"))]
        own = [line for line in own if line.get("passed") is not False]
        if own:
            yield f"{'FIGURES':10} {stage}"
        yield from (figure(line) for line in own)


def figure(line: Line) -> str:
    note = f"  {line['note']}" if line.get("note") else ""
    if "metric" not in line:
        return f"  {line['case']:{WIDTH}}{note}"
    beside = ""
    if line["peer"] is not None:
        beside = f"{line['ratio'] or 0.0:8.2f} x {line['peer']:,.1f} {line['peer_name']}"
    return f"  {line['case']:{WIDTH}} {line['ours']:14,.2f} {line['metric']:9}{beside}{note}"

"""Runs as a picture: latencies over the paces, and when each request waited and was answered."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stemma.bench.client import Record
from stemma.bench.report import Summary, Target
from stemma.bench.run import Measured
from stemma.runtime.errors import StemmaError


class NoCharts(StemmaError):
    """What draws is not installed."""


def check(path: Path) -> None:
    """Raises NoCharts if `draw` could not write there."""
    pyplot = _pyplot()
    figure = pyplot.figure()
    known = figure.canvas.get_supported_filetypes()
    pyplot.close(figure)
    if path.suffix[1:].lower() not in known:
        raise NoCharts(f"{path.name} must end as a picture does: {', '.join(sorted(known))}")


def draw(path: Path, runs: Sequence[tuple[Measured, Summary]], target: Target) -> None:
    """Write a PNG, or what else the name's ending says. Raises NoCharts."""
    pyplot = _pyplot()
    figure, (latencies, gaps, timeline) = pyplot.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    names = [run.pace for _, run in runs]
    _percentiles(latencies, "first token, ms", names, [run.ttft for _, run in runs], target.ttft)
    _percentiles(gaps, "a further token (TPOT), ms", names, [run.tpot for _, run in runs], target.tpot)
    _requests(timeline, runs[-1][0].records, names[-1])
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise NoCharts("charts need matplotlib: pip install 'stemma-llm[bench]'") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _percentiles(axes: Any, title: str, names: Sequence[str], spreads: Sequence[Any], limit: float | None) -> None:
    for name in ("p50", "p90", "p99"):
        axes.plot(names, [getattr(spread, name) * 1000 for spread in spreads], marker="o", label=name)
    if limit is not None:
        axes.axhline(limit * 1000, color="grey", linestyle="--", label="target")
    axes.set_title(title)
    axes.set_ylim(bottom=0)
    axes.legend()


def _requests(axes: Any, records: Sequence[Record], name: str) -> None:
    """A line a request: waiting for the first token, then the answer."""
    first = min((record.due for record in records), default=0.0)
    for at, record in enumerate(sorted(records, key=lambda record: record.due)):
        if record.error is not None:
            axes.plot([record.due - first, record.ended - first], [at, at], color="crimson")
            continue
        axes.plot([record.due - first, record.pieces[0] - first], [at, at], color="lightgrey")
        axes.plot([record.pieces[0] - first, record.ended - first], [at, at], color="seagreen")
    axes.set_title(f"each request, {name}: waiting, answered")
    axes.set_xlabel("seconds")
    axes.set_yticks([])

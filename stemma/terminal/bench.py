"""`stemma bench` for people: a table of the runs, and bars of their latencies."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.bar import Bar
from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from stemma.bench.report import Spread, Summary, Target

WIDTH = 40


def show(runs: Sequence[Summary], target: Target) -> Group:
    """One row a run; below it the spread of each run's first tokens and gaps; then what went wrong."""
    table = Table(
        "pace", "requests", "ended/s", "tokens/s", "prompt", "answer", "hit rate", f"good ({_named(target)})", box=None
    )
    for run in runs:
        hit = "not told" if run.hit_rate is None else f"{run.hit_rate:.1%}"
        table.add_row(
            run.pace, f"{run.num_requests}", f"{run.requests_a_second:.2f}", f"{run.output_tokens_a_second:.1f}",
            _count(run.mean_prompt_tokens), _count(run.mean_completion_tokens), hit,
            f"{run.good_share:.0%}, {run.goodput:.2f}/s",
        )  # fmt: skip
    parts: list[Table | Text | str] = [table, ""]
    for name, spreads in (
        ("first token", [run.ttft for run in runs]),
        ("token (TPOT)", [run.tpot for run in runs]),
        ("gap between pieces", [run.inter_token for run in runs]),
        ("whole answer", [run.total for run in runs]),
    ):
        parts += [_bars(name, [run.pace for run in runs], spreads), ""]
    return Group(*parts, *_warnings(runs))


def _bars(name: str, paces: Sequence[str], spreads: Sequence[Spread]) -> Table:
    """From the median to the 99th percentile of each run, on one scale."""
    table = Table(f"{name}, ms", "p50", "p90", "p99", "worst", f"0 to p99, from the median on: {'█'}", box=None)
    scale = max((spread.p99 for spread in spreads if not math.isnan(spread.p99)), default=0.0) or 1.0
    for pace, spread in zip(paces, spreads, strict=True):
        if math.isnan(spread.p50):
            table.add_row(pace, "-", "-", "-", "-", "")
            continue
        bar = Bar(scale, spread.p50, max(spread.p99, spread.p50 + scale / WIDTH / 2), width=WIDTH)
        table.add_row(pace, *(_ms(value) for value in spread[1:]), bar)
    return table


def _warnings(runs: Sequence[Summary]) -> list[str]:
    said = []
    for run in runs:
        said += [f"[red]{run.pace}: {count} failed[/]: {escape(why)}" for why, count in run.failed.items()]
        if run.lateness.p99 > 0.1 * max(run.ttft.p50, 0.01):
            said.append(
                f"[yellow]{run.pace}[/]: requests left {_ms(run.lateness.p99)} ms late (p99): this machine could not "
                "keep the pace, and the latencies hold that too"
            )
    return said


def _named(target: Target) -> str:
    parts = [
        f"{name} {value * 1000:g} ms" for name, value in zip(("TTFT", "TPOT"), target, strict=True) if value is not None
    ]
    return ", ".join(parts) or "whole"


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:,.1f}" if seconds < 0.1 else f"{seconds * 1000:,.0f}"


def _count(number: float) -> str:
    return "-" if math.isnan(number) else f"{number:,.0f}"

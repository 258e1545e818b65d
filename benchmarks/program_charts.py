"""The rows of `programs.py` as one SVG: a line for each program, a column for each thing taken away, and the hit rate.

A bar reaches right of the line at 1 as far as everything on is faster than without, by its logarithm, left as far as it
is slower; the column of hits is full where every token that could be cached was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

FASTER, SLOWER, HITS, EMPTY = "#1c7ed6", "#d9480f", "#2f9e44", "#eee"
FIRST, COLUMN, LINE, TOP = 150, 92, 26, 62
LEAST, MOST = 0.5, 16.0
"""Times as fast: the ends of a cell. What is further off ends there, its number tells."""

Row = Mapping[str, Any]


def chart(rows: Sequence[Row]) -> str:
    """rows: of any programs and arms; what was not measured is left empty."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    speeds = {(row["case"], row["peer_name"]): row["ratio"] for row in rows if row["metric"] == "instances/s"}
    hits = {row["case"]: row for row in rows if row["metric"] == "hit rate"}
    arms = list(dict.fromkeys(arm for _, arm in speeds))
    width, height = FIRST + (len(arms) + 1) * COLUMN + 60, TOP + len(cases) * LINE + 12
    parts = [_text(12, 22, "How many times as fast everything on is as without one thing", 14, weight="bold")]
    for index, arm in enumerate([*arms, "hits of the best"]):
        parts.append(_text(FIRST + index * COLUMN, TOP - 14, arm, 11))
    for line, case in enumerate(cases):
        y = TOP + line * LINE
        parts.append(_text(12, y + 12, case, 12))
        for index, arm in enumerate(arms):
            if (case, arm) in speeds:
                parts.append(_times(FIRST + index * COLUMN, y, speeds[case, arm]))
        if case in hits:
            parts.append(_hits(FIRST + len(arms) * COLUMN, y, hits[case]))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" fill="#222"><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _times(x: float, y: float, ratio: float) -> str:
    wide = COLUMN - 40.0
    one = wide * math.log(1 / LEAST) / math.log(MOST / LEAST)
    end = wide * math.log(min(max(ratio, LEAST), MOST) / LEAST) / math.log(MOST / LEAST)
    bar = _bar(x + min(one, end), y, abs(end - one), FASTER if ratio >= 1 else SLOWER)
    line = f'<line x1="{x + one:.1f}" x2="{x + one:.1f}" y1="{y - 3}" y2="{y + 19}" stroke="#888"/>'
    return _bar(x, y, wide, EMPTY) + bar + line + _text(x + wide + 4, y + 12, f"{ratio:.3g}", 11)


def _hits(x: float, y: float, row: Row) -> str:
    told = f"{row['ours']:.3f} of {row['peer']:.3f}"
    return _bar(x, y, 50, EMPTY) + _bar(x, y, 50 * min(row["ratio"], 1.0), HITS) + _text(x + 54, y + 12, told, 11)


def _bar(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="16" fill="{colour}"/>'


def _text(x: float, y: float, text: str, size: int, weight: str = "normal") -> str:
    return f'<text x="{x:.0f}" y="{y}" font-size="{size}" font-weight="{weight}">{escape(text)}</text>'

"""The figures of `fsm.py` as one SVG a vocabulary: masks cold and warm, time to first mask, coverage."""

from __future__ import annotations

import math
from collections.abc import Mapping
from html import escape
from typing import NamedTuple

Figures = Mapping[str, Mapping[str, float]]  # metric -> engine -> value
COLOURS = ("#d9480f", "#1c7ed6", "#2f9e44", "#868e96")
WIDTH, HEIGHT = 520, 260
LEFT, TOP, BOTTOM = 56, 34, 26


class Panel(NamedTuple):
    """Groups of bars, one of each engine."""

    title: str
    metrics: tuple[str, ...]
    labels: tuple[str, ...]
    is_logarithmic: bool


PERCENTILES = ("p50", "p90", "p99", "p99.9")
PANELS = (
    Panel("Mask, cold (us)", ("mask_cold_p50", "mask_cold_p90", "mask_cold_p99", "mask_cold_p999"), PERCENTILES, True),
    Panel("Mask, warm (us)", ("mask_warm_p50", "mask_warm_p90", "mask_warm_p99", "mask_warm_p999"), PERCENTILES, True),
    Panel("Schema to first mask (ms)", ("first_mask_p50", "first_mask_p90", "first_mask_p99"), PERCENTILES, True),
    Panel(
        "Schemas", ("compiled", "all_right", "accepted_invalid"), ("compiled", "all right", "invalid accepted"), False
    ),
)


def chart(title: str, figures: Figures, engines: list[str]) -> str:
    """Four panels in two rows under one legend."""
    parts = [f'<text x="12" y="22" font-size="15" font-weight="bold">{escape(title)}</text>']
    for index, engine in enumerate(engines):
        x = 12 + 130 * index
        parts.append(f'<rect x="{x}" y="34" width="12" height="12" fill="{COLOURS[index]}"/>')
        parts.append(f'<text x="{x + 17}" y="44" font-size="12">{escape(engine)}</text>')
    for index, panel in enumerate(PANELS):
        x, y = index % 2 * WIDTH, 54 + index // 2 * HEIGHT
        parts.append(f'<g transform="translate({x},{y})">{_panel(panel, figures, engines)}</g>')
    width, height = 2 * WIDTH, 54 + 2 * HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" fill="#222"><rect width="100%" height="100%" fill="#fff"/>{"".join(parts)}</svg>\n'
    )


def _panel(panel: Panel, figures: Figures, engines: list[str]) -> str:
    values = [figures[metric].get(engine, math.nan) for metric in panel.metrics for engine in engines]
    known = [value for value in values if value > 0]
    low = 10 ** math.floor(math.log10(min(known, default=1))) if panel.is_logarithmic else 0.0
    high = 10 ** math.ceil(math.log10(max(known, default=10))) if panel.is_logarithmic else max(known, default=1) * 1.1
    depth, width = HEIGHT - TOP - BOTTOM, (WIDTH - LEFT - 16) / len(panel.metrics)

    def up(value: float) -> float:
        if panel.is_logarithmic:
            return depth * math.log10(max(value, low) / low) / math.log10(high / low)
        return depth * value / high

    parts = [f'<text x="12" y="22" font-size="13">{escape(panel.title)}</text>']
    ticks = (
        [low * 10**i for i in range(round(math.log10(high / low)) + 1)] if panel.is_logarithmic else [0.0, high / 1.1]
    )
    for tick in ticks:
        y = TOP + depth - up(tick)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - 16}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" font-size="10" text-anchor="end">{tick:g}</text>')
    bar = 0.8 * width / len(engines)
    for group, (metric, label) in enumerate(zip(panel.metrics, panel.labels, strict=False)):
        middle = LEFT + (group + 0.5) * width
        parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 8}" font-size="11" text-anchor="middle">{label}</text>')
        for index, engine in enumerate(engines):
            value = figures[metric].get(engine, math.nan)
            if math.isnan(value):
                continue
            x, tall = middle - 0.4 * width + index * bar, up(value)
            y = TOP + depth - tall
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{bar - 2:.1f}" height="{tall:.1f}" fill="{COLOURS[index]}"/>'
                f'<text x="{x + bar / 2:.1f}" y="{y - 3:.1f}" font-size="9" text-anchor="middle">{_short(value)}</text>'
            )
    return "".join(parts)


def _short(value: float) -> str:
    return f"{value:.2g}" if 0 < value < 10 else f"{value:.0f}"

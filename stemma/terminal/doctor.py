"""`stemma doctor` for people: each question with its answer, the figures behind it, and what to change."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from stemma.doctor.diagnosis import Answer, Figure


def show(answers: Sequence[Answer]) -> Group:
    """One after the other."""
    parts: list[str | Table] = []
    for answer in answers:
        table = Table(box=None, show_header=False, padding=(0, 2))
        for figure in answer.figures:
            table.add_row("", escape(figure.name), _value(figure))
        parts += [f"[bold]{escape(answer.question)}[/] {escape(answer.verdict)}", table]
        parts += [f"  [yellow]->[/] {escape(change)}" for change in answer.changes]
        parts.append("")
    return Group(*parts)


def _value(figure: Figure) -> str:
    if figure.unit == "share":
        return f"{figure.value:.1%}"
    if figure.unit == "seconds":
        return f"{figure.value * 1000:,.1f} ms" if figure.value < 1 else f"{figure.value:,.2f} s"
    number = (
        f"{figure.value:,.0f}" if figure.value >= 100 or figure.value == int(figure.value) else f"{figure.value:,.2f}"
    )
    return f"{number} {figure.unit}"

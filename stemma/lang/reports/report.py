"""What a run did, as a table whose first column is a tree: for a terminal and for a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Any, NamedTuple

from stemma.lang.reports.trace import TraceNode
from stemma.runtime.core.sequence import Usage

HEADINGS = ("cached", "prefilled", "decoded", "jumped", "ms")
MAX_TEXT = 40


class Row(NamedTuple):
    """A step. branch: the lines of the tree before its label."""

    branch: str
    node: TraceNode

    @property
    def figures(self) -> tuple[str, ...]:
        """Its tokens, those of the steps below included, and its milliseconds."""
        usage = self.node.total_usage
        counts = (usage.cached_tokens, usage.prefilled_tokens, usage.decoded_tokens, usage.jumped_tokens)
        seconds = self.node.seconds or sum(child.seconds for child in self.node.children)
        return (*map(str, counts), f"{seconds * 1000:.0f}")


class Report:
    """A tree of steps: what of each was cached, prefilled, decoded and jumped, in tokens, and how long it took.

    A line's figures include those of the lines below it.
    """

    def __init__(self, trace: TraceNode) -> None:
        self.trace = trace

    @property
    def usage(self) -> Usage:
        """Of the whole run."""
        return self.trace.total_usage

    def rows(self) -> list[Row]:
        """Every step, in the order of the tree."""
        return [Row("", self.trace), *_below(self.trace, "")]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values."""
        return _as_dict(self.trace)

    def __str__(self) -> str:
        rows = self.rows()
        labels = [row.branch + _label(row.node) for row in rows]
        width = max(map(len, labels))
        lines = [" " * width + "".join(f"{heading:>10}" for heading in HEADINGS)]
        for label, row in zip(labels, rows, strict=True):
            figures = "".join(f"{figure:>10}" for figure in row.figures)
            lines.append(f"{label:<{width}}{figures}  {_preview(row.node)}".rstrip())
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        head = "".join(f"<th style='text-align:right'>{heading}</th>" for heading in ("", *HEADINGS, ""))
        body = "".join(
            f"<tr><td style='text-align:left;white-space:pre;font-family:monospace'>"
            f"{escape(row.branch + _label(row.node))}</td>"
            + "".join(f"<td style='text-align:right'>{figure}</td>" for figure in row.figures)
            + f"<td style='text-align:left;opacity:.7'>{escape(_preview(row.node))}</td></tr>"
            for row in self.rows()
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _below(node: TraceNode, indent: str) -> Iterator[Row]:
    for index, child in enumerate(node.children):
        is_last = index == len(node.children) - 1
        yield Row(indent + ("└ " if is_last else "├ "), child)
        yield from _below(child, indent + ("  " if is_last else "│ "))


def _label(node: TraceNode) -> str:
    return node.label if node.kind in ("program", "branch", "prefill") else f"{node.kind} {node.label}"


def _preview(node: TraceNode) -> str:
    text = node.error or node.text.replace("\n", "⏎")
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _as_dict(node: TraceNode) -> dict[str, Any]:
    return {
        "kind": node.kind,
        "label": node.label,
        "usage": node.usage._asdict(),
        "seconds": node.seconds,
        "text": node.text,
        "error": node.error,
        "children": [_as_dict(child) for child in node.children],
    }

"""What a program did, as a tree of plain values: the report's source. Written while it runs, read afterwards."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from stemma.runtime.core.sequence import Usage

Kind = Literal["program", "branch", "prefill", "gen", "select"]


@dataclass(slots=True)
class TraceNode:
    """A step of a program. usage: of this step alone, `total_usage` with what is below it. seconds: wall time."""

    kind: Kind
    label: str
    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    text: str = ""
    error: str | None = None
    children: list[TraceNode] = field(default_factory=list)

    def child(self, kind: Kind, label: str) -> TraceNode:
        """A new step below this one."""
        node = TraceNode(kind, label)
        self.children.append(node)
        return node

    @property
    def total_usage(self) -> Usage:
        """Of this step and everything below it."""
        return sum((child.total_usage for child in self.children), self.usage)

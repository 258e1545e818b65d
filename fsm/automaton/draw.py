"""An automaton as a picture: its configurations with one edge a byte set, or compressed, with chains as one jump edge.

Writes SVG text with nothing but the standard library. It draws what is reachable within a limit, and says if it cut.
"""

from __future__ import annotations

from collections import Counter, deque
from html import escape
from typing import NamedTuple

from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.syntax import ast

COLUMN, LINE, RADIUS, MARGIN = 104, 72, 15, 36
FONT = 'font-family="ui-monospace, Menlo, monospace" font-size="12"'


class Edge(NamedTuple):
    start: int
    end: int
    label: str
    is_jump: bool


class Drawing(NamedTuple):
    """Configurations in the order they were found, edges between them, and whether there were more."""

    configs: list[int]
    edges: list[Edge]
    accepting: set[int]
    is_cut: bool


def draw_automaton(grammar: ast.Grammar, compressed: bool, max_nodes: int = 60) -> str:
    """SVG of the automaton of `grammar`, byte by byte or `compressed`."""
    return svg(explored(Automaton(grammar), compressed, max_nodes))


def explored(automaton: Automaton, compressed: bool, max_nodes: int) -> Drawing:
    """Breadth first from the start; special tokens are left out."""
    found = {automaton.start: None}
    todo = deque(found)
    edges: list[Edge] = []
    is_cut = False
    while todo:
        config = todo.popleft()
        for edge in _edges(automaton, config, compressed):
            if edge.end not in found:
                if len(found) >= max_nodes:
                    is_cut = True
                    continue
                found[edge.end] = None
                todo.append(edge.end)
            edges.append(edge)
    return Drawing(list(found), edges, {config for config in found if automaton.is_accepting(config)}, is_cut)


def _edges(automaton: Automaton, config: int, compressed: bool) -> list[Edge]:
    by_target: dict[int, list[int]] = {}
    for byte, following in enumerate(automaton.row(config).tolist()):
        if following:
            by_target.setdefault(following, []).append(byte)
    edges = []
    for following, read in by_target.items():
        label, end, is_jump = _label(read), following, False
        if compressed and len(read) == 1:
            data, end = automaton.only_way(following)
            is_jump = bool(data)
            label = _text(bytes(read) + data)
        edges.append(Edge(config, end, label, is_jump))
    return edges


def _label(read: list[int]) -> str:
    """A set of bytes as ranges."""
    ranges: list[tuple[int, int]] = []
    for byte in read:
        if ranges and ranges[-1][1] == byte - 1:
            ranges[-1] = (ranges[-1][0], byte)
        else:
            ranges.append((byte, byte))
    shown = [_text(bytes([low])) if low == high else f"{_byte(low)}-{_byte(high)}" for low, high in ranges[:4]]
    return " ".join(shown) + (" ..." if len(ranges) > 4 else "")


def _byte(byte: int) -> str:
    return chr(byte) if 0x20 < byte < 0x7F else f"{byte:02x}"


def _text(data: bytes) -> str:
    text = data.decode("ascii", "backslashreplace").replace(" ", "␣").replace("\n", "\\n")
    return text if len(text) <= 22 else f"{text[:19]}..."


def svg(drawing: Drawing) -> str:
    """Columns by distance from the start, one line each."""
    places = _places(drawing)
    width = max(x for x, _ in places.values()) + MARGIN + COLUMN // 2
    height = max(y for _, y in places.values()) + MARGIN + LINE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8"'
        ' markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0L8 4L0 8z" fill="#556"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    between: Counter[tuple[int, int]] = Counter()
    for edge in drawing.edges:
        parts.append(_edge(edge, places, between[edge.start, edge.end]))
        between[edge.start, edge.end] += 1
    for number, config in enumerate(drawing.configs):
        x, y = places[config]
        fill = "#dff0d8" if config in drawing.accepting else "#eef"
        parts.append(f'<circle cx="{x}" cy="{y}" r="{RADIUS}" fill="{fill}" stroke="#335"/>')
        if config in drawing.accepting:
            parts.append(f'<circle cx="{x}" cy="{y}" r="{RADIUS - 4}" fill="none" stroke="#335"/>')
        parts.append(f'<text x="{x}" y="{y + 4}" text-anchor="middle" {FONT}>{number}</text>')
    note = f"{len(drawing.configs)} configurations, {len(drawing.edges)} edges" + (", cut" if drawing.is_cut else "")
    parts.append(f'<text x="{MARGIN // 2}" y="{height - 12}" fill="#667" {FONT}>{note}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _places(drawing: Drawing) -> dict[int, tuple[int, int]]:
    depth = {drawing.configs[0]: 0}
    for edge in drawing.edges:
        depth.setdefault(edge.end, depth[edge.start] + 1)
    used: dict[int, int] = {}
    places = {}
    longest = max((len(edge.label) for edge in drawing.edges), default=0)
    column_width = max(COLUMN, 44 + 8 * longest) if len(drawing.configs) < 12 else max(56, 36 + 8 * longest)
    for config in drawing.configs:
        column = depth[config]
        line = used.get(column, 0)
        used[column] = line + 1
        places[config] = (MARGIN + column * column_width, MARGIN + RADIUS + line * LINE)
    return places


def _edge(edge: Edge, places: dict[int, tuple[int, int]], number: int) -> str:
    """One edge; `number` counts those before it between the same two, so that each bends a little more."""
    (x, y), (end_x, end_y) = places[edge.start], places[edge.end]
    colour = "#b04a00" if edge.is_jump else "#556"
    style = f'fill="none" stroke="{colour}" stroke-width="{2 if edge.is_jump else 1}" marker-end="url(#tip)"'
    middle_x, middle_y = (x + end_x) // 2, (y + end_y) // 2
    if edge.start == edge.end:
        top = y - RADIUS
        path = f"M{x - 8} {top + 2}C{x - 22} {top - 24} {x + 22} {top - 24} {x + 8} {top + 2}"
        place = f'x="{x + 16}" y="{top - 8}"'
    elif end_x > x:
        bend = 34 * number
        path = f"M{x + RADIUS} {y}Q{middle_x} {middle_y + 2 * bend} {end_x - RADIUS} {end_y}"
        place = f'x="{middle_x}" y="{middle_y + bend - 5}" text-anchor="middle"'
    elif end_x == x:
        side, sign = 30 + 24 * number, 1 if end_y > y else -1
        path = f"M{x} {y + sign * RADIUS}Q{x + 2 * side - 40} {middle_y} {end_x} {end_y - sign * RADIUS}"
        place = f'x="{x + side - 12}" y="{middle_y + 4 + 12 * number}"'
    else:
        low = max(y, end_y) + LINE // 2 + 16 * number
        path = f"M{x} {y + RADIUS}Q{middle_x} {low + 30} {end_x} {end_y + RADIUS}"
        place = f'x="{middle_x}" y="{low + 8}" text-anchor="middle"'
    return f'<path d="{path}" {style}/><text {place} fill="{colour}" {FONT}>{escape(edge.label)}</text>'

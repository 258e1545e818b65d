"""Draws the rooms of the house into docs/architecture.md, from the imports as they are.

    python docs/draw_rooms.py

What a room is stands in pyproject.toml (the contracts with layers), what it does in its docstring. A floor is one more
than the highest one below that the room uses; a room that cannot be given one is part of a circle, and is refused.
"""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import grimp

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/architecture.md"
BEGIN, END = "<!-- rooms: made by docs/draw_rooms.py -->\n", "<!-- end of rooms -->\n"
Uses = Mapping[str, frozenset[str]]


def containers() -> Iterator[tuple[str, list[str]]]:
    """Each package whose rooms a contract names, and the rooms as modules; the whole is `stemma`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    for contract in project["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "layers":
            names = [name.strip(" ()") for layer in contract["layers"] for name in layer.split("|")]
            (container,) = contract.get("containers", ["stemma"])
            yield container, [name if name.startswith("stemma.") else f"{container}.{name}" for name in names]


def uses(graph: grimp.ImportGraph, rooms: Iterable[str]) -> Uses:
    """The rooms that each room imports from, imports for types included."""
    homes = {module: room for room in rooms for module in (room, *graph.find_descendants(room))}
    found = {}
    for room in rooms:
        modules = [module for module, home in homes.items() if home == room]
        imported = {homes.get(other) for module in modules for other in graph.find_modules_directly_imported_by(module)}
        found[room] = frozenset(other for other in imported if other not in (None, room))
    return found


def floors(using: Uses) -> dict[str, int]:
    """0 for a room that uses none. Raises ValueError for a circle."""
    known: dict[str, int] = {}
    while ready := [room for room in using if room not in known and using[room] <= known.keys()]:
        known |= {room: 1 + max((known[below] for below in using[room]), default=-1) for room in ready}
    if circle := sorted(using.keys() - known.keys()):
        raise ValueError(f"these rooms use each other in a circle, or one that does: {circle}")
    return known


def purpose(room: str) -> str:
    """The first sentence of its docstring; a folder that is no package has it in `ops.py`."""
    folder = ROOT / room.replace(".", "/")
    path = next(
        path for path in (folder.with_suffix(".py"), folder / "__init__.py", folder / "ops.py") if path.exists()
    )
    text = " ".join((ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n\n")[0].split())
    return text.partition(". ")[0].rstrip(".").replace("|", "\\|")


def drawn(container: str, using: Uses) -> str:
    heights = floors(using)
    prefix = f"{container}."
    folder = container.removeprefix("stemma.").replace(".", "/")
    title = "The whole" if container == "stemma" else f"`{folder}/`"
    num_arrows, num_floors = sum(map(len, using.values())), max(heights.values()) + 1
    lines = [
        f"### {title}: {len(using)} rooms, {num_arrows} arrows down {num_floors} floors, none up\n",
        "| floor | room | what it does | uses |",
        "|---|---|---|---|",
    ]
    for room in sorted(using, key=lambda room: (-heights[room], room)):
        below = sorted(using[room], key=lambda below: (-heights[below], below))
        names = " ".join(f"`{name.removeprefix(prefix)}`" for name in below) or "-"
        lines.append(f"| {heights[room]} | `{room.removeprefix(prefix)}` | {purpose(room)} | {names} |")
    return "\n".join(lines) + "\n"


def block() -> str:
    graph = grimp.build_graph("stemma", "stemma.kernels", cache_dir=None)
    return "\n".join(drawn(container, uses(graph, rooms)) for container, rooms in containers())


def main() -> None:
    text = PAGE.read_text("utf-8")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{block()}\n{END}{after}", "utf-8")


if __name__ == "__main__":
    main()

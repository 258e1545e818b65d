"""Runs the notebook examples/tour.ipynb without Jupyter, and writes into it what it prints: `python docs/draw_tour.py`.

The cells run from top to bottom in one namespace; the last expression of a cell is shown, `await` is allowed.
"""

from __future__ import annotations

import ast
import asyncio
import io
import json
from collections.abc import Iterator
from functools import partial
from inspect import CO_COROUTINE
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parent.parent / "examples/tour.ipynb"


def run_cells(notebook: dict[str, Any], names: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Each code cell with what it printed."""
    for number, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] != "code":
            continue
        said = io.StringIO()
        names["print"] = partial(print, file=said)  # not by sys.stdout, which belongs to all threads
        shown = _run("".join(cell["source"]), f"cell {number}", names)
        if shown is not None:
            print(shown, file=said)
        yield cell, said.getvalue()


def _run(source: str, title: str, names: dict[str, Any]) -> Any:
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    if tree.body:
        _evaluated(tree, title, names)
    return _evaluated(ast.Expression(last.value), title, names) if isinstance(last, ast.Expr) else None


def _evaluated(tree: ast.Module | ast.Expression, title: str, names: dict[str, Any]) -> Any:
    kind = "exec" if isinstance(tree, ast.Module) else "eval"
    code = compile(tree, title, kind, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    result = eval(code, names)
    return asyncio.run(result) if code.co_flags & CO_COROUTINE else result


def main() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    count = 0
    for count, (cell, said) in enumerate(run_cells(notebook, {"__name__": "tour"}), 1):
        text = said.splitlines(keepends=True)
        cell["execution_count"] = count
        cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": text}] if text else []
    NOTEBOOK.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"{NOTEBOOK.name}: {count} cells")


if __name__ == "__main__":
    main()

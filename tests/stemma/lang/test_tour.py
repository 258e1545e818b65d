"""The notebook runs on the real model, and has the outputs of a run."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_notebook_runs_and_shows_what_it_prints(real):
    spec = importlib.util.spec_from_file_location("draw_tour", ROOT / "docs/draw_tour.py")
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)
    notebook = json.loads(drawing.NOTEBOOK.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        code = "".join(cell["source"]).replace("stemma.Engine()", "real").replace("llm.close()", "")
        cell["source"] = code.splitlines(keepends=True)
    printed = 0
    for cell, said in drawing.run_cells(notebook, {"__name__": "tour", "real": real}):
        assert bool(said) == bool(cell["outputs"]), "".join(cell["source"])
        printed += bool(said)
    assert printed >= 7
    assert {"nbformat", "nbformat_minor", "metadata"} <= notebook.keys()
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])

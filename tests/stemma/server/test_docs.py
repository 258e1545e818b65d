"""The pages on serving: their Python runs, from top to bottom, against a live server with the real model. A page whose
client is not installed is left out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from stemma.runtime.engine import Engine
from tests.docs.pages import Page, served
from tests.stemma.server.live import live_server

CLIENTS = {"anthropic", "ollama", "mcp", "litellm"}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with Engine(kv_tokens=4096) as made:
        yield made


def imported(block: str) -> set[str]:
    """Top-level packages."""
    nodes = list(ast.walk(ast.parse(block)))
    plain = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    return {name.partition(".")[0] for name in plain | {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}}


@pytest.mark.parametrize("page", served(), ids=lambda page: page.name)
def test_the_page_runs(page: Page, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = page.blocks("python")
    for name in CLIENTS & set().union(*map(imported, blocks)):
        pytest.importorskip(name)
    with live_server(engine) as live:
        names = {"engine": engine, "__name__": "page_serving"}
        for number, block in enumerate(blocks):
            code = block.replace("http://127.0.0.1:8000", live.url)
            exec(compile(code, f"{page.name}, block {number}", "exec", dont_inherit=True), names)

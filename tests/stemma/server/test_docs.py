"""The page on serving: its Python runs, from top to bottom, against a live server with the real model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from stemma.runtime.engine import Engine
from tests.stemma.server.live import live_server

PAGE = Path(__file__).parents[3] / "docs" / "serving.md"


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 4
    with Engine(kv_tokens=4096) as engine, live_server(engine) as live:
        page = {"engine": engine, "__name__": "page_serving"}
        for number, block in enumerate(blocks):
            code = block.replace("http://127.0.0.1:8000", live.url)
            exec(compile(code, f"serving.md, block {number}", "exec", dont_inherit=True), page)

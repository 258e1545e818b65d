"""The parts of the page at /tree that draw nothing, in Node: page_parts/*.test.js; left out where there is no Node."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from stemma.server.cache.page import FOLDER

NODE = shutil.which("node")
TESTS = Path(__file__).with_name("page_parts")


@pytest.mark.skipif(NODE is None, reason="Node is not installed")
def test_layout_search_history_camera_and_labels(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "static")
    shutil.copytree(TESTS, tmp_path / "parts")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    files = sorted((tmp_path / "parts").glob("*.test.js"))
    assert len(files) >= 5
    (tmp_path / "all.js").write_text("".join(f'import "./parts/{file.name}";\n' for file in files))
    ran = subprocess.run([str(NODE), "all.js"], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert ran.returncode == 0, ran.stdout
    assert "# pass 0" not in ran.stdout

"""The pages on programs, chats and values: their Python runs, from top to bottom, on the real model."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[3] / "docs"


@pytest.mark.parametrize("name", ["dsl", "chat", "structured"])
def test_the_page_runs(real, name):
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / f"{name}.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 4
    page = {"llm": real, "__name__": f"page_{name}"}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{name}.md, block {number}", "exec"), page)

"""The README and the pages on programs, chats and values: their Python runs, from top to bottom, on the real model."""

from __future__ import annotations

import pytest

from tests.docs.pages import OWN_ENGINES, PROGRAMS, page

GIVEN = {
    "reviews": ["The soup was cold. Verdict: ", "I would come again. Verdict: "],
    "essay": "Lighthouses guided ships long before satellites did.",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_page_runs(real, name):
    blocks = page(name).blocks("python")
    assert len(blocks) >= 3
    names = {"llm": real, "__name__": "page", **GIVEN}
    for number, block in enumerate(blocks):
        code = block.replace("llm = stemma.Engine()", "llm = llm")
        exec(compile(code, f"{name}, block {number}", "exec", dont_inherit=True), names)


@pytest.mark.parametrize("name", OWN_ENGINES)
def test_a_page_that_makes_engines_of_its_own_runs(name):
    for number, block in enumerate(page(name).blocks("python")):
        names = {"__name__": "page"}
        exec(compile(block, f"{name}, block {number}", "exec", dont_inherit=True), names)
        names["llm"].close()

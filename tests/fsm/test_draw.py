"""Drawings: valid SVG, all configurations before compression, fewer after it."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.automaton.draw import draw_automaton, explored
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.syntax import ast

KINDS = ast.Choice((ast.Literal(b"true"), ast.Literal(b"<&>")))
NODE = ast.Concatenation((ast.Literal(b'{"kind":'), KINDS, ast.Repeat(ast.Literal(b"}"), 1, None)))
GRAMMAR = ast.Grammar(NODE, {}.__getitem__)


def test_chains_become_jumps() -> None:
    plain, compressed = (explored(Automaton(GRAMMAR), short, 60) for short in (False, True))
    assert len(plain.configs) == 8 + 3 + 2 + 3
    assert len(compressed.configs) == 3
    assert {edge.label for edge in compressed.edges if edge.is_jump} == {'{"kind":', "true}", "<&>}"}
    assert not compressed.is_cut


def test_the_text_is_svg() -> None:
    for compressed in (False, True):
        root = ElementTree.fromstring(draw_automaton(GRAMMAR, compressed))
        assert root.tag.endswith("svg")
        circles = [element for element in root.iter() if element.tag.endswith("circle")]
        assert len(circles) == (4 if compressed else 17)


def test_a_large_automaton_is_cut() -> None:
    node = ast.Repeat(ast.Choice((ast.Literal(b"a"), ast.Literal(b"bc"))), 0, 500)
    drawing = explored(Automaton(ast.Grammar(node, {}.__getitem__)), False, 20)
    assert drawing.is_cut
    assert len(drawing.configs) == 20


@pytest.mark.parametrize(("name", "compressed"), [("before", False), ("after", True)])
def test_the_documentations_pictures_are_what_is_drawn(name: str, compressed: bool) -> None:
    """The schema in docs/fsm.md, by the command that stands there."""
    pages = Path(__file__).resolve().parents[2] / "docs"
    found = re.search(r"echo '(\{.*?\})' > schema.json", (pages / "fsm.md").read_text(), re.DOTALL)
    assert found is not None
    drawn = draw_automaton(JSONSchema(found[1]).grammar(), compressed)
    assert drawn.strip() == (pages / "pictures" / f"fsm-{name}.svg").read_text().strip()

"""The terminal in the README is a small picture without scripts that shows what was recorded, in its order."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

from tests.docs.pages import ROOT

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def drawing() -> ModuleType:
    spec = importlib.util.spec_from_file_location("draw_cast", ROOT / "docs/draw_cast.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_recorded_appears_in_its_order_and_goes_up(drawing: ModuleType) -> None:
    said = [drawing.Piece(number * 0.1, f"line {number} <&>\n", "said") for number in range(300)]
    made = drawing.draw(said)
    texts = list(ElementTree.fromstring(made).iter(f"{SVG}text"))
    assert [text.text for text in texts] == [f"line {number} <&>" for number in range(300)]
    starts = [float(at) for at in re.findall(r"@keyframes t\d+\{0%,([\d.]+)%", made)]
    assert starts == sorted(starts)
    assert starts[-1] < 100
    assert f"translateY(-{(301 - drawing.ROWS) * drawing.LINE}px)" in made


def test_the_picture_is_small_and_has_no_script() -> None:
    path = ROOT / "docs/pictures/terminal.svg"
    text = Path(path).read_text("utf-8")
    assert len(text) < 300_000
    assert {element.tag.removeprefix(SVG) for element in ElementTree.fromstring(text).iter()} <= {
        "svg", "title", "style", "rect", "g", "circle", "text",
    }  # fmt: skip
    assert not re.search(r"https?://(?!www\.w3\.org)", text)
    words = "".join(element.text or "" for element in ElementTree.fromstring(text).iter(f"{SVG}text"))
    assert "stemmagenerate" in words.replace(" ", "")
    assert "tokens/s" in words

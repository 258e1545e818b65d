"""The book is built strictly: no broken link or heading, no page without its place, nothing loaded from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort

import stemma
from tests.docs.pages import ROOT, pages


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("book")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(made)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return made


def test_every_page_and_every_public_name_is_in_it(book: Path) -> None:
    places = {"README.md": "", "CONTRIBUTING.md": "contributing"}
    for page in pages():
        place = places.get(page.name, page.name.removeprefix("docs/").removesuffix(".md").removesuffix("README"))
        assert (book / place / "index.html").is_file(), page.name
    names = (book / "api/index.html").read_text("utf-8")
    assert [name for name in stemma.__all__ if f'id="stemma.{name}"' not in names] == []
    assert "Raises ModelError if the model has no chat template" in names


def test_the_navigation_has_every_page(book: Path) -> None:
    shown = (book / "serving/tree/index.html").read_text("utf-8")
    for path in sorted((ROOT / "docs/serving").glob("*.md")):
        assert f'href="../{path.stem}/"' in shown or path.stem == "tree"


def test_nothing_is_loaded_from_elsewhere(book: Path) -> None:
    for path in book.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe)[^>]* src="([^"]*)"', path.read_text("utf-8"))
        loaded += re.findall(
            r'<link[^>]* rel="(?:stylesheet|preconnect|icon)"[^>]* href="([^"]*)"', path.read_text("utf-8")
        )
        assert [place for place in loaded if "//" in place] == [], path


@pytest.mark.parametrize(
    "fault", ["[to nowhere](nowhere.md)", "[to no heading](index.md#nothing)", "[elsewhere](../README.md)", None]
)
def test_what_is_broken_is_told(tmp_path: Path, fault: str | None) -> None:
    pages_of = tmp_path / "pages"
    pages_of.mkdir()
    (pages_of / "index.md").write_text(f"# One\n\n{fault or ''}\n", "utf-8")
    if fault is None:
        (pages_of / "orphan.md").write_text("# Another\n", "utf-8")
    given = {"docs_dir": str(pages_of), "site_dir": str(tmp_path / "made"), "hooks": [], "plugins": []}
    config = load_config(str(ROOT / "mkdocs.yml"), nav=["index.md"], strict=True, theme="mkdocs", **given)
    with pytest.raises(Abort):
        build(config)

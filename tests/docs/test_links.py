"""Links lead somewhere, and every page can be reached from the README."""

from __future__ import annotations

import os.path

import pytest

from tests.docs.pages import ROOT, pages

PAGES = {page.name: page for page in pages()}


def target(page: str, link: str) -> str:
    path = link.partition("#")[0]
    return os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page


@pytest.mark.parametrize("page", PAGES.values(), ids=lambda page: page.name)
def test_links_lead_to_a_file_and_a_heading(page):
    for link in page.links:
        path = target(page.name, link)
        assert (ROOT / path).exists(), f"{page.name}: {link}"
        if anchor := link.partition("#")[2]:
            assert anchor in PAGES[path].anchors, f"{page.name}: {link}"


def test_every_page_is_reached_from_the_readme():
    reached: set[str] = set()
    ahead = ["README.md"]
    while ahead:
        name = ahead.pop()
        reached.add(name)
        ahead += {target(name, link) for link in PAGES[name].links} & PAGES.keys() - reached
    assert sorted(PAGES.keys() - reached) == []


def test_every_finding_is_told_of():
    assert [
        path.name for path in (ROOT / "findings").iterdir() if f"`{path.name}`" not in PAGES["docs/findings.md"].text
    ] == []


def test_every_picture_is_shown():
    shown = {target(page.name, link) for page in PAGES.values() for link in page.links}
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/pictures").iterdir()} <= shown

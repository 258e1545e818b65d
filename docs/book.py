"""A hook of mkdocs: what the book has beside the pages of docs/. The README is its first page, CONTRIBUTING is there,
public names with their docstrings, and every page that the navigation names by a pattern."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import stemma

ROOT = Path(__file__).parent.parent
OUTSIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}
ICON = ROOT / "stemma/server/cache/static/icon.svg"
LINK = re.compile(r"(\]\()([^()\s#]+)((?:#[^()\s]*)?\))")
API = """# Public names

What `import stemma` has, with what the docstrings say. Everything else may change.

"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what stands elsewhere, and write out the navigation."""
    for name, inside in OUTSIDE.items():
        files.append(File.generated(config, inside, content=(ROOT / name).read_text(encoding="utf-8")))
    files.append(File.generated(config, "icon.svg", abs_src_path=str(ICON)))
    names = "\n".join(f"::: stemma.{name}\n" for name in stemma.__all__)
    files.append(File.generated(config, "api.md", content=API + names))
    pages = sorted(file.src_uri for file in files.documentation_pages())
    config.nav = _written_out(config.nav or [], pages, _named(config.nav or []))
    return files


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, files: Files) -> str:
    """Links to and from what stood elsewhere."""
    here = page.file.src_uri
    if here in OUTSIDE.values():
        return LINK.sub(lambda found: found[1] + _inside(found[2]) + found[3], markdown)
    up = "../" * here.count("/")
    for name, inside in OUTSIDE.items():
        markdown = markdown.replace(f"]({up}../{name}", f"]({up}{inside}")
    return markdown


def _inside(link: str) -> str:
    return OUTSIDE.get(link, link.removeprefix("docs/")) + ("/README.md" if (ROOT / link).is_dir() else "")


def _named(nav: Any) -> set[str]:
    """The pages that it names without a pattern."""
    if isinstance(nav, str):
        return {nav}
    return set().union(*(_named(item) for item in (nav.values() if isinstance(nav, dict) else nav)))


def _written_out(nav: Any, pages: list[str], named: set[str]) -> Any:
    if isinstance(nav, dict):
        return {title: _written_out(item, pages, named) for title, item in nav.items()}
    if isinstance(nav, str):
        return nav
    found: list[Any] = []
    for item in nav:
        if isinstance(item, str) and "*" in item:
            found += [page for page in pages if fnmatch(page, item) and page not in named]
        else:
            found.append(_written_out(item, pages, named))
    return found

"""The pages that people read, taken apart: code blocks, words in backticks, links and headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parent.parent.parent
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^|\n\n)((?:    .*\n|\n)+)")
PROGRAMS = ("README.md", "docs/dsl.md", "docs/chat.md", "docs/structured.md")  # run by tests/stemma/lang/test_docs.py
OWN_ENGINES = ("docs/drafts.md", "docs/scale/parallel.md")  # likewise
PARTS = (
    "docs/radix.md",
    "docs/fsm.md",
    "docs/model.md",
    "docs/scale/events.md",
    "docs/scale/README.md",
)  # run by tests/docs/test_blocks.py
QUOTES = ("docs/architecture.md", "docs/howto/*.md")  # lines of files that are there, or that a reader is to write
LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Page:
    name: str  # from the root, e.g. docs/radix.md
    text: str

    @property
    def prose(self) -> str:
        """The page without its code blocks."""
        return FENCE.sub("", self.text)

    def blocks(self, *languages: str) -> list[str]:
        return [dedent(code) for _, language, code in FENCE.findall(self.text) if language in languages]

    def section(self, heading: str) -> Page:
        return Page(self.name, self.text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0])

    @property
    def pictures(self) -> list[str]:
        """What is drawn or listed in plain blocks."""
        return self.blocks("") + INDENTED.findall(self.prose)

    @property
    def commands(self) -> list[str]:
        """Lines for a shell: in blocks for one, in indented blocks, or in backticks."""
        lines = "\n".join([*self.blocks("sh", "bash"), *self.pictures]).replace("\\\n", " ").splitlines()
        return [line.strip() for line in lines] + self.spans

    @property
    def spans(self) -> list[str]:
        """What stands in backticks, joined where a line ends inside."""
        return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", self.prose)]

    @property
    def links(self) -> list[str]:
        return [link for link in LINK.findall(self.prose) if "://" not in link]

    @property
    def anchors(self) -> set[str]:
        """What its headings are called in links, as GitHub makes it."""
        headings = (heading.lower().replace("`", "") for heading in HEADING.findall(self.prose))
        return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in headings}


def page(name: str) -> Page:
    return Page(name, (ROOT / name).read_text("utf-8"))


def served() -> list[Page]:
    """Pages on serving that have Python: tests/stemma/server/test_docs.py runs it."""
    names = ["docs/serving.md", *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("docs/serving/*.md"))]
    return [found for found in map(page, names) if found.blocks("python")]


def pages() -> list[Page]:
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [Page(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in paths if path.exists()]

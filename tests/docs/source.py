"""What the repository has: its files, and the names that its code defines or uses."""

from __future__ import annotations

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from tests.docs.pages import ROOT

TOPS = ("benchmarks", "deploy", "docs", "examples", "findings", "fsm", "kernels", "radix", "runtime", "stemma", "tests")
PRODUCT = ("fsm", "kernels", "radix", "runtime", "stemma", "benchmarks")


@cache
def files() -> list[str]:
    """All files, from the root, without the links by which the package finds its folders, with a / before them."""
    found = [
        name
        for top in TOPS
        for folder, _, names in os.walk(ROOT / top)
        for name in (f"{folder}/{each}" for each in names)
    ]
    paths = [name.removeprefix(str(ROOT)) for name in found if "__pycache__" not in name]
    return [*paths, *(f"/{path.name}" for path in ROOT.iterdir() if path.is_file())]


def has_file(path: str, below: str = "") -> bool:
    """Whether there is a file whose path ends so; below: the folder it has to stand in, from the root."""
    return any(fnmatch(name, f"/{below}*/{path}") or fnmatch(name, f"/{below}{path}") for name in files())


def text_of(path: str) -> str:
    """Of all files whose path ends so."""
    return "\n".join((ROOT / name[1:]).read_text("utf-8") for name in files() if name.endswith(f"/{path}"))


def has_folder(path: str) -> bool:
    return any(f"/{path}" in name for name in files())


def trees(*tops: str) -> Iterator[ast.Module]:
    """The modules below these folders; links to folders are left alone."""
    for name in files():
        if name.endswith(".py") and name[1:].startswith(tuple(f"{top}/" for top in tops)):
            yield ast.parse((ROOT / name[1:]).read_text("utf-8"))


class Names(ast.NodeVisitor):
    """words: every name in the code, and every text in it that is one word; what docstrings say does not count.
    defined: classes, functions, imported names, and whatever is assigned. members: the attributes of each class."""

    def __init__(self) -> None:
        self.words: set[str] = set()
        self.defined: set[str] = set()
        self.members: dict[str, set[str]] = {}
        self.bases: dict[str, list[str]] = {}
        self._classes: list[str] = []

    def generic_visit(self, node: ast.AST) -> None:
        found: str | None = None
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found = name
            case ast.alias(name=name, asname=asname):
                found = asname or name
                self.words.update(name.split("."))
            case ast.Attribute(value=ast.Name(id="self"), attr=name) if self._classes:
                self.members[self._classes[-1]].add(name)
                self.words.add(name)
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                self.words.add(name)
            case ast.Constant(value=str(text)) if re.fullmatch(r"[\w.-]+", text):
                self.words.add(text)
        if found is not None:
            self.words.add(found)
            self.defined.add(found)
            if self._classes:
                self.members[self._classes[-1]].add(found)
        super().generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.words.add(node.name)
        self.defined.add(node.name)
        self.members.setdefault(node.name, set())
        self.bases.setdefault(node.name, []).extend(base.id for base in node.bases if isinstance(base, ast.Name))
        self._classes.append(node.name)
        self.generic_visit(node)
        self._classes.pop()


@cache
def names() -> Names:
    """Of the product and the benchmarks; of the tests, what stands in no function."""
    found = Names()
    for tree in trees(*PRODUCT):
        found.visit(tree)
    tests = Names()
    for node in (node for tree in trees("tests") for node in tree.body):
        tests.visit(
            node if isinstance(node, ast.Assign | ast.AnnAssign) else ast.Name(getattr(node, "name", ""), ast.Store())
        )
    found.words |= tests.defined
    found.defined |= tests.defined
    found.words.update(part for name in files() for part in Path(name).with_suffix("").parts)
    for name, members in found.members.items():
        members.update(*(found.members.get(base, set()) for base in found.bases[name]))
    return found


@cache
def requirements() -> set[str]:
    """Packages that pyproject.toml names, and its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    packages = {re.split(r"[\[<>=; ]", item)[0] for group in groups for item in group}
    return packages | set(project["optional-dependencies"])

"""A grammar in Lark's notation as small trees: what stands in a definition, and the statements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal as OneOf
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Name:
    """A rule, a terminal or a template's parameter."""

    name: str
    line: int

    @property
    def is_terminal(self) -> bool:
        return self.name.isupper()


@dataclass(frozen=True, slots=True)
class Quoted:
    """A text, with `i` among the flags in any case."""

    value: str
    flags: str
    line: int


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression between slashes."""

    value: str
    flags: str
    line: int


@dataclass(frozen=True, slots=True)
class Span:
    """`"a".."z"`."""

    low: str
    high: str
    line: int


@dataclass(frozen=True, slots=True)
class Marker:
    """A special token."""

    text: str
    line: int


@dataclass(frozen=True, slots=True)
class Usage:
    """A template with arguments."""

    name: str
    arguments: tuple[Tree, ...]
    line: int


@dataclass(frozen=True, slots=True)
class Row:
    """The parts, one after the other."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Alternatives:
    """Any of the parts."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Times:
    """`part` so many times."""

    part: Tree
    minimum: int
    maximum: int | None


@dataclass(frozen=True, slots=True)
class Aliased:
    """`part -> name`: what the tree would be called, which says nothing about texts."""

    part: Tree
    line: int


Tree = Name | Quoted | Pattern | Span | Marker | Usage | Row | Alternatives | Times | Aliased


class Definition(NamedTuple):
    """A rule or a terminal, or a template of one with parameters."""

    name: str
    parameters: tuple[str, ...]
    body: Tree
    line: int
    how: OneOf["new", "override", "extend"] = "new"


class Import(NamedTuple):
    """Names taken from a library, and what they are called here."""

    library: str
    names: dict[str, str]
    line: int


class Ignore(NamedTuple):
    body: Tree
    line: int


Statement = Definition | Import | Ignore

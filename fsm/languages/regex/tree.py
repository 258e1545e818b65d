"""What a regular expression says, as a small tree, and where its reader stands. It gives nothing a language."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal as OneOf

from stemma.fsm.errors import RegexError
from stemma.fsm.syntax.characters import Ranges

Dialect = OneOf["python", "ecma", "rust"]
"""Whose regular expressions: Python's `re`, ECMA-262 (JSON Schema), Rust's `regex` (pydantic)."""


@dataclass(frozen=True, slots=True)
class Class:
    """One character of a set."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Concat:
    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Either:
    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Repeated:
    part: Tree
    minimum: int
    maximum: int | None
    possessive: bool = False
    lazy: bool = False  # says nothing about whole texts, but which of several matches is preferred


@dataclass(frozen=True, slots=True)
class Assertion:
    """`start`, `end`, `last` (Python's `$`: the end, or before a last newline), a word `boundary` or `inside` one,
    between characters of which some are `word`."""

    kind: OneOf["start", "end", "last", "boundary", "inside"]
    word: Ranges = ()


@dataclass(frozen=True, slots=True)
class Ahead:
    """A look-ahead."""

    part: Tree
    negative: bool


@dataclass(frozen=True, slots=True)
class Behind:
    """A look-behind."""

    part: Tree
    negative: bool


Tree = Class | Concat | Either | Repeated | Assertion | Ahead | Behind
NO_TEXT = Concat(())


def widths(tree: Tree) -> tuple[int, float]:
    """The fewest and the most characters that a tree reads."""
    if isinstance(tree, Class):
        return 1, 1
    if isinstance(tree, (Concat, Either)):
        ways = [widths(part) for part in tree.parts] or [(0, 0)]
        least, most = zip(*ways, strict=True)
        return (sum(least), sum(most)) if isinstance(tree, Concat) else (min(least), max(most))
    if isinstance(tree, Repeated):
        low, high = widths(tree.part)
        return low * tree.minimum, high and high * (math.inf if tree.maximum is None else tree.maximum)
    return 0, 0


class Source:
    """A pattern and the place in it that is read next."""

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    def error(self, message: str) -> RegexError:
        return RegexError(message, self.pattern, self.at)

    def peek(self) -> str:
        """The next character; nothing at the end."""
        return self.pattern[self.at] if self.at < len(self.pattern) else ""

    def next(self) -> str:
        if self.at >= len(self.pattern):
            raise self.error("the pattern ends too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def take(self, text: str) -> bool:
        """Whether `text` comes next; it is read then."""
        found = self.pattern.startswith(text, self.at)
        self.at += len(text) * found
        return found

    def until(self, end: str, what: str) -> str:
        """Everything before the next `end`, which is read too."""
        place = self.pattern.find(end, self.at)
        if place < 0:
            raise self.error(f"{what} without {end!r}")
        text = self.pattern[self.at : place]
        self.at = place + len(end)
        return text


@dataclass(slots=True)
class Flags:
    """What the flags in force say."""

    ignore_case: bool = False
    verbose: bool = False
    dot_all: bool = False
    ascii: bool = False

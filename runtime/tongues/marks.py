"""Marks: text of a template in which special tokens are the tokens, not their letters.

What a model writes around its calls and thoughts are tokens of their own where its vocabulary has them. A grammar asks
for these, never for text that looks like them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from stemma.fsm.syntax import ast
from stemma.fsm.syntax.nodes import ANY_TEXT, choice, concat, text, without

TAG = re.compile(r"<[^<>\s]+>|\[/?[A-Z][A-Z_]*\]")


@dataclass(frozen=True)
class Marks:
    """The special tokens of a vocabulary, by their texts."""

    specials: frozenset[str] = frozenset()

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        longest_first = sorted(self.specials, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")

    def node(self, literal: str) -> ast.Node:
        """The grammar of a literal."""
        parts: list[ast.Node] = []
        end = 0
        for found in self._pattern.finditer(literal):
            parts += [text(literal[end : found.start()]), ast.Special(found[0])]
            end = found.end()
        return concat([part for part in (*parts, text(literal[end:])) if part != text("")])

    def inside(self, literal: str) -> set[str]:
        """The special tokens in a literal."""
        return set(self._pattern.findall(literal))

    def first(self, literal: str) -> str:
        """What a literal begins with that can be told apart from text: a special token, a tag, or all of it."""
        found = self._pattern.match(literal) or TAG.match(literal)
        return found[0] if found else literal


def free_text(*closers: str) -> ast.Node:
    """Any text in which none of these stands, not even spelled out."""
    kept = [closer for closer in closers if closer]
    if not kept:
        return ANY_TEXT
    return without(ANY_TEXT, concat([ANY_TEXT, choice(map(text, kept)), ANY_TEXT]))


def held(buffer: str, endings: Collection[str]) -> int:
    """Characters at the end of a text that may become the beginning of one of these."""
    longest = max(map(len, endings), default=1)
    for length in range(min(longest - 1, len(buffer)), 0, -1):
        tail = buffer[-length:]
        if any(ending.startswith(tail) for ending in endings):
            return length
    return 0


def earliest(buffer: str, wanted: Collection[str]) -> tuple[int, str] | None:
    """Where the first of these stands, the longer one where two begin at a place."""
    places = [(at, -len(each), each) for each in wanted if each and (at := buffer.find(each)) >= 0]
    if not places:
        return None
    at, _, each = min(places)
    return at, each

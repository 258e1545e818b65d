"""Regular expressions as forms: `Regex(pattern)` is what `re.fullmatch(pattern, text)` accepts.

Also `search_language`, what JSON Schema's `pattern` means. Anchors, word boundaries, look-ahead and possessive repeats
are resolved against what follows them, so the automaton never meets them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal as OneOf

from stemma.fsm import characters
from stemma.fsm.ast import Characters, Choice, Grammar, Node, Repeat, Sequence
from stemma.fsm.errors import RegexError
from stemma.fsm.nodes import ANY_TEXT, EMPTY, NOTHING, both, choice, nullable, repeat, sequence, text, without
from stemma.fsm.recogniser import Recogniser, no_rules
from stemma.fsm.regex_parser import (
    Ahead,
    Assertion,
    Class,
    Concat,
    Either,
    Flavour,
    Parser,
    Repeated,
    Tree,
)

Before = OneOf["start", "word", "other", "unknown"]
"""What was read last: nothing at all, a word character, another one, or one of either kind."""

MAXIMUM_UNROLLED = 8


@dataclass(frozen=True, slots=True)
class Regex:
    """A text that matches a regular expression in Python's syntax as a whole; raises `RegexError` when used."""

    pattern: str

    def language(self) -> Node:
        return _Translator(self.pattern, "python").whole()

    def grammar(self) -> Grammar:
        return Grammar(self.language(), no_rules)


def search_language(pattern: str) -> Node:
    """Every text in which an ECMA-262 regular expression is found somewhere, as JSON Schema's `pattern` asks."""
    return _Translator(pattern, "ecma").search()


class _Translator:
    """Gives a parsed pattern its language, from the end backwards: `then` is the language of all that follows."""

    def __init__(self, pattern: str, flavour: Flavour) -> None:
        self.pattern = pattern
        self.tree = Parser(pattern, flavour).parse()
        self.word = self.word_characters(flavour)

    def word_characters(self, flavour: Flavour) -> characters.Ranges:
        if flavour == "python" and _has_boundary(self.tree):
            return characters.unicode_class("w")
        return characters.ASCII_WORD

    def whole(self) -> Node:
        return self.before(self.tree, EMPTY, "start")

    def search(self) -> Node:
        anything = Repeated(Class(characters.SCALARS), 0, None)
        return _beside_anything(self.after((anything, self.tree), ANY_TEXT, "start"))

    def before(self, tree: Tree, then: Node, last: Before) -> Node:
        """The language of `tree` and then `then`, after a character of the kind `last`."""
        if not _is_special(tree):
            return sequence((self.plain(tree), then))
        if isinstance(tree, Concat):
            return self.after(tree.parts, then, last)
        if isinstance(tree, Either):
            return choice(self.before(part, then, last) for part in tree.parts)
        if isinstance(tree, Ahead):
            found = self.before(tree.part, ANY_TEXT, last)
            return without(then, found) if tree.negative else both(then, found)
        if isinstance(tree, Assertion):
            return self.asserted(tree, then, last)
        assert isinstance(tree, Repeated), "every special tree is known"
        return self.possessive(tree, then) if tree.possessive else self.unrolled(tree, then, last)

    def after(self, parts: tuple[Tree, ...], then: Node, last: Before) -> Node:
        """A concatenation; where a later part asks what came before it, the parts before are told apart by that."""
        count = next((index for index, part in enumerate(parts) if _is_special(part)), len(parts))
        body, tail = self.plain(Concat(parts[:count])), parts[count:]
        if not tail or body == EMPTY:
            return sequence((body, self.from_special(tail, then, last) if tail else then))
        ways = [self.from_special(tail, then, last)] if nullable(body) else []
        if any(map(_has_boundary, tail)):
            word, other = Characters(self.word), Characters(characters.complement(self.word))
            ways.append(sequence((both(body, sequence((ANY_TEXT, word))), self.from_special(tail, then, "word"))))
            ways.append(sequence((both(body, sequence((ANY_TEXT, other))), self.from_special(tail, then, "other"))))
        else:
            ways.append(sequence((body, self.from_special(tail, then, "unknown"))))
        return choice(ways)

    def from_special(self, parts: tuple[Tree, ...], then: Node, last: Before) -> Node:
        """A concatenation whose first part asserts something."""
        head, tail = parts[0], parts[1:]
        if isinstance(head, Assertion | Ahead):
            return self.before(head, self.after(tail, then, last), last)
        if any(map(_asks_before, tail)):
            raise self.error("an anchor or boundary after a group with anchors of its own is not supported")
        return self.before(head, self.after(tail, then, "unknown"), last)

    def error(self, message: str) -> RegexError:
        return RegexError(f"{message}; write the alternatives out", self.pattern, 0)

    def asserted(self, tree: Assertion, then: Node, last: Before) -> Node:
        if tree.kind == "start":
            return then if last == "start" else NOTHING
        if tree.kind in ("end", "last"):
            rest: list[Node] = [EMPTY] if nullable(then) else []
            if tree.kind == "last" and Recogniser().matches(then, "\n"):
                rest.append(text("\n"))
            return choice(rest)
        if last == "unknown":
            raise self.error("a word boundary here is not supported")
        word = sequence((Characters(self.word), ANY_TEXT))
        other = choice((EMPTY, sequence((Characters(characters.complement(self.word)), ANY_TEXT))))
        wants_word = (last != "word") == (tree.kind == "boundary")
        return both(then, word if wants_word else other)

    def possessive(self, tree: Repeated, then: Node) -> Node:
        """`x*+`: no more of `x` may follow where it stopped short of its maximum."""
        if not isinstance(tree.part, Class):
            raise self.error("a possessive repeat of more than one character is not supported")
        body = Characters(tree.part.ranges)
        stopped = both(then, choice((EMPTY, sequence((Characters(characters.complement(body.ranges)), ANY_TEXT)))))
        if tree.maximum is None:
            return sequence((repeat(body, tree.minimum, None), stopped))
        full = sequence((repeat(body, tree.maximum, tree.maximum), then))
        if tree.maximum == tree.minimum:
            return full
        return choice((sequence((repeat(body, tree.minimum, tree.maximum - 1), stopped)), full))

    def unrolled(self, tree: Repeated, then: Node, last: Before) -> Node:
        """A repeat of something with anchors inside: only few rounds can be told apart."""
        if tree.maximum is None or tree.maximum > MAXIMUM_UNROLLED:
            raise self.error(f"anchors or look-ahead in a repeat of more than {MAXIMUM_UNROLLED} are not supported")
        rounds = range(tree.minimum, tree.maximum + 1)
        return choice(self.after((tree.part,) * count, then, last) for count in rounds)

    def plain(self, tree: Tree) -> Node:
        """The language of a tree that asserts nothing."""
        if isinstance(tree, Class):
            return Characters(tree.ranges) if tree.ranges else NOTHING
        if isinstance(tree, Concat):
            return sequence(_joined(map(self.plain, tree.parts)))
        if isinstance(tree, Either):
            return choice(map(self.plain, tree.parts))
        assert isinstance(tree, Repeated), "assertions are never plain"
        return repeat(self.plain(tree.part), tree.minimum, tree.maximum)


def _beside_anything(node: Node) -> Node:
    """The same language, without what makes no difference beside any text: `.*` there is nothing, `.+` is `.`."""
    if isinstance(node, Choice):
        return choice(map(_beside_anything, node.parts))
    if not isinstance(node, Sequence):
        return node
    parts = _needed_after_anything(_needed_after_anything(node.parts)[::-1])[::-1]
    return sequence(parts)


def _needed_after_anything(parts: Iterable[Node]) -> list[Node]:
    """Parts of a sequence, less what any text before them covers."""
    needed: list[Node] = []
    for part in parts:
        is_beside = bool(needed) and needed[-1] == ANY_TEXT
        if is_beside and nullable(part):
            continue
        if is_beside and isinstance(part, Repeat):
            part = repeat(part.part, part.minimum, part.minimum)
        needed.append(part)
    return needed


def _joined(parts: Iterable[Node]) -> list[Node]:
    """Single characters as text, so that words stay short."""
    return [text(chr(part.ranges[0][0])) if isinstance(part, Characters) and len(part.ranges) == 1
            and part.ranges[0][0] == part.ranges[0][1] else part for part in parts]  # fmt: skip


def _is_special(tree: Tree) -> bool:
    """Whether a tree holds anything that looks at its surroundings."""
    if isinstance(tree, Concat | Either):
        return any(map(_is_special, tree.parts))
    if isinstance(tree, Repeated):
        return tree.possessive or _is_special(tree.part)
    return isinstance(tree, Assertion | Ahead)


def _has_boundary(tree: Tree) -> bool:
    if isinstance(tree, Concat | Either):
        return any(map(_has_boundary, tree.parts))
    if isinstance(tree, Repeated | Ahead):
        return _has_boundary(tree.part)
    return isinstance(tree, Assertion) and tree.kind in ("boundary", "inside")


def _asks_before(tree: Tree) -> bool:
    """Whether a tree asks what came before it."""
    if isinstance(tree, Concat | Either):
        return any(map(_asks_before, tree.parts))
    if isinstance(tree, Repeated | Ahead):
        return _asks_before(tree.part)
    return isinstance(tree, Assertion) and tree.kind not in ("end", "last")

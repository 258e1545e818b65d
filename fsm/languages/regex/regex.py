"""Regular expressions as forms: `Regex(pattern)` is what `re.fullmatch(pattern, text)` accepts.

Also `search_language`, what JSON Schema's `pattern` means. Anchors, word boundaries, looking around and possessive
repeats are resolved against what follows and what came before, so the automaton never meets them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from stemma.fsm.errors import LimitError, RegexError
from stemma.fsm.languages.regex.parser import Parser
from stemma.fsm.languages.regex.tree import Ahead, Assertion, Behind, Class, Concat, Dialect, Either, Repeated, Tree
from stemma.fsm.syntax import characters
from stemma.fsm.syntax.ast import Characters, Choice, Concatenation, Difference, Grammar, Intersection, Node, Repeat
from stemma.fsm.syntax.characters import Ranges
from stemma.fsm.syntax.nodes import (
    ANY_TEXT,
    EMPTY,
    NOTHING,
    both,
    choice,
    concat,
    lengths,
    nullable,
    repeat,
    text,
    without,
)
from stemma.fsm.syntax.recogniser import Recogniser, no_rules
from stemma.fsm.syntax.rule_facts import possible
from stemma.fsm.work import count_work

STEP_WORK = 20  # of one part that looks at its surroundings, in one of its ways
MAXIMUM_UNROLLED = 8
MAXIMUM_KINDS = 16  # of characters before a place that are told apart
EMPTY_HAS_INSIDE = re.search(r"\B", "") is not None  # Python 3.14 finds \B in the empty text, earlier ones do not


@dataclass(frozen=True, slots=True)
class Before:
    """What may have been read last: nothing at all (`at_start`), or one of `ranges`."""

    at_start: bool
    ranges: Ranges


START = Before(True, ())


@dataclass(frozen=True, slots=True)
class Regex:
    """A text that matches a regular expression as a whole; raises `RegexError` when used. The syntax is Python's."""

    pattern: str
    dialect: Dialect = "python"

    def language(self) -> Node:
        return _Translator(self.pattern, self.dialect).whole()

    def grammar(self) -> Grammar:
        try:
            language = possible(self.language(), set())
        except RecursionError:
            raise LimitError(
                "the expression has too many anchors, look-arounds or possessive repeats in a row; write the texts out"
            ) from None
        if language == NOTHING:
            raise RegexError("no text matches this", self.pattern, 0)
        return Grammar(language, no_rules)


def search_language(pattern: str, dialect: Dialect = "ecma") -> Node:
    """Every text in which a regular expression is found somewhere: as ECMA-262, what JSON Schema's `pattern` asks;
    as Rust's or Python's, what pydantic asks."""
    return _Translator(pattern, dialect).search()


def language_ahead(tree: Tree, pattern: str) -> Node:
    """Every text that begins with what a part of Python's `pattern` says: what a look-ahead sees."""
    return _Translator(pattern, "python", tree).before(tree, ANY_TEXT, Before(False, characters.SCALARS))


class _Translator:
    """Gives a parsed pattern its language, from the end backwards: `then` is the language of all that follows."""

    def __init__(self, pattern: str, dialect: Dialect, tree: Tree | None = None) -> None:
        self.pattern = pattern
        self.dialect = dialect
        self.tree = Parser(pattern, dialect).parse() if tree is None else tree

    def whole(self) -> Node:
        return self.before(self.tree, EMPTY, START)

    def search(self) -> Node:
        anything = Repeated(Class(characters.SCALARS), 0, None)
        return _beside_anything(self.after((anything, self.tree), ANY_TEXT, START))

    def before(self, tree: Tree, then: Node, last: Before) -> Node:
        """The language of `tree` and then `then`, after a character of the kind `last`."""
        count_work(STEP_WORK)
        if not _is_special(tree):
            return concat((self.plain(tree), then))
        if isinstance(tree, Concat):
            return self.after(tree.parts, then, last)
        if isinstance(tree, Either):
            return choice(self.before(part, then, last) for part in tree.parts)
        if isinstance(tree, Ahead):
            found = self.before(tree.part, ANY_TEXT, last)
            return _seen_ahead(then, found, tree.negative)
        if isinstance(tree, Behind):
            return self.behind(tree, then, last)
        if isinstance(tree, Assertion):
            return self.asserted(tree, then, last)
        assert isinstance(tree, Repeated), "a character is never special"
        return self.possessive(tree, then) if tree.possessive else self.unrolled(tree, then, last)

    def after(self, parts: tuple[Tree, ...], then: Node, last: Before) -> Node:
        """A concatenation; where a later part asks what came before it, the parts before are told apart by that."""
        count = next((index for index, part in enumerate(parts) if _is_special(part)), len(parts))
        body, tail = Concat(parts[:count]), parts[count:]
        ending = _ending(body, last) if any(map(_asks_before, tail)) else last
        return self.behind_body(self.plain(body), ending, tail, then, last)

    def behind_body(self, body: Node, ending: Before, tail: tuple[Tree, ...], then: Node, last: Before) -> Node:
        """`body`, which stands after `last` and ends in `ending`, then the parts `tail` and `then`."""
        if not tail or body == EMPTY:
            return concat((body, self.from_special(tail, then, last) if tail else then))
        if not any(map(_asks_before, tail)):
            return concat((body, self.from_special(tail, then, ending)))
        if isinstance(tail[0], Behind) and not isinstance(tail[0].part, Class):
            return self.behind_long(body, tail, then, last)
        ways = [self.from_special(tail, then, last)] if nullable(body) else []
        kinds = self.kinds(ending.ranges, tail)
        for kind in kinds:
            rest = self.from_special(tail, then, Before(False, kind))
            if len(kinds) > 1 or nullable(body):
                ways.append(concat((both(body, concat((ANY_TEXT, Characters(kind)))), rest)))
            else:
                ways.append(concat((body, rest)))
        return choice(ways)

    def kinds(self, ranges: Ranges, tail: tuple[Tree, ...]) -> list[Ranges]:
        """`ranges` in as many parts as the parts of `tail` may have to tell apart."""
        kinds = [ranges]
        for asked in dict.fromkeys(found for part in tail for found in _asked(part)):
            halves = [(characters.intersection(kind, asked), characters.difference(kind, asked)) for kind in kinds]
            kinds = [half for pair in halves for half in pair if half]
        if len(kinds) > MAXIMUM_KINDS:
            raise self.error("too many kinds of characters are looked back at here")
        return kinds

    def behind_long(self, body: Node, tail: tuple[Tree, ...], then: Node, last: Before) -> Node:
        """A look-behind at more than one character: `body` must be all that it can see."""
        head = tail[0]
        assert isinstance(head, Behind), "the caller looked"
        found = self.looked_behind(head)
        longest = lengths(found)[1]
        if last != START and (longest is None or longest > lengths(body)[0]):
            raise self.error("a look-behind that sees more than the texts before it is not supported")
        seen = concat((ANY_TEXT, found))
        body = without(body, seen) if head.negative else both(body, seen)
        rest = tail[1:]
        count = next((index for index, part in enumerate(rest) if _is_special(part)), len(rest))
        more = Concat(rest[:count])
        ending = _ending(more, Before(last.at_start, characters.SCALARS))
        return self.behind_body(concat((body, self.plain(more))), ending, rest[count:], then, last)

    def looked_behind(self, tree: Behind) -> Node:
        """What a look-behind looks for."""
        if _is_special(tree.part):
            raise self.error("looking around inside a look-behind is not supported")
        return self.plain(tree.part)

    def behind(self, tree: Behind, then: Node, last: Before) -> Node:
        """A look-behind at what is known of the last character."""
        found = self.looked_behind(tree)
        if last == START:
            is_found: bool | None = nullable(found)
        elif isinstance(tree.part, Class):
            is_found = self.decided(last, tree.part.ranges)
        else:
            is_found = True if nullable(found) else None
        if is_found is None:
            raise self.error("a look-behind that sees more than the texts before it is not supported")
        return then if is_found != tree.negative else NOTHING

    def decided(self, last: Before, ranges: Ranges) -> bool | None:
        """Whether the last character is one of `ranges`; None if it may be or not."""
        count_work(len(last.ranges))
        inside = characters.intersection(last.ranges, ranges)
        if not inside:
            return False
        return True if inside == last.ranges and not last.at_start else None

    def from_special(self, parts: tuple[Tree, ...], then: Node, last: Before) -> Node:
        """A concatenation whose first part looks around."""
        head, tail = parts[0], parts[1:]
        if isinstance(head, (Assertion, Ahead, Behind)):
            return self.before(head, self.after(tail, then, last), last)
        if not any(map(_asks_before, tail)):
            return self.before(head, self.after(tail, then, last), last)
        if isinstance(head, Concat):
            return self.after((*head.parts, *tail), then, last)
        if isinstance(head, Either):
            return choice(self.after((part, *tail), then, last) for part in head.parts)
        return self.before(head, self.after(tail, then, _ending(head, last)), last)

    def error(self, message: str) -> RegexError:
        return RegexError(f"{message}; write the alternatives out", self.pattern, 0)

    def asserted(self, tree: Assertion, then: Node, last: Before) -> Node:
        if tree.kind == "start":
            if last.at_start and last.ranges:
                raise self.error("an anchor after a group with anchors of its own is not supported")
            return then if last.at_start else NOTHING
        if tree.kind in ("end", "last"):
            rest: list[Node] = [EMPTY] if nullable(then) else []
            if tree.kind == "last" and Recogniser().matches(then, "\n"):
                rest.append(text("\n"))
            return choice(rest)
        is_word = self.decided(last, tree.word)
        if is_word is None:
            raise self.error("a word boundary here is not supported")
        word = concat((Characters(tree.word), ANY_TEXT))
        other = concat((Characters(characters.complement(tree.word)), ANY_TEXT))
        ends: Node = EMPTY
        if last == START and tree.kind == "inside" and self.dialect == "python" and not EMPTY_HAS_INSIDE:
            ends = NOTHING
        wants_word = is_word != (tree.kind == "boundary")
        return both(then, word if wants_word else choice((ends, other)))

    def possessive(self, tree: Repeated, then: Node) -> Node:
        """`x*+`: no more of `x` may follow where it stopped short of its maximum."""
        if not isinstance(tree.part, Class):
            raise self.error("a possessive repeat of more than one character is not supported")
        body = Characters(tree.part.ranges)
        stopped = both(then, choice((EMPTY, concat((Characters(characters.complement(body.ranges)), ANY_TEXT)))))
        if tree.maximum is None:
            return concat((repeat(body, tree.minimum, None), stopped))
        full = concat((repeat(body, tree.maximum, tree.maximum), then))
        if tree.maximum == tree.minimum:
            return full
        return choice((concat((repeat(body, tree.minimum, tree.maximum - 1), stopped)), full))

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
            return concat(_joined(map(self.plain, tree.parts)))
        if isinstance(tree, Either):
            return choice(map(self.plain, tree.parts))
        assert isinstance(tree, Repeated), "assertions are never plain"
        return repeat(self.plain(tree.part), tree.minimum, tree.maximum)


def _seen_ahead(then: Node, found: Node, negative: bool) -> Node:
    """`then`, where `found` is seen ahead, or is not. Looks stand beside each other, apart from the text they look at:
    what that counts is counted beside all of them, and not once in each."""
    if type(then) is Intersection:
        return both(then.left, _seen_ahead(then.right, found, negative))
    if isinstance(then, Difference) and not negative:
        return both(then.left, without(found, then.right))
    return without(then, found) if negative else both(then, found)


def _beside_anything(node: Node) -> Node:
    """The same language, without what makes no difference beside any text: `.*` there is nothing, `.+` is `.`."""
    if isinstance(node, Choice):
        return choice(map(_beside_anything, node.parts))
    if not isinstance(node, Concatenation):
        return node
    parts = _needed_after_anything(_needed_after_anything(node.parts)[::-1])[::-1]
    return concat(parts)


def _needed_after_anything(parts: Iterable[Node]) -> list[Node]:
    """Parts of a concat, less what any text before them covers."""
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
    if isinstance(tree, (Concat, Either)):
        return any(map(_is_special, tree.parts))
    if isinstance(tree, Repeated):
        return tree.possessive or _is_special(tree.part)
    return isinstance(tree, (Assertion, Ahead, Behind))


def _asked(tree: Tree) -> Iterable[Ranges]:
    """The sets of characters that a tree tells apart before it."""
    if isinstance(tree, (Concat, Either)):
        for part in tree.parts:
            yield from _asked(part)
    elif isinstance(tree, (Repeated, Ahead)):
        yield from _asked(tree.part)
    elif isinstance(tree, Behind):
        if isinstance(tree.part, Class):
            yield tree.part.ranges
    elif isinstance(tree, Assertion) and tree.kind in ("boundary", "inside"):
        yield tree.word


def _ending(tree: Tree, last: Before) -> Before:
    """What may have been read last behind `tree`, which stands after `last`."""
    if isinstance(tree, Class):
        return Before(False, tree.ranges)
    if isinstance(tree, Concat):
        for part in tree.parts:
            last = _ending(part, last)
        return last
    if isinstance(tree, Either):
        return _any_of([_ending(part, last) for part in tree.parts])
    if isinstance(tree, Repeated):
        once = _ending(tree.part, last)
        more = _any_of([once, _ending(tree.part, once)]) if tree.maximum != 1 else once
        return _any_of([last, more]) if tree.minimum == 0 else more
    return last


def _any_of(ways: list[Before]) -> Before:
    return Before(any(way.at_start for way in ways), characters.union(span for way in ways for span in way.ranges))


def _asks_before(tree: Tree) -> bool:
    """Whether a tree asks what came before it."""
    if isinstance(tree, (Concat, Either)):
        return any(map(_asks_before, tree.parts))
    if isinstance(tree, (Repeated, Ahead)):
        return _asks_before(tree.part)
    return isinstance(tree, Behind) or (isinstance(tree, Assertion) and tree.kind not in ("end", "last"))

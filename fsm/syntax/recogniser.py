"""The meaning of a grammar, plainly: the set of what may still follow, one character after the other.

The front ends ask it whether a text matches and whether a language is empty; tests hold the automaton against it.
It knows no bytes, tokens or masks, and is far too slow to generate with.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

from stemma.fsm.errors import LimitError
from stemma.fsm.syntax.ast import (
    Characters,
    Choice,
    Concatenation,
    Difference,
    Intersection,
    Literal,
    Node,
    Repeat,
    RuleRef,
    Special,
)
from stemma.fsm.syntax.characters import Ranges, contains
from stemma.fsm.work import count_work


@dataclass(frozen=True, eq=False, slots=True)
class Rest:
    """What must follow: `top` first, then `below`. Interned, so that identity is equality."""

    top: Node | str | Pair
    below: Rest | None


@dataclass(frozen=True, slots=True)
class Pair:
    """A difference or an intersection on its way: both sides advance together."""

    left: State
    right: State
    wants_right: bool


State = frozenset["Rest | None"]  # None: all has been matched


def no_rules(name: Hashable) -> Node:
    raise AssertionError(f"a regular language calls no rule, not {name!r}")


class Recogniser:
    """Steps through the texts of a grammar; memoises what it has seen."""

    def __init__(self, rule: Callable[[Hashable], Node] = no_rules, limit: int = 20_000) -> None:
        self.rule = rule
        self.limit = limit
        self.rules: dict[Hashable, Node] = {}
        self.interned: dict[tuple[object, int], Rest] = {}
        self.closures: dict[State, State] = {}
        self.classes: dict[tuple[frozenset[int], frozenset[int]], list[int]] = {}
        self.kept: list[Node] = []

    def matches(self, node: Node, text: str) -> bool:
        state = self.start(node)
        for character in text:
            state = self.advance(state, ord(character))
        return None in state

    def start(self, node: Node) -> State:
        self.kept.append(node)
        return self.closure(frozenset([self.push(node, None)]))

    def advance(self, state: State, code: int) -> State:
        """What may follow after one more character; empty where it cannot be."""
        count_work(len(state))
        after: set[Rest | None] = set()
        for rest in state:
            if rest is None:
                continue
            top = rest.top
            if isinstance(top, str):
                if ord(top[0]) == code:
                    after.add(self.push(top[1:], rest.below) if len(top) > 1 else rest.below)
            elif isinstance(top, Characters):
                if contains(top.ranges, code):
                    after.add(rest.below)
            elif isinstance(top, Pair):
                left = self.advance(top.left, code)
                if left:
                    after.add(self.push(Pair(left, self.advance(top.right, code), top.wants_right), rest.below))
        return self.closure(frozenset(after))

    def is_empty(self, node: Node) -> bool:
        """Whether no text at all matches; a `LimitError` where that cannot be found out in bounded time."""
        return not self.can_finish(self.start(node))

    def can_finish(self, state: State) -> bool:
        """Whether some text leads from here to the end."""
        seen, todo = {state}, [state]
        while todo:
            state = todo.pop()
            if None in state:
                return True
            if len(seen) > self.limit:
                raise LimitError(f"more than {self.limit} states to see whether a language is empty; simplify it")
            codes = self.representatives(state)
            count_work(len(codes) * len(state))
            for code in codes:
                after = self.advance(state, code)
                if after and after not in seen:
                    seen.add(after)
                    todo.append(after)
        return False

    def representatives(self, state: State) -> list[int]:
        """One character of each class that the state tells apart."""
        sets: dict[int, Ranges] = {}
        letters: set[int] = set()
        self._told_apart(state, sets, letters)
        key = frozenset(sets), frozenset(letters)
        if key not in self.classes:
            self.classes[key] = _classes(list(sets.values()), letters)
        return self.classes[key]

    def _told_apart(self, state: State, sets: dict[int, Ranges], letters: set[int]) -> None:
        """Collect what a state reads: sets of characters, by the identity of their nodes, and single ones."""
        for rest in state:
            if rest is None:
                continue
            if isinstance(rest.top, str):
                letters.add(ord(rest.top[0]))
            elif isinstance(rest.top, Characters):
                sets[id(rest.top)] = rest.top.ranges
            elif isinstance(rest.top, Pair):
                self._told_apart(rest.top.left, sets, letters)
                self._told_apart(rest.top.right, sets, letters)

    def push(self, top: Node | str | Pair, below: Rest | None) -> Rest:
        key = (top if isinstance(top, (str, Pair)) else id(top), id(below))
        found = self.interned.get(key)
        if found is None:
            if len(self.interned) > 50 * self.limit:
                raise LimitError("the language takes too many states to decide; simplify it")
            found = self.interned[key] = Rest(top, below)
        return found

    def closure(self, state: State) -> State:
        """`state` with everything expanded down to what reads a character."""
        found = self.closures.get(state)
        if found is not None:
            return found
        heads: set[Rest | None] = set()
        seen: set[int] = set()
        rounds: dict[tuple[int, int], float] = {}
        todo = list(state)
        while todo:
            rest = todo.pop()
            if id(rest) in seen or (rest is not None and self._is_covered(rest, rounds)):
                continue
            seen.add(id(rest))
            count_work(1)
            if rest is None:
                heads.add(None)
            else:
                self._expand(rest, heads, todo)
        self.closures[state] = frozenset(heads)
        return self.closures[state]

    @staticmethod
    def _is_covered(rest: Rest, rounds: dict[tuple[int, int], float]) -> bool:
        """Whether the same optional loop has been expanded here with at least as many rounds to go."""
        if not isinstance(rest.top, Repeat) or rest.top.minimum:
            return False
        key = (id(rest.top.part), id(rest.below))
        left = float("inf") if rest.top.maximum is None else rest.top.maximum
        if rounds.get(key, -1) >= left:
            return True
        rounds[key] = left
        return False

    def _expand(self, rest: Rest, heads: set[Rest | None], todo: list[Rest | None]) -> None:
        top, below = rest.top, rest.below
        if isinstance(top, (str, Characters)):
            heads.add(rest)
        elif isinstance(top, Literal):
            todo.append(self.push(top.data.decode(), below) if top.data else below)
        elif isinstance(top, Concatenation):
            for part in reversed(top.parts):
                below = self.push(part, below)
            todo.append(below)
        elif isinstance(top, Choice):
            todo += [self.push(part, below) for part in top.parts]
        elif isinstance(top, Repeat):
            self._expand_repeat(top, below, todo)
        elif isinstance(top, RuleRef):
            todo.append(self.push(self.called(top.rule), below))
        elif isinstance(top, (Difference, Intersection)):
            pair = Pair(self.start(top.left), self.start(top.right), isinstance(top, Intersection))
            todo.append(self.push(pair, below))
        elif isinstance(top, Pair):
            heads.add(rest)
            if None in top.left and (None in top.right) == top.wants_right:
                todo.append(below)
        else:
            assert isinstance(top, Special), "every node is known"

    def _expand_repeat(self, node: Repeat, below: Rest | None, todo: list[Rest | None]) -> None:
        if node.minimum == 0:
            todo.append(below)
        if node.maximum != 0:
            fewer = None if node.maximum is None else node.maximum - 1
            if fewer == 0:
                after = below
            elif node.minimum == 0 and fewer is None:
                after = self.push(node, below)
            else:
                after = self.push(self.shorter(node, fewer), below)
            todo.append(self.push(node.part, after))

    def shorter(self, node: Repeat, maximum: int | None) -> Repeat:
        """The same loop with one round less, one object a count."""
        name = ("repeat", id(node.part), max(node.minimum - 1, 0), maximum)
        found = self.rules.get(name)
        if not isinstance(found, Repeat):
            found = self.rules[name] = Repeat(node.part, max(node.minimum - 1, 0), maximum)
        return found

    def called(self, name: Hashable) -> Node:
        key = ("rule", name)
        if key not in self.rules:
            self.rules[key] = self.rule(name)
        return self.rules[key]


def _classes(sets: list[Ranges], letters: set[int]) -> list[int]:
    """The first character of each class: of those that lie in the same sets, and are not one of `letters` alone."""
    edges = {0, *(edge for ranges in sets for low, high in ranges for edge in (low, high + 1))}
    edges.update(edge for letter in letters for edge in (letter, letter + 1))
    count_work(len(edges) * (1 + len(sets)))
    found: dict[tuple[int, ...], int] = {}
    for code in sorted(edges):
        if code <= 0x10FFFF:
            found.setdefault((code if code in letters else -1, *(contains(ranges, code) for ranges in sets)), code)
    return list(found.values())

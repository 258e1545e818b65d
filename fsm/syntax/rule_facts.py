"""What is true of named rules, found by least fixed points: which can end, which call each other in circles.

Rules that no text fulfils are an error where something needs them; where there is a choice, they are left out, so that
no mask ever leads into them.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterator, Mapping

from stemma.fsm.errors import LimitError
from stemma.fsm.syntax.ast import (
    Characters,
    Choice,
    Concatenation,
    Difference,
    Grammar,
    Intersection,
    Node,
    Repeat,
    RuleRef,
)
from stemma.fsm.syntax.nodes import NOTHING, both, choice, concat, is_regular, repeat, without
from stemma.fsm.syntax.recogniser import Recogniser

Rules = Mapping[Hashable, Node]
MAXIMUM_RULES = 2_000
START = ("start",)
MAXIMUM_STATES = 2_000  # of a difference or an intersection that are looked at; beyond, it is taken for possible
FEW_STATES = 8  # of one inside another


def calls(node: Node) -> Iterator[Hashable]:
    """The rules that a node names."""
    if isinstance(node, RuleRef):
        yield node.rule
    elif isinstance(node, (Concatenation, Choice)):
        for part in node.parts:
            yield from calls(part)
    elif isinstance(node, Repeat):
        yield from calls(node.part)


def fulfilled(rules: Rules, holds: Callable[[Node, set[Hashable]], bool]) -> set[Hashable]:
    """The least set of rules of which `holds(node, set)` is true."""
    callers: dict[Hashable, list[Hashable]] = {}
    for name, node in rules.items():
        for called in set(calls(node)):
            callers.setdefault(called, []).append(name)
    found: set[Hashable] = set()
    todo = list(rules)
    while todo:
        name = todo.pop()
        if name not in found and holds(rules[name], found):
            found.add(name)
            todo += callers.get(name, ())
    return found


def holds_of(node: Node, rules: set[Hashable], of_leaf: Callable[[Node], bool]) -> bool:
    """Whether something holds of `node`: of calls of these rules, of all parts of a concat, of one alternative, of
    what may be left out; of the other nodes as `of_leaf` says."""
    if isinstance(node, RuleRef):
        return node.rule in rules
    if isinstance(node, Concatenation):
        return all(holds_of(part, rules, of_leaf) for part in node.parts)
    if isinstance(node, Choice):
        return any(holds_of(part, rules, of_leaf) for part in node.parts)
    if isinstance(node, Repeat):
        return node.minimum == 0 or holds_of(node.part, rules, of_leaf)
    return of_leaf(node)


def can_end(node: Node, possible: set[Hashable]) -> bool:
    """Whether some text fulfils `node`, when the rules `possible` have one."""
    return holds_of(node, possible, _leaf_can_end)


def _leaf_can_end(node: Node) -> bool:
    if isinstance(node, Characters):
        return bool(node.ranges)
    return not isinstance(node, (Difference, Intersection)) or not _is_empty(node)


def is_impossible(grammar: Grammar) -> bool:
    """Whether no text fulfils a grammar for sure: rules beyond the first MAXIMUM_RULES are taken for possible."""
    rules: dict[Hashable, Node] = {}
    todo = [START, *calls(grammar.start)]
    while todo and len(rules) < MAXIMUM_RULES:
        name = todo.pop()
        if name not in rules:
            rules[name] = grammar.start if name == START else grammar.rule(name)
            todo += calls(rules[name])
    return not todo and START not in fulfilled(rules, can_end)


def _is_empty(node: Node) -> bool:
    """Whether no text fulfils a difference or an intersection, as far as that is seen."""
    if not is_regular(node):
        return False
    node = _narrowed(node, {})
    return node == NOTHING or _is_seen_to_be_empty(node, MAXIMUM_STATES)


def _is_seen_to_be_empty(node: Node, num_states: int) -> bool:
    try:
        return Recogniser(limit=num_states).is_empty(node)
    except LimitError:
        return False


def _narrowed(node: Node, known: dict[int, Node]) -> Node:
    """The same language as a regular `node`, without the differences and intersections in it that are seen to be empty
    at a glance, innermost first: in a long row of them (`a++a++a++`) each holds all that follow."""
    found = known.get(id(node))
    if found is not None:
        return found
    if isinstance(node, Concatenation):
        parts = [_narrowed(part, known) for part in node.parts]
        found = NOTHING if NOTHING in parts else concat(parts)
    elif isinstance(node, Choice):
        found = choice(part for each in node.parts if (part := _narrowed(each, known)) != NOTHING)
    elif isinstance(node, Repeat):
        found = repeat(_narrowed(node.part, known), node.minimum, node.maximum)
    elif isinstance(node, (Difference, Intersection)):
        together = both if isinstance(node, Intersection) else without
        found = together(_narrowed(node.left, known), _narrowed(node.right, known))
        if isinstance(found, (Difference, Intersection)) and _is_seen_to_be_empty(found, FEW_STATES):
            found = NOTHING
    else:
        found = node
    known[id(node)] = found
    return found


def possible(node: Node, rules: set[Hashable]) -> Node:
    """`node` without the alternatives that can never end; NOTHING if none is left. What parts share stays shared."""
    return _possible(node, rules, {})


def _possible(node: Node, rules: set[Hashable], known: dict[int, Node]) -> Node:
    found = known.get(id(node))
    if found is not None:
        return found
    if isinstance(node, Concatenation):
        parts = [_possible(part, rules, known) for part in node.parts]
        found = NOTHING if NOTHING in parts else concat(parts)
    elif isinstance(node, Choice):
        found = choice(part for each in node.parts if (part := _possible(each, rules, known)) != NOTHING)
    elif isinstance(node, Repeat):
        found = repeat(_possible(node.part, rules, known), node.minimum, node.maximum)
    else:
        found = node if can_end(node, rules) else NOTHING
    known[id(node)] = found
    return found


def blamed(start: Hashable, rules: Rules, ends: set[Hashable], known: Container[Hashable]) -> Hashable:
    """Of the rules that cannot end, the one because of which `start` cannot; one of those that the user knows."""
    seen = {start}
    while True:
        impossible = [name for name in calls(rules[start]) if name not in ends and name in known]
        fresh = [name for name in impossible if name not in seen]
        if not fresh or start in impossible:
            return start
        start = fresh[0]
        seen.add(start)


def components(edges: Mapping[Hashable, set[Hashable]]) -> list[list[Hashable]]:
    """The strongly connected components of a graph (Tarjan 1972)."""
    number: dict[Hashable, int] = {}
    low: dict[Hashable, int] = {}
    path: list[Hashable] = []
    on_path: set[Hashable] = set()
    found: list[list[Hashable]] = []

    def enter(name: Hashable) -> tuple[Hashable, Iterator[Hashable]]:
        number[name] = low[name] = len(number)
        path.append(name)
        on_path.add(name)
        return name, iter(sorted((each for each in edges[name] if each in edges), key=str))

    for root in edges:
        todo = [enter(root)] if root not in number else []
        while todo:
            name, following = todo[-1]
            after = next(following, None)
            if after is None:
                todo.pop()
                if todo:
                    low[todo[-1][0]] = min(low[todo[-1][0]], low[name])
                if low[name] == number[name]:
                    place = path.index(name)
                    found.append(path[place:])
                    on_path.difference_update(path[place:])
                    del path[place:]
            elif after not in number:
                todo.append(enter(after))
            elif after in on_path:
                low[name] = min(low[name], number[after])
    return found

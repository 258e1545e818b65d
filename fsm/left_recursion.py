"""Takes left recursion out of named rules: `a: a "+" b | b` becomes `a: b ("+" b)*`, which is the same language.

Only a rule that begins with itself can be rewritten; rules that begin with each other are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping

from stemma.fsm.ast import Call, Choice, Node, Repeat, Sequence
from stemma.fsm.errors import GrammarError
from stemma.fsm.nodes import choice, is_regular, nullable, repeat, sequence


def without_left_recursion(rules: Mapping[str, Node], lines: Mapping[str, int]) -> dict[str, Node]:
    """The rules, each of them readable from left to right; `lines` says where each is defined."""
    empty = nullable_rules(rules)
    found = {name: _unrolled(name, node, empty, lines) for name, node in rules.items()}
    edges = {name: left_calls(node, empty) for name, node in found.items()}
    state: dict[str, int] = {}
    for name in found:
        _visit(name, edges, state, [], lines)
    return found


def nullable_rules(rules: Mapping[str, Node]) -> set[str]:
    """The rules that match the empty text."""
    empty: set[str] = set()
    while more := {name for name, node in rules.items() if name not in empty and can_be_empty(node, empty)}:
        empty |= more
    return empty


def can_be_empty(node: Node, empty: set[str]) -> bool:
    if isinstance(node, Call):
        return node.rule in empty
    if isinstance(node, Sequence):
        return all(can_be_empty(part, empty) for part in node.parts)
    if isinstance(node, Choice):
        return any(can_be_empty(part, empty) for part in node.parts)
    if isinstance(node, Repeat):
        return node.minimum == 0 or can_be_empty(node.part, empty)
    return is_regular(node) and nullable(node)


def left_calls(node: Node, empty: set[str]) -> set[str]:
    """The rules that a node can begin with."""
    if isinstance(node, Call):
        return {str(node.rule)}
    if isinstance(node, Choice):
        return set().union(*(left_calls(part, empty) for part in node.parts))
    if isinstance(node, Repeat):
        return left_calls(node.part, empty)
    found: set[str] = set()
    if isinstance(node, Sequence):
        for part in node.parts:
            found |= left_calls(part, empty)
            if not can_be_empty(part, empty):
                break
    return found


def _unrolled(name: str, node: Node, empty: set[str], lines: Mapping[str, int]) -> Node:
    if name not in left_calls(node, empty):
        return node
    first: list[Node] = []
    further: list[Node] = []
    for part in node.parts if isinstance(node, Choice) else (node,):
        parts = part.parts if isinstance(part, Sequence) else (part,)
        if parts and parts[0] == Call(name):
            further.append(sequence(parts[1:]))
        else:
            first.append(part)
    if not first or any(name in left_calls(part, empty) for part in (*first, *further)):
        raise GrammarError(f"the rule {name!r} can begin with itself in a way that cannot be rewritten", lines[name])
    further = [part for part in further if part != Sequence(())]
    return sequence((choice(first), repeat(choice(further), 0, None))) if further else choice(first)


def _visit(
    name: str, edges: Mapping[str, set[str]], state: dict[str, int], path: list[str], lines: Mapping[str, int]
) -> None:
    """Depth first; a rule met again on its own path begins with itself."""
    todo = [(name, iter(sorted(edges.get(name, ()))))] if name not in state else []
    if todo:
        state[name] = 1
        path.append(name)
    while todo:
        current, following = todo[-1]
        after = next(following, None)
        if after is None:
            state[current] = 2
            path.pop()
            todo.pop()
        elif state.get(after) == 1:
            cycle = " -> ".join([*path[path.index(after) :], after])
            raise GrammarError(
                f"rules that begin with each other ({cycle}) are not supported; rewrite one", lines[after]
            )
        elif after not in state and after in edges:
            state[after] = 1
            path.append(after)
            todo.append((after, iter(sorted(edges[after]))))

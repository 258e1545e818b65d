"""Many fixed texts as one tree of shared beginnings, so that the automaton never holds thousands of them side by side."""

from __future__ import annotations

import os
from collections.abc import Iterable

from stemma.fsm.ast import Node
from stemma.fsm.nodes import EMPTY, NOTHING, choice, sequence, text

MAXIMUM_DEPTH = 60


def trie(values: Iterable[str]) -> Node:
    """Exactly these texts."""
    return _branch(sorted(set(values)), 0, 0)


def _branch(values: list[str], start: int, depth: int) -> Node:
    """The sorted texts, which are equal up to `start`, from there on."""
    if not values:
        return NOTHING
    if len(values) == 1 or depth > MAXIMUM_DEPTH:
        return choice(text(value[start:]) if len(value) > start else EMPTY for value in values)
    shared = len(os.path.commonprefix([values[0], values[-1]]))
    ways: list[Node] = []
    group: list[str] = []
    for value in values:
        if len(value) == shared:
            ways.append(EMPTY)
            continue
        if group and group[0][shared] != value[shared]:
            ways.append(_branch(group, shared, depth + 1))
            group = []
        group.append(value)
    if group:
        ways.append(_branch(group, shared, depth + 1))
    whole = choice(ways)
    return sequence((text(values[0][start:shared]), whole)) if shared > start else whole

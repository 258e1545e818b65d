"""States that were made once, to be pasted into many programs: what of them differs from program to program.

Rules of many schemas (formats, common patterns, percentages) are such fragments. It knows rows of states, no nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import NamedTuple

import numpy as np

from stemma.fsm.kernels.columns import EDGE, STATE, width
from stemma.fsm.kernels.tables import BYTES, CALL, PRODUCT, RANGE, REPEAT, SPLIT, Int64s
from stemma.fsm.syntax import ast

RETURN_STATE = 0  # in which all rules end: the first of every program
TARGETS = (
    (RANGE, STATE.target), (CALL, STATE.next), (REPEAT, STATE.body), (REPEAT, STATE.next), (PRODUCT, STATE.next),
)  # fmt: skip


class Unnamed(NamedTuple):
    """A rule that has no name, by its node."""

    node: ast.Node


class Fragment(NamedTuple):
    """The states of a program, `RETURN_STATE` first. Places are those of the flat table of states."""

    states: Int64s
    edges: Int64s
    state_places: Int64s  # where states are named, other than the first
    edge_places: Int64s
    edge_targets: Int64s  # the edges that lead to other states than the first
    rule_places: Int64s
    calls: list[Hashable]  # which rules stand there: names, or `Unnamed`
    product_sides: dict[int, tuple[int, int]]
    entry: int

    def placed(self, num_states: int, num_edges: int, rules: list[int]) -> tuple[bytes, bytes, Callable[[int], int]]:
        """The rows of states and edges behind so many others, where the calls are of `rules`; and what a state's
        number becomes."""
        further = num_states - 1  # the first state is there already
        states, edges = self.states.copy(), self.edges.copy()
        flat = states.reshape(-1)
        flat[self.state_places] += further
        flat[self.edge_places] += num_edges
        flat[self.rule_places] = rules
        edges[self.edge_targets, EDGE.target] += further

        def place_of(state: int) -> int:
            return RETURN_STATE if state == RETURN_STATE else state + further

        return states[1:].tobytes(), edges.tobytes(), place_of


class Pasted(NamedTuple):
    """Where the states of a rule that many grammars have stand in a program, from `first` up to `end`."""

    first: int
    end: int
    kept: ast.Kept


def cut(
    packed_states: bytes,
    packed_edges: bytes,
    called: Callable[[int], Hashable],
    product_sides: dict[int, tuple[int, int]],
    entry: int,
) -> Fragment:
    """All states of a program as a fragment; `called`: the name of a rule, or `Unnamed`."""
    states = np.frombuffer(packed_states, np.int64).reshape(-1, width(STATE))
    edges = np.frombuffer(packed_edges, np.int64).reshape(-1, width(EDGE))
    kind, row = states[:, STATE.kind], np.arange(len(states)) * width(STATE)
    targets = [row[(kind == of) & (states[:, column] != RETURN_STATE)] + column for of, column in TARGETS]
    with_edges = row[(kind == BYTES) | (kind == SPLIT)]
    calls = row[kind == CALL] + STATE.rule
    return Fragment(
        states,
        edges,
        np.concatenate(targets),
        np.concatenate([with_edges + STATE.first_edge, with_edges + STATE.end_edge]),
        np.flatnonzero(edges[:, EDGE.target] != RETURN_STATE),
        calls,
        [called(rule) for rule in states.reshape(-1)[calls].tolist()],
        dict(product_sides),
        entry,
    )

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
    """The states of a program but `RETURN_STATE`, its first, as one row of numbers, and its edges as another."""

    states: Int64s
    names_state: Int64s  # 1 where a state other than the first is named, else 0
    names_edge: Int64s
    edges: Int64s
    leads_on: Int64s  # 1 where an edge names a state other than the first
    rule_places: list[int]
    calls: list[Hashable]  # which rules stand there: names, or `Unnamed`
    product_sides: dict[int, tuple[int, int]]
    entry: int
    num_states: int  # with the first
    num_edges: int

    def placed(self, num_states: int, num_edges: int, rules: list[int]) -> tuple[bytes, bytes]:
        """The rows of states and edges behind so many others, where the calls are of `rules`."""
        further = num_states - 1  # the first state is there already
        states = self.names_state * further
        states += self.states
        if self.num_edges:
            states += self.names_edge * num_edges
        if rules:
            states[self.rule_places] = rules
        edges = self.leads_on * further
        edges += self.edges
        return states.tobytes(), edges.tobytes()


def place_of(state: int, num_states: int) -> int:
    """What the number of a fragment's state becomes behind so many others."""
    return RETURN_STATE if state == RETURN_STATE else state + num_states - 1


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
    states = np.frombuffer(packed_states, np.int64).reshape(-1, width(STATE))[1:]
    edges = np.frombuffer(packed_edges, np.int64).reshape(-1, width(EDGE))
    kind = states[:, STATE.kind]
    names_state, names_edge, leads_on = np.zeros_like(states), np.zeros_like(states), np.zeros_like(edges)
    for of, column in TARGETS:
        names_state[(kind == of) & (states[:, column] != RETURN_STATE), column] = 1
    with_edges = (kind == BYTES) | (kind == SPLIT)
    names_edge[with_edges, STATE.first_edge] = names_edge[with_edges, STATE.end_edge] = 1
    leads_on[edges[:, EDGE.target] != RETURN_STATE, EDGE.target] = 1
    calls = np.flatnonzero(kind == CALL) * width(STATE) + STATE.rule
    flat = states.reshape(-1)
    return Fragment(
        flat,
        names_state.reshape(-1),
        names_edge.reshape(-1),
        edges.reshape(-1),
        leads_on.reshape(-1),
        calls.tolist(),
        [called(rule) for rule in flat[calls].tolist()],
        dict(product_sides),
        entry,
        len(states) + 1,
        len(edges),
    )

"""One grammar's automaton: it drives the kernels, builds what they ask for and makes room when a table is full.

A pushdown automaton determinised lazily (subset construction on demand; Cox's regex engine builds its DFA so,
llguidance its lexer's). A *configuration* here is a DFA state; it is a small integer, 0 is the dead state. What a
kernel stops for:

    ensure_row(t, 7)   False, and counts say: rule 12 is needed
    provide()          rule 12 becomes states: nodes, program, tables
    ensure_row(t, 7)   True: row 7 has the successor of each byte

Not thread-safe: the owner holds a lock.
"""

from __future__ import annotations

import numpy as np

from stemma.fsm.automaton.program import EDGE_WIDTH, ENTRY_SIZE, FIRST_SPECIAL, STATE_WIDTH, Program
from stemma.fsm.automaton.spare_tables import leave, tables_for
from stemma.fsm.kernels.columns import CONFIG, COUNT, STACK_BITS, STATE, is_filled, start_of
from stemma.fsm.kernels.loader import kernels
from stemma.fsm.kernels.tables import (
    RANGE,
    Int32s,
    Int64s,
    Limits,
    grown_tables,
    touched_bytes,
)
from stemma.fsm.syntax import ast
from stemma.fsm.work import count_work

LONGEST_CHAIN = 1024  # bytes of one jump edge
STOP_WORK = 50  # of a kernel
VISITS_A_UNIT = 16  # of states


class Automaton:
    """The lazy automaton of `grammar`."""

    def __init__(self, grammar: ast.Grammar, limits: Limits = Limits()) -> None:  # noqa: B008 - immutable
        self._limits = limits
        self.kernels = kernels()
        self.program = Program(grammar, limits)
        self.tables = tables_for(limits)
        self._num_states = 0
        self._num_edges = 0
        self._visits = 0
        self._copy_program()
        built = self.program.built
        self.tables.rules[list(built)] = list(built.values())
        self.start = self._start_at(self.program.start)

    def __del__(self) -> None:
        if hasattr(self, "tables"):  # else it has not got that far
            leave(self.tables, self._limits)

    @property
    def num_bytes(self) -> int:
        """Memory of the tables: of those that are made large at once, what has been touched."""
        return touched_bytes(self.tables)

    @property
    def num_configurations(self) -> int:
        return int(self.tables.counts[COUNT.num_configs])

    @property
    def is_half_full(self) -> bool:
        """Whether what was met so far has filled half of a limit."""
        counts, limits = self.tables.counts, self._limits
        return bool(
            2 * counts[COUNT.num_configs] > limits.configurations
            or 2 * counts[COUNT.num_stacks] > limits.stacks
            or 2 * counts[COUNT.num_items] > limits.items
            or 2 * counts[COUNT.num_products] > limits.products
        )

    @property
    def share_built(self) -> float:
        """How much of the limit of states the rules take that were built."""
        return self._num_states / self._limits.states

    @property
    def num_states(self) -> int:
        return self._num_states

    def row(self, config: int) -> Int32s:
        """The next configuration for each byte; the row moves when tables grow, so use it at once."""
        if not is_filled(self.tables.rows, config):
            ensure_row = self.kernels.ensure_row
            while not ensure_row(self.tables, config):
                self.provide()
        row: Int32s = self.tables.rows[config]
        return row

    def step(self, config: int, byte: int) -> int:
        return int(self.row(config)[byte])

    def step_bytes(self, config: int, data: bytes) -> int:
        """The configuration after all of `data`; 0 if it is not allowed."""
        step_bytes = self.kernels.step_bytes
        while (following := step_bytes(self.tables, config, data)) < 0:
            self.provide()
        return following

    def step_special(self, config: int, symbol: int) -> int:
        """The configuration after the special token with that symbol."""
        step_special = self.kernels.step_special
        while (following := step_special(self.tables, config, symbol)) < 0:
            self.provide()
        return following

    def items_of(self, config: int) -> slice:
        """Where the items of `config` stand in the table of items."""
        first = int(self.tables.configs[config, CONFIG.first])
        return slice(first, first + int(self.tables.configs[config, CONFIG.size]))

    def is_accepting(self, config: int) -> bool:
        return bool(self.tables.configs[config, CONFIG.accepting])

    def only_way(self, config: int) -> tuple[bytes, int]:
        """The bytes that must follow `config` because there is no choice, and where they lead."""
        data = bytearray()
        while len(data) < LONGEST_CHAIN and not self.is_accepting(config):
            [exits] = self.row(config).nonzero()
            if len(exits) != 1 or self.special_symbols(config):
                break
            data.append(int(exits[0]))
            config = self.step(config, data[-1])
        return bytes(data), config

    def special_symbols(self, config: int) -> list[int]:
        """The symbols of special tokens that may come next."""
        if not self.program.specials:
            return []
        t = self.tables
        states = t.items[self.items_of(config)] >> STACK_BITS
        states = t.states[states[states >= 0]]
        lowest = states[states[:, STATE.kind] == RANGE, STATE.low]
        read = np.unique(lowest[lowest >= FIRST_SPECIAL]).tolist()
        return [symbol for symbol in read if self.step_special(config, symbol)]

    def provide(self) -> None:
        """Do what a kernel stopped for: build the rules and starts it asked for, or grow the table that is full."""
        counts = self.tables.counts
        now: list[int] = counts.tolist()
        count_work(STOP_WORK + (now[COUNT.work] - self._visits) // VISITS_A_UNIT)
        self._visits, full = now[COUNT.work], now[COUNT.full]
        wanted = self.tables.needed[: now[COUNT.num_needed]].tolist()
        counts[COUNT.full] = counts[COUNT.num_needed] = 0
        if full:
            self.tables = grown_tables(self.tables, full, self._limits)
        self._build([what for what in wanted if what >= 0])
        for what in wanted:
            if what < 0:
                self.sides_of(start_of(what))

    def entry_of(self, rule: int) -> int:
        """The entry state of a rule, built if it is not."""
        self._build([rule])
        return int(self.tables.rules[rule])

    def _build(self, rules: list[int]) -> None:
        entries = {rule: self.program.build_rule(rule) for rule in rules if self.tables.rules[rule] < 0}
        if entries:
            self._copy_program()
            for rule, entry in entries.items():
                self.tables.rules[rule] = entry

    def sides_of(self, state: int) -> tuple[int, int]:
        """The configurations in which the two sides of a product state start."""
        sides = slice(STATE.left, STATE.right + 1)
        left, right = self.tables.states[state, sides].tolist()
        if left < 0:
            left, right = map(self._start_at, self.program.product_sides[state])
            self.tables.states[state, sides] = left, right
        return left, right

    def _start_at(self, state: int) -> int:
        start_at = self.kernels.start_at
        while (config := start_at(self.tables, state, 0)) < 0:
            self.provide()
        return config

    def _copy_program(self) -> None:
        """Bring new states, edges and rules of the program into the tables."""
        program = self.program
        first_state, first_edge = self._num_states, self._num_edges
        self._num_states, self._num_edges = program.num_states, program.num_edges
        t = self.tables
        if self._num_states > len(t.states):
            t = t._replace(states=_resized(t.states, 2 * self._num_states))
        if self._num_edges > len(t.edges):
            t = t._replace(edges=_resized(t.edges, 2 * self._num_edges))
        if program.num_rules > len(t.rules):
            t = t._replace(rules=_resized(t.rules, 2 * program.num_rules))
        _append(t.states, program.states, ENTRY_SIZE * STATE_WIDTH * first_state)
        _append(t.edges, program.edges, ENTRY_SIZE * EDGE_WIDTH * first_edge)
        self.tables = t


def _append(table: Int64s, packed: bytearray, first: int) -> None:
    """The rows from byte `first` on, as they lie in `packed`: no view is kept, for that could not grow then."""
    if first < len(packed):
        table.data.cast("B")[first : len(packed)] = memoryview(packed)[first:]


def _resized(array: Int64s, size: int) -> Int64s:
    resized = np.full((size, *array.shape[1:]), -1, np.int64)
    resized[: len(array)] = array
    return resized

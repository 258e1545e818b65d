"""The lazy pushdown automaton: from a configuration and a byte to the next configuration. Kernels over `Tables`.

An *item* here is a state of a nondeterministic automaton with its parser stack; a *configuration* is the set of all
that may be going on, so a state of the deterministic automaton that the subset construction makes, made when it is met:

    value ::= "a" | "[" value "]"        read     configuration: {state . stack}
                                         (none)   { a . -    [ . -  }
                                         [        { a . ]    [ . ]  }     a frame says where to return to
                                         [[       { a . ]]   [ . ]] }
                                         [[a      { ] . ]           }     the inner value has ended

Rows (256 successors of one configuration) are filled on demand; what meets a rule not yet built, or a full table, says
so in `counts` and is asked again. Never raises, never allocates.
"""

from __future__ import annotations

from stemma.fsm.kernels.call_nodes import resolve_nodes
from stemma.fsm.kernels.closure import begin_set, close_over
from stemma.fsm.kernels.columns import COUNT
from stemma.fsm.kernels.configurations import add_all_steps, intern_pending
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.rows import ensure_row, run_tasks
from stemma.fsm.kernels.tables import Tables


@helper
def add_start(t: Tables, state: int, stack: int) -> bool:
    """Make what `state` on `stack` leads to the pending items. False if a table is full."""
    begin_set(t)
    if close_over(t, state, stack):
        return True
    if t.counts[COUNT.full]:
        return False
    begin_set(t)
    t.counts[COUNT.sharing] = 1
    return close_over(t, state, stack) and resolve_nodes(t)


@helper
def start_at(t: Tables, state: int, stack: int) -> int:
    """The configuration before anything of `state` on `stack` is read. -1 if rules or room are missing."""
    while True:
        t.counts[COUNT.incomplete] = 0
        t.counts[COUNT.num_tasks] = 0
        if not add_start(t, state, stack) or t.counts[COUNT.num_needed] or t.counts[COUNT.full]:
            return -1
        if t.counts[COUNT.incomplete] == 0:
            return intern_pending(t)
        if not run_tasks(t):
            return -1


@helper
def step_special(t: Tables, config: int, symbol: int) -> int:
    """The configuration after a special token (256 and up). -1 if rules or room are missing."""
    while True:
        t.counts[COUNT.incomplete] = 0
        t.counts[COUNT.num_tasks] = 0
        if not add_all_steps(t, config, symbol) or t.counts[COUNT.num_needed] or t.counts[COUNT.full]:
            return -1
        if t.counts[COUNT.incomplete] == 0:
            return intern_pending(t)
        if not run_tasks(t):
            return -1


@helper
def step_bytes(t: Tables, config: int, data: bytes) -> int:
    """The configuration after all of `data`, 0 if it is not allowed. -1 if rules or room are missing."""
    for byte in data:
        if not ensure_row(t, config):
            return -1
        config = t.rows[config, byte]
        if config == 0:
            return 0
    return config

"""Tables that no automaton needs any more, for the next one: most schemas are used once, and then another comes.

New tables cost a page fault for every page, and growing from small ones some more, which together take as long as ten
masks. So a few of usual size are kept when their automaton goes.
"""

from __future__ import annotations

from collections import deque

from stemma.fsm.kernels.tables import Limits, Tables, clear, new_tables, touched_bytes

MOST_BYTES = 4 << 20  # of memory that tables may hold to be kept; those of most grammars take a quarter of it
MOST_SPARES = 2
USUAL = Limits()

_spares: deque[Tables] = deque(maxlen=MOST_SPARES)


def tables_for(limits: Limits) -> Tables:
    """Empty tables. Those that others have left are only for grammars with the usual limits: how large they have grown
    says what they were allowed to."""
    try:
        spare = _spares.pop() if limits == USUAL else None
    except IndexError:
        spare = None
    if spare is None:
        return new_tables(limits)
    clear(spare)
    return spare


def leave(tables: Tables, limits: Limits) -> None:
    """Keep tables that nobody looks at any more, if they are small."""
    if limits == USUAL and touched_bytes(tables) <= MOST_BYTES:
        _spares.append(tables)

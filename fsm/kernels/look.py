"""A first look at a place whose mask is asked for: what it is like, or at once the mask where little goes on. Kernel.

Most places are between values and names, where few bytes go on: classifying and walking them is one call, and all that
there is to do.
"""

from __future__ import annotations

from stemma.fsm.kernels.columns import COUNT, PATH
from stemma.fsm.kernels.jit import helper
from stemma.fsm.kernels.kinds import LOOP, NOT_YET, PLAIN, classify
from stemma.fsm.kernels.masks import Words, copy_twins, plain_mask
from stemma.fsm.kernels.parts import NO_PARTS, find_parts, find_widest
from stemma.fsm.kernels.slices import NONE
from stemma.fsm.kernels.tables import Int64s, Tables
from stemma.fsm.kernels.trie import Trie

DONE, KNOWN = 1, 0  # beside NOT_YET
NUM_FOUND = 11  # the fields of a `Classification`, and how many parts there are


@helper
def look(
    t: Tables, trie: Trie, path: Int64s, config: int, inside: Int64s, found: Int64s, out: Words, twins: Int64s
) -> int:
    """DONE: `out` is the mask. KNOWN: `found` and `inside` say what `classify` does, and the first configurations of
    `path` are the parts, if it is to be taken apart. NOT_YET: rules or room are missing. found[0]: the longest token's
    bytes."""
    inside[128] = NONE
    longest = found[0]
    kind, base, strays, remaining, free, step_byte, earlier, repeat, parent, left = classify(t, config, inside, longest)
    if kind == NOT_YET:
        return NOT_YET
    parts = NO_PARTS
    if t.counts[COUNT.walk] == 0 and (kind != LOOP or strays):
        parts = find_parts(t, config, kind, path)
        if parts < 0:
            return NOT_YET
    if kind == LOOP and parts == NO_PARTS and t.counts[COUNT.walk] == 0:
        widest = find_widest(t, config, path)
        if widest < 0:
            return NOT_YET
        if widest > 0:
            path[0, PATH.config] = widest
            parts = 1
    if kind == PLAIN and parts == NO_PARTS and not strays and not earlier:
        if not plain_mask(t, trie, path, config, out):
            return NOT_YET
        copy_twins(out, twins)
        return DONE
    found[0] = kind
    found[1] = base
    found[2] = strays
    found[3] = remaining
    found[4] = free
    found[5] = step_byte
    found[6] = earlier
    found[7] = repeat
    found[8] = parent
    found[9] = left
    found[10] = parts
    return KNOWN

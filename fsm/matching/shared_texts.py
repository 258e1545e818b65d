"""What grammars of one vocabulary share: masks of patterns that many of them have.

The pattern of a text with a largest length (a host name, a mail address) is read beside the length, with no frames of
its grammar below it. Where it stands, in the states of a rule that many grammars have, says all that its mask depends
on:

    format hostname, after "db-1"      state 31 of that rule, no frames      mask, at most 64 bytes to an end
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple
from weakref import WeakKeyDictionary

from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.automaton.fragments import Pasted
from stemma.fsm.kernels.columns import FRAME, LOW_BITS, STACK_BITS
from stemma.fsm.matching.mask_cache import MAX_OTHERS, Limited, Words
from stemma.fsm.vocabulary.vocabulary import Vocabulary

MOST_FRAMES = 8  # that are looked at for each item


class Side(NamedTuple):
    """The pattern's side of a text: its mask without twins, and the most bytes to an end of it."""

    mask: Words
    distance: int


Sides = Limited[Hashable, Side]
_sides: WeakKeyDictionary[Vocabulary, Sides] = WeakKeyDictionary()


def sides_of(vocabulary: Vocabulary) -> Sides:
    """Those that are known. Two threads that both find out the same keep the same."""
    return _sides.setdefault(vocabulary, Limited(MAX_OTHERS))


def name_of(automaton: Automaton, config: int) -> Hashable | None:
    """What a configuration is called in all grammars that it may stand in; None if it belongs to one."""
    items = automaton.tables.items[automaton.items_of(config)].tolist()
    rule = automaton.program.rule_around(items[0] >> STACK_BITS) if items else None
    if rule is None:
        return None
    name: list[tuple[int, ...]] = []
    for item in items:
        state, frames = item >> STACK_BITS, _frames(automaton, item & LOW_BITS, rule)
        if frames is None or not rule.first <= state < rule.end:
            return None
        name.append((state - rule.first, *frames))
    return rule.kept, tuple(name), automaton.is_accepting(config)


def _frames(automaton: Automaton, stack: int, rule: Pasted) -> list[int] | None:
    """A stack down to its end, if all its frames return into the rule."""
    frames: list[int] = []
    while stack:
        back, iteration, parent = automaton.tables.stacks[stack, : FRAME.parent + 1].tolist()
        if len(frames) == 2 * MOST_FRAMES or not rule.first <= back < rule.end:
            return None
        frames += (back - rule.first, iteration)
        stack = parent
    return frames

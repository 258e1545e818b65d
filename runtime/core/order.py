"""Who of those who wait in a line goes first: an `Order` for each policy. Admission, priorities and ages are elsewhere.

A sequence's KV is shared with those that begin alike, so those are best run one behind the other: by what is cached of
them (SGLang's longest prefix match), or by walking the tree of their beginnings depth first, which for a line that is
known whole computes each beginning once if the pool holds the longest of them (Zheng et al. 2024, theorem 3.1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from stemma.runtime.core.waiting_tree import Entry, Line

OrderName = Literal["fair", "lpm", "dfs", "fcfs"]
Pick = Callable[[Line], Entry | None]
"""The first of those in a line who may be chosen; None if nobody may."""


class Order(NamedTuple):
    """How the waiting are chosen. is_fair: tenants have lines of their own and take turns by what they were given."""

    pick: Pick
    is_fair: bool = False


def first_come(line: Line) -> Entry | None:
    """By arrival."""
    return line.first_below(line.root)


def longest_prefix(line: Line) -> Entry | None:
    """Of whom most is cached; of equals, by arrival."""
    place = line.longest()
    return None if place is None else line.first_below(place)


def depth_first(line: Line) -> Entry | None:
    """One that begins most like the one that was started last."""
    for place in line.last.above():
        if place.best is not None and not place.is_behind_shut:
            return line.first_below(place)
    return None


ORDERS: Mapping[OrderName, Order] = {
    "fair": Order(longest_prefix, is_fair=True),
    "lpm": Order(longest_prefix),
    "dfs": Order(depth_first),
    "fcfs": Order(first_come),
}

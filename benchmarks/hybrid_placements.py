"""Where others keep what layers with windows and states need, simulated: marks at their places, kept by LRU in so many
slots, over a tree whose text is never evicted. No tokens are kept: a trace becomes paths of a tree.

The placements: a grid of 528 tokens (vLLM's block for such models), ends alone (SGLang's leaves), ends and junctions
(Marconi), these with the last multiple of 512, these with distances that double before the end of a prompt, junctions
alone, and one checkpoint a slot, which is overwritten as its sequence goes on (llama.cpp's server).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from radix_traces import Ids, Trace

GRID, NEAREST = 528, 64
Place = tuple[int, int]  # an edge, and a position that it has


class Request(NamedTuple):
    """prompt_len: of the prompt. total: with the output. reach: how much of the prompt, all but its last token at most,
    was asked or answered before. edges: of its path, from the root."""

    prompt_len: int
    total: int
    reach: int
    edges: list[int]


class Paths(NamedTuple):
    """A trace as paths of one tree; starts: where each edge begins."""

    starts: list[int]
    requests: list[Request]

    def bound(self) -> float:
        """The token hit rate with full layers only, when nothing is evicted."""
        return sum(request.reach for request in self.requests) / self.prompt_tokens()

    def prompt_tokens(self) -> int:
        return sum(request.prompt_len for request in self.requests)

    def edge_index(self, edges: list[int], position: int) -> int:
        """Which edge of a path has a position above 0: its start lies before it."""
        return bisect_left(edges, position, key=self.starts.__getitem__) - 1


class _Edge:
    def __init__(self, ids: Ids, start: int, above: _Edge | None) -> None:
        self.ids, self.start, self.above = ids, start, above
        self.below: dict[int, _Edge] = {}
        self.number = -1


def paths_of(trace: Trace) -> Paths:
    root = _Edge(np.empty(0, dtype=np.int32), 0, None)
    matched, ends = [], []
    for prompt, output in trace.requests:
        length, end = _insert(root, np.concatenate([prompt, output]))
        matched.append(length)
        ends.append(end)
    starts: list[int] = []
    waiting = [root]
    while waiting:
        edge = waiting.pop()
        edge.number = len(starts)
        starts.append(edge.start)
        waiting.extend(edge.below.values())
    requests = []
    for (prompt, output), length, end in zip(trace.requests, matched, ends, strict=True):
        edges: list[int] = []
        above = end
        while above.above is not None:
            edges.append(above.number)
            above = above.above
        requests.append(Request(len(prompt), len(prompt) + len(output), min(length, len(prompt) - 1), edges[::-1]))
    return Paths(starts, requests)


def _insert(root: _Edge, ids: Ids) -> tuple[int, _Edge]:
    """Put a text into the tree; returns how much of it was there, and the edge in which it ends."""
    edge, at = root, 0
    while at < len(ids):
        below = edge.below.get(int(ids[at]))
        if below is None:
            edge.below[int(ids[at])] = new = _Edge(ids[at:].copy(), at, edge)
            return at, new
        same = _num_common(below.ids, ids[at:])
        if same < len(below.ids):
            upper = edge.below[int(ids[at])] = _Edge(below.ids[:same], at, edge)
            below.ids, below.start, below.above = below.ids[same:], at + same, upper
            upper.below[int(below.ids[0])] = below
            below = upper
        edge, at = below, at + same
    return at, edge


def _num_common(left: Ids, right: Ids) -> int:
    length = min(len(left), len(right))
    at, step = 0, 64
    while at < length:
        differs = np.flatnonzero(left[at : min(at + step, length)] != right[at : min(at + step, length)])
        if len(differs):
            return at + int(differs[0])
        at, step = at + step, 4 * step
    return length


class _Marks:
    """Marks by edge, and in the order in which they go."""

    def __init__(self, paths: Paths, num_slots: int) -> None:
        self._paths, self._num_slots = paths, num_slots
        self._by_edge: dict[int, list[int]] = {}
        self._order: OrderedDict[Place, None] = OrderedDict()
        self.num_made = 0

    def last(self, request: Request) -> Place | None:
        for index in range(self._paths.edge_index(request.edges, request.reach), -1, -1):
            positions = self._by_edge.get(request.edges[index])
            found = bisect_right(positions, request.reach) if positions else 0
            if positions and found:
                return request.edges[index], positions[found - 1]
        return None

    def use(self, place: Place) -> None:
        self._order.move_to_end(place)

    def drop(self, place: Place) -> None:
        del self._order[place]
        self._by_edge[place[0]].remove(place[1])

    def put(self, request: Request, position: int) -> None:
        place = request.edges[self._paths.edge_index(request.edges, position)], position
        if place in self._order:
            self._order.move_to_end(place)
            return
        if len(self._order) >= self._num_slots:
            self.drop(next(iter(self._order)))
        self.num_made += 1
        self._order[place] = None
        insort(self._by_edge.setdefault(place[0], []), position)


Placement = Callable[[Request, int], list[int]]  # the positions of new marks, of a request that goes on from a position


def grid(request: Request, hit: int) -> list[int]:
    return list(range((hit // GRID + 1) * GRID, request.total + 1, GRID))


def ends(request: Request, hit: int) -> list[int]:
    return [request.total]


def junctions(request: Request, hit: int) -> list[int]:
    return [request.reach] if request.reach > hit else []


def ends_and_junctions(request: Request, hit: int) -> list[int]:
    return [*junctions(request, hit), request.total]


def last_multiple(request: Request, hit: int) -> list[int]:
    last = request.prompt_len // 512 * 512
    return sorted({*ends_and_junctions(request, hit), *([last] if last > hit else [])})


def doubling(request: Request, hit: int) -> list[int]:
    found, distance = set(ends_and_junctions(request, hit)), NEAREST
    while request.prompt_len - distance > hit:
        found.add(request.prompt_len - distance)
        distance *= 2
    return sorted(found)


PLACEMENTS: dict[str, Placement] = {
    "grid of 528": grid,
    "ends": ends,
    "ends, junctions": ends_and_junctions,
    "+ last 512": last_multiple,
    "+ doubling": doubling,
    "junctions alone": junctions,
}
ONE_A_SLOT = "one a slot"


def hit_rate(paths: Paths, placement: Placement, num_slots: int) -> float:
    """Of a placement under LRU."""
    marks, hits = _Marks(paths, num_slots), 0
    for request in paths.requests:
        place = marks.last(request)
        hit = 0 if place is None else place[1]
        hits += hit
        if place is not None:
            marks.use(place)
        for position in placement(request, hit):
            marks.put(request, position)
    return hits / paths.prompt_tokens()


def one_a_slot(paths: Paths, num_slots: int) -> float:
    """Each slot has the state at the end of its sequence; whoever goes on from it overwrites it."""
    marks, hits = _Marks(paths, num_slots), 0
    for request in paths.requests:
        place = marks.last(request)
        if place is not None:
            hits += place[1]
            marks.drop(place)
        marks.put(request, request.total)
    return hits / paths.prompt_tokens()


def all_rates(paths: Paths, num_slots: int) -> dict[str, float]:
    rates = {name: hit_rate(paths, placement, num_slots) for name, placement in PLACEMENTS.items()}
    return {**rates, ONE_A_SLOT: one_a_slot(paths, num_slots)}

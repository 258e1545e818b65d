"""What a tree knows of marks: the places of its nodes, and with them where marks are made, which are worth it and which
go first. Owns no slot and no block; never walks the tree but along one path.

A place whose mark is gone, or was never made, is a ghost: as many are remembered as could be wanted again, the oldest
are forgotten first.
"""

from collections.abc import Iterable, Iterator

from stemma.radix.mark import node_at
from stemma.radix.mark_queue import MarkQueue
from stemma.radix.mark_value import MarkValue
from stemma.radix.node import Mark, Node
from stemma.radix.place import Origin, Place
from stemma.radix.placement import Hit, Passed, Plan, Tails, is_worth

LEAST_GHOSTS, GHOSTS_PER_MARK = 1024, 4


class MarkPolicy:
    """The places of one tree, what was learned of them, and the queue of marks."""

    __slots__ = ("_ghosts", "_max_ghosts", "_passed", "_tails", "_value", "queue")

    def __init__(self, max_marks: int) -> None:
        """max_marks: about how many find room."""
        self._value = MarkValue()
        self._tails = Tails()
        self._passed = Passed(self._value)
        self._ghosts: dict[Place, None] = {}  # the oldest first
        self._max_ghosts = max(LEAST_GHOSTS, GHOSTS_PER_MARK * max_marks)
        self.queue = MarkQueue(self._value)

    # A request -----------------------------------------------------------------------------------

    def asked(self, node: Node, hit: Hit, prompt_len: int, marks_at: Iterable[int]) -> Plan:
        """A request for `prompt_len` tokens came, which match on the path that ends in `node`."""
        match_len, hit_len, mark = hit
        self._value.now += 1
        node = node_at(node, match_len) if match_len else node
        known = _last_place(node, match_len)
        if match_len and node.prompt is not None and (known is None or known.position < match_len):
            begin, end = node.prompt
            if begin < match_len < end:
                self._tails.left(end - match_len, match_len - begin)
        self._came_back(known, mark)
        programmed = frozenset(at for at in marks_at if at > hit_len)
        wanted = set(programmed)
        prior = known if known is not None and known.position == match_len else None
        turn = prior.turn + 1 if prior is not None and prior.origin is Origin.END else 0
        if match_len > hit_len:
            prior = self._place_at(node, match_len, Plan(match_len, 0, [], programmed, 0, None, None))
            if is_worth(prior, self._value, match_len - hit_len):
                wanted.add(match_len)
        if prompt_len - 1 > match_len:
            wanted.update(self._tails.wanted(prompt_len, match_len))
        source = mark if mark is not None and mark.place is known else None
        return Plan(match_len, prompt_len, sorted(wanted), programmed, turn, prior, source)

    def _came_back(self, known: Place | None, mark: Mark | None) -> None:
        """To the place where the request might have gone on, and to the one where it does: that serves for all that
        are gone behind it."""
        if known is not None:
            self._value.came_back(known)
        if mark is not None and mark.place is not None and mark.place is not known:
            self._value.came_back(mark.place)

    def is_end_worth(self, plan: Plan, position: int, saved: int) -> bool:
        """Whether a request should leave a mark where it ends."""
        return is_worth(self._new(plan, position), self._value, saved)

    def is_admitted(self, plan: Plan, position: int, saved: int) -> bool:
        """Whether a mark there should have the slot of the one that goes first."""
        if not self.queue:
            return False
        place = plan.prior if plan.prior is not None and plan.prior.position == position else self._new(plan, position)
        return self._value.index(place, saved) > self.queue.first()[1]

    def spent(self) -> Iterator[Mark]:
        """Marks to be given back, though there may be room."""
        return self._passed.spent()

    def _new(self, plan: Plan, position: int) -> Place:
        """A place that is not in the tree yet."""
        origin = plan.origin(position)
        is_end = origin is Origin.END
        place = Place(position, origin, self._value.now, plan.turn if is_end else 0, plan.prior if is_end else None)
        self._value.classify(place)
        return place

    # Places in the tree --------------------------------------------------------------------------

    def attached(self, mark: Mark, plan: Plan) -> None:
        """The tree has one mark more, in mark.node."""
        assert mark.node is not None
        place = mark.place = self._place_at(mark.node, mark.position, plan)
        del self._ghosts[place]
        place.has_mark = True
        if mark.hits > place.hits:  # it comes from a snapshot
            place.hits = mark.hits
            self._value.classify(place)
        if place.origin is Origin.END and plan.source is not None and plan.source.position < mark.position:
            self._passed.passed(plan.source)

    def refused(self, node: Node, position: int, plan: Plan) -> None:
        """A request ended here without a mark."""
        if not node.forgotten:
            self._place_at(node, position, plan)

    def detached(self, mark: Mark) -> None:
        """The mark is gone, its text may stay."""
        place = mark.place
        assert place is not None
        mark.place = None
        place.has_mark = False
        self._remember(place)

    def cut(self, node: Node, end: int) -> None:
        """The node loses its text behind `end`: nothing is known of it any more. Marks are detached before."""
        places = node.places or {}
        for place in [place for place in places.values() if place.position > end and not place.has_mark]:
            self._forget(place)
        if not places:
            node.places = None

    def _place_at(self, node: Node, position: int, plan: Plan) -> Place:
        """The place there, a ghost if it is new."""
        places = node.places
        if places is None:
            places = node.places = {}
        place = places.get(position)
        if place is None:
            place = places[position] = self._new(plan, position)
            place.home = places
            if place.prior is not None:
                place.prior.ends_born += 1
            self._value.enter(place)
            self._remember(place)
        return place

    def _remember(self, place: Place) -> None:
        self._ghosts[place] = None
        if len(self._ghosts) > self._max_ghosts:
            self._forget(next(iter(self._ghosts)))

    def _forget(self, place: Place) -> None:
        del self._ghosts[place]
        assert place.home is not None
        del place.home[place.position]
        place.home = place.prior = None

    def check(self, nodes: Iterable[Node]) -> None:
        """Raise AssertionError unless the places are those of the tree, and each mark has one."""
        ghosts = 0
        for node in nodes:
            for position, place in (node.places or {}).items():
                assert node.start < position == place.position <= node.end, "a place is outside of its node"
                assert place.home is node.places, "a place is in another node than it says"
                assert place.has_mark == (position in (node.marks or {})), "a place does not know of its mark"
                assert place.has_mark == (place not in self._ghosts)
                ghosts += not place.has_mark
            for position, mark in (node.marks or {}).items():
                assert mark.place is not None
                assert node.places is not None
                assert mark.place is node.places.get(position), "a mark without a place"
        assert ghosts == len(self._ghosts) <= self._max_ghosts, f"{len(self._ghosts)} ghosts, {ghosts} in the tree"


def _last_place(node: Node | None, position: int) -> Place | None:
    """The last place at or below a position on the path that ends in `node`."""
    while node is not None:
        if node.places and node.start < position:
            found = max((at for at in node.places if at <= position), default=0)
            if found:
                return node.places[found]
        node = node.parent
    return None

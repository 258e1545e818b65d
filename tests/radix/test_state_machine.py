"""Any order of everything a cache can do, against a KV memory written and copied as a runtime would.

Each slot of the memory remembers whose prefix it holds: what a lease or a match reads must be its own tokens under
its own salt. With marks, steps are computed through what `advance` says, some twice, drafts partly refused, on a memory
of windows and states (benchmarks/radix_mark_memory.py). A listener rebuilds the sets of full blocks and of marks from
the events; check() proves the counts after each step.
"""

import random

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from radix_mark_memory import MarkMemory, Step
from radix_truth import cells_of, goes_on_at, matchable_hashes, matchable_marks

from stemma.radix import (
    AllCleared,
    BlocksRemoved,
    BlocksStored,
    Event,
    Lease,
    MarkRoom,
    MarksStored,
    Namespace,
    NextUse,
    OutOfBlocks,
    PinError,
    PrefixCache,
    Reason,
    Retained,
    ReuseQueue,
    Segments,
    by_priority,
    lfu,
    lru,
    slru,
    time_to_live,
)
from stemma.radix.ghost_list import GhostList

NAMESPACES: tuple[Namespace, ...] = ("", "tenant", Segments("", 0, "a"), Segments("", 5, "a"), Segments("", 5, "b"))
POLICIES = (ReuseQueue, ReuseQueue, lru, lfu, slru, by_priority, time_to_live({0: 5.0, 1: 50.0}))
token = st.integers(0, 2)
BASE = [0, 1, 2, 0, 0, 1, 1, 2, 2, 1, 0, 2, 1, 0, 0, 2, 2, 2, 1, 0, 1, 2, 0, 1]
begun = st.tuples(st.integers(0, len(BASE)), st.lists(token, max_size=6)).map(lambda drawn: BASE[: drawn[0]] + drawn[1])
texts = begun | st.lists(token, max_size=40)
namespaces = st.sampled_from(NAMESPACES)
rooms = st.builds(
    lambda window, num_blocks, num_slots: MarkRoom(window, num_blocks if window else 0, num_slots),
    window=st.sampled_from((None, 1, 2, 3, 7, 20)),
    num_blocks=st.integers(1, 40),
    num_slots=st.integers(1, 30),
) | st.builds(
    MarkRoom, window=st.sampled_from((1, 2, 5, 12)), num_window_blocks=st.integers(1, 40), num_slots=st.just(0)
)
Slot = tuple[str, tuple[int, ...]]


def slot_of(tokens: list[int], position: int, namespace: Namespace) -> Slot:
    """Whose KV the position must be: the scope of each token up to it, and the tokens."""
    if isinstance(namespace, str):
        return namespace, tuple(tokens[: position + 1])
    private = position >= namespace.public_len
    return (
        f"{namespace.public}/{namespace.public_len}/{namespace.salt}" if private else namespace.public,
        tuple(tokens[: position + 1]),
    )


class Request:
    """A lease and the tokens it should have; `replayed`: those behind that match, but for windows and states."""

    def __init__(self, lease: Lease, tokens: list[int], namespace: Namespace, replayed: list[int]) -> None:
        self.lease = lease
        self.tokens = tokens
        self.namespace = namespace
        self.replayed = replayed


class CacheMachine(RuleBasedStateMachine):
    @initialize(
        num_blocks=st.integers(1, 30),
        block_size=st.sampled_from((1, 2, 3, 4, 8, 16, 32)),
        policy=st.sampled_from(POLICIES),
        room=st.none() | rooms,
        most_awake=st.sampled_from((0, 0, 1, 3, None)),
    )
    def start(
        self, num_blocks: int, block_size: int, policy: object, room: MarkRoom | None, most_awake: int | None
    ) -> None:
        self.time = 0.0
        self.make = lambda: PrefixCache(num_blocks, block_size, policy, self.tick, ghost_tokens=60, marks=room)
        self.most_awake = None if room is not None else most_awake
        self.renew()
        self.room = room
        self.marks = MarkMemory(room, block_size) if room is not None else None
        self.block_size = block_size
        self.memory: dict[tuple[int, int], Slot] = {}
        self.requests: list[Request] = []
        self.kept: list[tuple[Retained, list[int], Namespace]] = []
        self.heard: set[bytes] = set()
        self.heard_marks: set[bytes] = set()
        self.listens = False

    def renew(self) -> None:
        self.cache = self.make()
        self.cache._store.tree.leaves.keep_awake(self.most_awake)
        self.cache._store.ghosts = GhostList(60, 0)

    def tick(self) -> float:
        self.time += 1.0
        return self.time

    def pick(self, data: st.DataObject) -> Request:
        return self.requests[data.draw(st.integers(0, len(self.requests) - 1))]

    def listen(self, event: Event) -> None:
        if isinstance(event, AllCleared):
            self.heard.clear()
            self.heard_marks.clear()
            return
        is_stored = isinstance(event, BlocksStored | MarksStored)
        known = self.heard if isinstance(event, BlocksStored | BlocksRemoved) else self.heard_marks
        assert known.isdisjoint(event.hashes) if is_stored else known.issuperset(event.hashes)
        known.symmetric_difference_update(event.hashes)
        if isinstance(event, BlocksStored | MarksStored):
            assert event.parent == b"" or event.parent in self.heard
        if isinstance(event, BlocksStored):
            assert len(event.tokens) == len(event.hashes) * event.block_size

    def shape(self) -> list[tuple[object, ...]]:
        """The whole tree."""
        return sorted((node.scope, node.end, node.tokens, node.blocks.tolist()) for node in self.cache.walk())

    def reads(self, blocks: "list[int]", tokens: list[int], num_tokens: int, namespace: Namespace) -> None:
        """Each position holds the KV of exactly its prefix."""
        for position in range(num_tokens):
            slot = (blocks[position // self.block_size], position % self.block_size)
            assert self.memory.get(slot) == slot_of(tokens, position, namespace)

    @rule(tokens=texts, namespace=namespaces, max_hit=st.none() | st.integers(0, 40), priority=st.integers(0, 1))
    def acquire(self, tokens: list[int], namespace: Namespace, max_hit: int | None, priority: int) -> None:
        found, most = self.cache.match(tokens, namespace), len(tokens) if max_hit is None else max_hit
        marks_at = [len(tokens) // 2, len(tokens)]
        lease = self.cache.acquire(tokens, namespace, max_hit=max_hit, priority=priority, marks_at=marks_at)
        assert lease.match_len == min(found.match_len, most)
        assert lease.hit_len == found.hit_len or most < found.match_len
        assert all(lease.hit_len < at for at in lease.wanted)
        if self.room is None:
            assert lease.hit_len == lease.match_len
        replayed = tokens[lease.hit_len : lease.match_len]
        self.requests.append(Request(lease, tokens[: lease.hit_len], namespace, replayed))

    @precondition(lambda self: self.requests)
    @rule(
        data=st.data(), tokens=st.lists(token, min_size=1, max_size=20), more=st.integers(0, 9), seed=st.integers(0, 9)
    )
    def write(self, data: st.DataObject, tokens: list[int], more: int, seed: int) -> None:
        """A step: of its tokens the last are drafts, some of them refused."""
        request = self.pick(data)
        lease = request.lease
        tokens = request.replayed[: len(tokens)] + tokens[len(request.replayed) :]
        num_drafts = data.draw(st.integers(0, min(3, len(tokens))))
        num_kept = len(tokens) - data.draw(st.integers(0, num_drafts))
        step = self.prepare(request, tokens, num_drafts, more)
        if step is None:
            return
        if self.marks is not None:
            self.marks.compute([step], random.Random(seed))
        for position, written in enumerate(tokens[:num_kept], len(request.tokens)):
            request.tokens.append(written)
            slot = (lease.blocks[position // self.block_size], position % self.block_size)
            if position >= lease.written_from:
                self.memory[slot] = slot_of(request.tokens, position, request.namespace)
        del request.replayed[:num_kept]
        lease.extend(tokens[:num_kept])

    def prepare(self, request: Request, tokens: list[int], num_drafts: int, more: int) -> Step | None:
        """Room for a step, and its copies; None, with nothing changed, when a pool is too small."""
        lease, before = request.lease, self.state_of(request.lease)
        try:
            copies = lease.reserve(len(tokens) + more)
        except OutOfBlocks as refused:
            assert refused.needed > refused.available  # noqa: PT017
            assert before == self.state_of(lease)
            return None
        for copy in copies:
            for slot in range(copy.num_tokens):
                self.memory[copy.destination, slot] = self.memory[copy.source, slot]
        before = self.state_of(lease)
        try:
            return Step(lease, request.tokens, tokens, num_drafts, request.namespace)
        except OutOfBlocks as refused:
            assert refused.needed > refused.available  # noqa: PT017
            assert before == self.state_of(lease)
            return None

    def state_of(self, lease: Lease) -> list[object]:
        """What a refusal must not change."""
        table, stats = (list(lease.blocks), list(lease.window_blocks)), self.cache.stats()
        return [*table, lease.num_tokens, lease.wanted, stats.free, stats.marks, self.shape()]

    @precondition(lambda self: self.requests and self.room)
    @rule(data=st.data(), num_tokens=st.integers(1, 9))
    def advance(self, data: st.DataObject, num_tokens: int) -> None:
        """A step is prepared and never computed."""
        request = self.pick(data)
        tokens = request.replayed[:num_tokens]
        self.prepare(request, tokens + [0] * (num_tokens - len(tokens)), 0, 0)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def leave_mark(self, data: st.DataObject) -> None:
        """Between two steps; published with the next commit."""
        self.pick(data).lease.mark()

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        self.pick(data).lease.commit()

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        request = self.pick(data)
        fork = request.lease.fork()
        assert fork.num_tokens == len(request.tokens)
        self.requests.append(Request(fork, list(request.tokens), request.namespace, list(request.replayed)))

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), next_use=st.sampled_from(NextUse))
    def release(self, data: st.DataObject, next_use: NextUse) -> None:
        request = self.pick(data)
        request.lease.release(next_use)
        self.requests.remove(request)

    @rule(tokens=texts, namespace=namespaces)
    def match(self, tokens: list[int], namespace: Namespace) -> None:
        found = self.cache.match(tokens, namespace)
        self.reads(list(found.blocks), tokens, found.match_len, namespace)
        told = self.cache.explain(tokens, namespace)
        assert (told.hit_len, told.match_len, told.num_tokens) == (found.hit_len, found.match_len, len(tokens))
        assert (told.reason is Reason.COMPLETE) == (found.match_len == len(tokens))
        if self.room is None:
            assert found.hit_len == found.match_len
        else:
            assert goes_on_at(self.cache, tokens[: found.match_len], namespace, self.room, found.hit_len)
        if told.reason is Reason.DIVERGED:
            assert tokens[told.position] == told.got
            assert told.got not in told.expected

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), ttl=st.none() | st.integers(1, 200), again=st.booleans())
    def retain(self, data: st.DataObject, ttl: int | None, again: bool) -> None:
        """A caller keeps where a request is, perhaps in place of what it kept."""
        request = self.pick(data)
        if again and self.kept:
            retained, _, _ = self.kept.pop(data.draw(st.integers(0, len(self.kept) - 1)))
        else:
            retained = Retained(ttl)
        before = retained.num_tokens
        try:
            request.lease.retain(retained)
        except PinError:
            assert retained.num_tokens in (before, 0), "what was kept stays, until its time"
            self.cache.let_go(retained)
            return
        if retained.state is not None:
            assert retained.num_tokens == len(request.tokens) + len(request.replayed)
            self.kept.append((retained, list(request.tokens), request.namespace))

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def share(self, data: st.DataObject) -> None:
        retained, tokens, namespace = self.kept[data.draw(st.integers(0, len(self.kept) - 1))]
        other = Retained()
        self.cache.share(retained, other)
        assert other.num_tokens == retained.num_tokens
        self.kept.append((other, tokens, namespace))

    @precondition(lambda self: self.kept)
    @rule(data=st.data(), next_use=st.sampled_from(NextUse))
    def let_go(self, data: st.DataObject, next_use: NextUse) -> None:
        retained, _, _ = self.kept.pop(data.draw(st.integers(0, len(self.kept) - 1)))
        self.cache.let_go(retained, next_use)
        self.cache.let_go(retained, next_use)
        assert (retained.num_tokens, retained.num_blocks) == (0, 0)

    @rule()
    def give_up_one(self) -> None:
        """The one used longest ago, if any yields."""
        yields = [retained for retained, _, _ in self.kept if retained.state and retained.pinned_for is None]
        assert self.cache.give_up_one() == bool(yields)
        assert [retained.state is None for retained in yields] == [index == 0 for index in range(len(yields))]

    @rule(namespace=namespaces, tokens=texts)
    def drop(self, namespace: Namespace, tokens: list[int]) -> None:
        self.cache.drop(namespace)
        public = 0 if isinstance(namespace, str) else namespace.public_len
        assert self.cache.match(tokens, namespace).hit_len <= public
        self.kept = [entry for entry in self.kept if not _drops(namespace, entry[2]) or self.cache.let_go(entry[0])]

    @rule(tokens=texts, namespace=namespaces)
    def clear(self, tokens: list[int], namespace: Namespace) -> None:
        self.cache.clear()
        assert self.cache.match(tokens, namespace).hit_len == 0
        for retained, _, _ in self.kept:
            self.cache.let_go(retained)
        self.kept.clear()

    @rule()
    def snapshot(self) -> None:
        """What is restored matches and reads as before; leases end with their cache."""
        state, queries = self.cache.state(), [(request.tokens, request.namespace) for request in self.requests]
        before = [self.cache.match(*query) for query in queries]
        self.renew()
        self.requests, self.kept, self.listens = [], [], False
        self.cache.restore(state)
        assert [self.cache.match(*query) for query in queries] == before
        assert self.cache.state()[:12] == state[:12]

    @precondition(lambda self: not self.listens)
    @rule()
    def subscribe(self) -> None:
        self.heard, self.heard_marks = set(), set()
        self.cache.subscribe(self.listen)
        self.listens = True

    @invariant()
    def holds(self) -> None:
        if not hasattr(self, "cache"):
            return
        self.cache.check()
        for request in self.requests:
            assert request.lease.num_tokens == len(request.tokens)
            there = request.tokens + request.replayed
            self.reads(list(request.lease.blocks), there, len(there), request.namespace)
            if self.marks is not None:
                self.marks.check_lease(request.lease, cells_of(request.tokens, request.namespace))
        for retained, tokens, namespace in self.kept:
            if retained.state and (retained.pinned_until is None or retained.pinned_until > self.time):
                assert self.cache.match(tokens, namespace).hit_len == len(tokens)
        if self.listens:
            assert self.heard == matchable_hashes(self.cache)
            assert self.heard_marks == matchable_marks(self.cache)
        if self.marks is not None:
            self.marks.check_tree(self.cache)


def _drops(dropped: Namespace, other: Namespace) -> bool:
    """Does dropping one namespace take (a part of) the other?"""
    if isinstance(dropped, str):
        return dropped == (other if isinstance(other, str) else other.public)
    return not isinstance(other, str) and (dropped.public, dropped.salt) == (other.public, other.salt)


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)

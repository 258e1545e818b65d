"""Random worlds for the prefix cache: all it can do, in any order, on a KV memory whose cells say whose they are.

A cell holds a hash of the sequence of tokens up to its position, and of whose text each of them is. It is written and
copied through block tables, as a runtime does: copies wait until a step begins, drafts are written and rejected, leases
end while their copies wait. Every cell that a lease, a pin or a match can read is compared after each operation, and a
mirror that hears nothing but events must know exactly the blocks that can be matched.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from stemma.radix import (
    AllCleared,
    BlockCopy,
    BlocksStored,
    Event,
    Lease,
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
    lru,
)
from stemma.radix.events import chain_hash, scope_key
from stemma.radix.tokens import TOKEN_BYTES, unpack

BLOCK_SIZES = (1, 2, 3, 4, 8, 16)
POLICIES = (ReuseQueue, ReuseQueue, lru, by_priority)


def cells_of(tokens: list[int], namespace: Namespace) -> list[int]:
    """What the cells of a text hold: for each position a hash of all tokens up to it and of who may read them."""
    cells, before = [], 0
    for position, token in enumerate(tokens):
        owner: object = namespace
        if isinstance(namespace, Segments) and position < namespace.public_len:
            owner = namespace.public
        before = hash((before, owner, token))
        cells.append(before)
    return cells


class Request:
    """A lease and the text that it should read."""

    def __init__(self, lease: Lease, tokens: list[int], wanted: list[int], namespace: Namespace) -> None:
        self.lease = lease
        self.wanted = wanted  # the text that was asked for
        self.tokens = tokens  # what of it the lease has: hit and written
        self.cells = cells_of(tokens, namespace)
        self.namespace = namespace
        self.copies: list[BlockCopy] = []  # to be run before anything is written
        self.num_reserved = 0

    def append(self, tokens: list[int]) -> None:
        self.tokens += tokens
        self.cells = cells_of(self.tokens, self.namespace)


class Pinned(NamedTuple):
    pin: Retained
    tokens: list[int]
    namespace: Namespace


class Mirror:
    """A router's view: the hashes of the blocks that are stored, by events alone."""

    def __init__(self) -> None:
        self.hashes: set[bytes] = set()

    def hear(self, event: Event) -> None:
        if isinstance(event, AllCleared):
            self.hashes.clear()
        elif isinstance(event, BlocksStored):
            assert event.parent == b"" or event.parent in self.hashes, "stored after a block that is not there"
            assert not self.hashes.intersection(event.hashes), "stored twice"
            self.hashes.update(event.hashes)
        else:
            assert self.hashes.issuperset(event.hashes), "removed what is not stored"
            self.hashes.difference_update(event.hashes)


def matchable_hashes(cache: PrefixCache) -> set[bytes]:
    """The hashes of all full blocks that can be matched, made anew from their texts."""
    size, hashes = cache.block_size, set()
    for node in cache.walk():
        path = [node]
        while path[-1].parent is not None:
            path.append(path[-1].parent)
        data, before = b"".join(above.tokens for above in reversed(path)), b""
        for end in range(size, node.end + 1, size):
            owner = next(above for above in path if above.start < end <= above.end)
            before = chain_hash(before, scope_key(owner), data[TOKEN_BYTES * (end - size) : TOKEN_BYTES * end])
            if owner is node:
                hashes.add(before)
    return hashes


def told_from(cache: PrefixCache, tokens: list[int], namespace: Namespace) -> tuple[int, set[int], bool]:
    """By a look at all there is: how much of a text is cached, with what cached text goes on, and whether another
    namespace has one token more."""
    asked = list(zip(tokens, owners(len(tokens), namespace), strict=True))
    name = namespace.public if isinstance(namespace, Segments) else namespace
    hit_len, goes_on, elsewhere = 0, dict[int, set[object]](), 0
    for node in cache.walk():
        path = [node]
        while path[-1].parent is not None:
            path.append(path[-1].parent)
        text, public = unpack(b"".join(above.tokens for above in reversed(path))), path[-1].scope
        salted = next((above for above in path if isinstance(above.key, tuple)), None)
        whose: Namespace = public if salted is None else Segments(public, salted.start, str(salted.key[0]))
        cached = list(zip(text, owners(len(text), whose), strict=True))
        same = num_common(asked, cached)
        hit_len = max(hit_len, same)
        if same < len(cached) and (same == len(asked) or cached[same][1] == asked[same][1]):
            goes_on.setdefault(same, set()).add(cached[same][0])
        if public != name and salted is None:
            elsewhere = max(elsewhere, num_common(tokens, text))
    return hit_len, goes_on.get(hit_len, set()), elsewhere > hit_len


def owners(num_tokens: int, namespace: Namespace) -> list[Namespace]:
    """Who may read each token."""
    if isinstance(namespace, str):
        return [namespace] * num_tokens
    public = min(namespace.public_len, num_tokens)
    return [namespace.public] * public + [namespace] * (num_tokens - public)


def num_common(left: Sequence[object], right: Sequence[object]) -> int:
    """How long the common beginning is."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(left), len(right)))


class World:
    """One cache, its KV memory, and the requests, pins and listeners that use it."""

    def __init__(self, seed: int, block_size: int | None = None) -> None:
        self.random = random.Random(seed)
        pick = self.random
        self.block_size = pick.choice(BLOCK_SIZES) if block_size is None else block_size
        self.num_blocks = pick.randint(4, 160) // self.block_size + 3
        self.now = 0.0
        policy, history = pick.choice(POLICIES), pick.choice((None, None, 0, 60))
        self.make: Callable[[], PrefixCache] = lambda: PrefixCache(
            self.num_blocks, self.block_size, policy, lambda: self.now, ghost_tokens=history
        )
        self.cache = self.make()
        self.memory = [[0] * self.block_size for _ in range(self.num_blocks)]
        self.requests: list[Request] = []
        self.pins: list[Pinned] = []
        self.mirror: Mirror | None = None
        self.texts = [[pick.randrange(3) for _ in range(5 * self.block_size + 9)] for _ in range(3)]
        salt_boundaries = pick.sample(range(4 * self.block_size + 2), 2)
        self.namespaces: list[Namespace] = ["", "", "other"]
        self.namespaces += [Segments("", salt_boundary, salt) for salt_boundary in salt_boundaries for salt in "ab"] + [
            Segments("other", 3, "a")
        ]
        self.namespaces += [f"user {number}" for number in range(pick.choice((0, 0, 14)))]
        self.operations = (
            *[self.acquire] * 6,
            *[self.step] * 6,
            *[self.commit] * 3,
            *[self.fork, self.release, self.release, self.reserve, self.pass_time] * 2,
            self.pin,
            self.unpin,
            self.share,
            self.give_up_one,
            self.match,
        )
        self.rare = (self.drop, self.drop, self.clear, self.snapshot, self.subscribe, self.subscribe)

    def run(self, num_operations: int) -> None:
        """Operate at random; AssertionError when anything reads what is not its own."""
        for _ in range(num_operations):
            self.now += 1.0
            operation = self.random.choice(self.rare if self.random.random() < 0.02 else self.operations)
            operation()
            self.check()
        for request in self.requests:
            request.lease.release()
        self.requests.clear()
        self.check()
        while self.cache.give_up_one():
            self.check()
        self.now += 1000.0
        assert self.cache.stats().leased == 0
        self.cache.clear()
        assert self.cache.stats().free == self.num_blocks, "a block is lost"
        assert not self.cache._store.tree.roots, "a namespace is kept"
        assert not self.cache._store.tree.orphans, "a forgotten namespace is kept"

    # Texts ---------------------------------------------------------------------------------------

    def text(self) -> list[int]:
        """The beginning of one of a few texts, with another end now and then."""
        pick = self.random
        text = pick.choice(self.texts)
        return text[: pick.randint(0, len(text))] + [pick.randrange(3) for _ in range(pick.choice((0, 0, 1, 4)))]

    def some(self) -> Request | None:
        return self.random.choice(self.requests) if self.requests else None

    # What a runtime does -------------------------------------------------------------------------

    def acquire(self) -> None:
        tokens, namespace = self.text(), self.random.choice(self.namespaces)
        max_hit = None if self.random.random() < 0.5 else self.random.randint(0, len(tokens))
        lease = self.cache.acquire(tokens, namespace, max_hit=max_hit, priority=self.random.randrange(2))
        self.requests.append(Request(lease, tokens[: lease.hit_len], tokens, namespace))

    def reserve(self, request: Request | None = None) -> None:
        """Room for some tokens; the copies wait for the next step."""
        request = request or self.some()
        if request is None:
            return
        num_tokens = self.random.randint(0, 2 * self.block_size)
        before = list(request.lease.blocks)
        try:
            request.copies += request.lease.reserve(num_tokens)
        except OutOfBlocks:
            assert before == list(request.lease.blocks)
            victim = self.some()
            assert victim is not None
            self.end(victim)

    def step(self) -> None:
        """Reserve for some requests, run all copies in order, write, say what was written, publish some of it."""
        batch = self.random.sample(self.requests, min(len(self.requests), self.random.randint(1, 3)))
        for request in batch:
            if request in self.requests:
                self.reserve(request)
        batch = [request for request in batch if request in self.requests]
        for request in self.requests:
            self.run_copies(request)
        for request in batch:
            self.write(request)
        for request in batch:
            if self.random.random() < 0.4:
                request.lease.commit()

    def run_copies(self, request: Request) -> None:
        for copy in request.copies:
            self.memory[copy.destination][: copy.num_tokens] = self.memory[copy.source][: copy.num_tokens]
        request.copies.clear()

    def write(self, request: Request) -> None:
        """What was asked for, then drafts up to the end of the room, which are rejected."""
        lease, size = request.lease, self.block_size
        start, room = lease.num_tokens, lease.room
        assert room >= 0
        count = self.random.randint(0, room)
        goes_on = self.random.random() < 0.8 and request.tokens == request.wanted[:start]
        tokens = request.wanted[start : start + count] if goes_on else []
        tokens += [self.random.randrange(3) for _ in range(count - len(tokens))]
        request.append(tokens)
        for position in range(start, start + room):
            cell = request.cells[position] if position < len(request.cells) else self.random.getrandbits(60)
            self.memory[lease.blocks[position // size]][position % size] = cell
        lease.extend(tokens)

    def commit(self) -> None:
        request = self.some()
        if request is not None:
            request.lease.commit()

    def fork(self) -> None:
        request = self.some()
        if request is not None and len(self.requests) < 12:
            self.requests.append(Request(request.lease.fork(), list(request.tokens), request.wanted, request.namespace))

    def release(self) -> None:
        """A request ends, or is preempted: then it comes back for what it had."""
        request = self.some()
        if request is None:
            return
        if self.random.random() < 0.5:
            request.lease.commit()
        self.end(request)
        if self.random.random() < 0.3:
            lease = self.cache.acquire(request.tokens, request.namespace)
            self.requests.append(
                Request(lease, request.tokens[: lease.hit_len], request.tokens + self.text(), request.namespace)
            )

    def end(self, request: Request) -> None:
        request.lease.release(self.random.choice(tuple(NextUse)))
        self.requests.remove(request)

    # What operators do ---------------------------------------------------------------------------

    def pin(self) -> None:
        """Keep a text, for a while or as long as blocks last."""
        tokens, namespace = self.text(), self.random.choice(self.namespaces)
        hit_len = self.cache.match(tokens, namespace).hit_len
        retained = Retained(self.random.choice((None, self.random.randint(1, 40))))
        with suppress(PinError), self.cache.acquire_uncounted(tokens, namespace) as lease:
            lease.retain(retained)
            self.pins.append(Pinned(retained, tokens[:hit_len], namespace))

    def share(self) -> None:
        if self.pins:
            pinned, other = self.random.choice(self.pins), Retained()
            self.cache.share(pinned.pin, other)
            self.pins.append(pinned._replace(pin=other))

    def unpin(self) -> None:
        if self.pins:
            pinned = self.pins.pop(self.random.randrange(len(self.pins)))
            self.cache.let_go(pinned.pin, self.random.choice(tuple(NextUse)))

    def give_up_one(self) -> None:
        self.cache.give_up_one()

    def match(self) -> None:
        tokens, namespace = self.text(), self.random.choice(self.namespaces)
        self.reads(tokens, namespace)
        self.explains(tokens, namespace)

    def drop(self) -> None:
        namespace = self.random.choice(self.namespaces)
        self.cache.drop(namespace)
        for pinned in [pinned for pinned in self.pins if covers(namespace, pinned.namespace)]:
            self.cache.let_go(pinned.pin)
            self.pins.remove(pinned)

    def clear(self) -> None:
        self.cache.clear()
        for pinned in self.pins:
            self.cache.let_go(pinned.pin)
        self.pins.clear()

    def snapshot(self) -> None:
        state = self.cache.state()
        queries = [(request.tokens, request.namespace) for request in self.requests]
        before = [self.cache.match(*query).hit_len for query in queries]
        self.cache = self.make()
        self.requests, self.pins = [], []
        if self.mirror is not None:
            self.mirror = Mirror()
            self.stop = self.cache.subscribe(self.mirror.hear)
        self.cache.restore(state)
        assert [self.cache.match(*query).hit_len for query in queries] == before

    def subscribe(self) -> None:
        """A router begins to listen, or stops."""
        if self.mirror is None:
            self.mirror = Mirror()
            self.stop = self.cache.subscribe(self.mirror.hear)
        else:
            self.stop()
            self.mirror = None

    def pass_time(self) -> None:
        self.now += self.random.randint(0, 10)

    # What must hold ------------------------------------------------------------------------------

    def check(self) -> None:
        self.cache.check()
        size = self.block_size
        for request in self.requests:
            lease = request.lease
            assert lease.num_tokens == len(request.tokens)
            pending = {copy.destination: copy.source for copy in request.copies}
            table = [pending.get(block, block) for block in lease.blocks]
            read = [self.memory[table[position // size]][position % size] for position in range(lease.num_tokens)]
            assert read == request.cells, "a request reads KV that is not its own"
        for tokens, namespace in self.queries():
            self.reads(tokens, namespace)
        for pinned in self.pins:
            if pinned.pin.num_tokens and (pinned.pin.pinned_until is None or pinned.pin.pinned_until > self.now):
                assert self.cache.match(pinned.tokens, pinned.namespace).hit_len == len(pinned.tokens)
        if self.mirror is not None:
            assert self.mirror.hashes == matchable_hashes(self.cache), "the mirror differs from what can be matched"

    def queries(self) -> Iterator[tuple[list[int], Namespace]]:
        """Some text whose cached part must be right, drawn anew each time, and what the requests wrote."""
        yield self.text(), self.random.choice(self.namespaces)
        for request in self.requests:
            yield request.tokens, request.namespace

    def explains(self, tokens: list[int], namespace: Namespace) -> None:
        """What is said of a miss is what a look at everything shows."""
        told = self.cache.explain(tokens, namespace)
        hit_len, goes_on, elsewhere = told_from(self.cache, tokens, namespace)
        assert told.hit_len == hit_len == self.cache.match(tokens, namespace).hit_len
        if hit_len == len(tokens):
            assert told.reason is Reason.COMPLETE
            return
        assert len(told.expected) == len(set(told.expected)) == min(len(goes_on), 8)
        assert goes_on.issuperset(told.expected)
        if told.reason is not Reason.EVICTED:
            seen = Reason.DIVERGED if goes_on else Reason.NEVER_SEEN
            assert told.reason is (Reason.OTHER_NAMESPACE if elsewhere else seen)

    def reads(self, tokens: list[int], namespace: Namespace) -> None:
        found, size = self.cache.match(tokens, namespace), self.block_size
        read = [self.memory[found.blocks[position // size]][position % size] for position in range(found.hit_len)]
        assert read == cells_of(tokens[: found.hit_len], namespace), "a match gives KV of another text"


def covers(dropped: Namespace, other: Namespace) -> bool:
    """Does dropping one namespace take (a part of) the other?"""
    if isinstance(dropped, Segments):
        return isinstance(other, Segments) and (dropped.public, dropped.salt) == (other.public, other.salt)
    return dropped == (other.public if isinstance(other, Segments) else other)

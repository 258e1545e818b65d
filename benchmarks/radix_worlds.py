"""Random worlds for the prefix cache: all it can do, in any order, on a KV memory whose cells say whose they are.

A cell holds a hash of the sequence of tokens up to its position, and of whose text each of them is. It is written and
copied through block tables, as a runtime does: copies wait until a step begins, drafts are written and rejected, leases
end while their copies wait. Every cell that a lease, a pin or a match can read is compared after each operation, and a
mirror that hears nothing but events must know exactly the blocks that can be matched and the marks that can be hit.
Three worlds of four have marks: windows, states, or both (radix_mark_memory).
"""

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from radix_mark_memory import MarkMemory, Step, draw_room
from radix_truth import Mirror, cells_of, covers, goes_on_at, matchable_hashes, matchable_marks, told_from

from stemma.radix import (
    BlockCopy,
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

BLOCK_SIZES = (1, 2, 3, 4, 8, 16)
POLICIES = (ReuseQueue, ReuseQueue, lru, by_priority)


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
        self.step: Step | None = None  # prepared, of windows and states

    def append(self, tokens: list[int]) -> None:
        self.tokens += tokens
        self.cells = cells_of(self.tokens, self.namespace)


class Pinned(NamedTuple):
    pin: Retained
    tokens: list[int]
    namespace: Namespace


class World:
    """One cache, its KV memory, and the requests, pins and listeners that use it."""

    def __init__(self, seed: int, block_size: int | None = None) -> None:
        self.random = random.Random(seed)
        pick = self.random
        self.block_size = pick.choice(BLOCK_SIZES) if block_size is None else block_size
        self.num_blocks = pick.randint(4, 160) // self.block_size + 3
        self.now = 0.0
        self.room = draw_room(pick, self.block_size)
        policy, history = pick.choice(POLICIES), pick.choice((None, None, 0, 60))
        self.make: Callable[[], PrefixCache] = lambda: PrefixCache(
            self.num_blocks, self.block_size, policy, lambda: self.now, ghost_tokens=history, marks=self.room
        )
        self.cache = self.make()
        self.memory = [[0] * self.block_size for _ in range(self.num_blocks)]
        self.mark_memory = None if self.room is None else MarkMemory(self.room, self.block_size)
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
            *([] if self.room is None else [self.prepare, self.prepare, self.leave_mark, self.leave_mark]),
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
        marks = self.cache.stats().marks
        assert marks is None or (marks.free_slots, marks.free_window_blocks) == (marks.slots, marks.window_blocks)
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
        found = self.cache.match(tokens, namespace)
        marks_at = [self.random.randint(0, len(tokens) + 3) for _ in range(self.random.choice((0, 0, 2)))]
        priority = self.random.randrange(2)
        lease = self.cache.acquire(tokens, namespace, max_hit=max_hit, priority=priority, marks_at=marks_at)
        most = len(tokens) if max_hit is None else max_hit
        assert lease.match_len == min(found.match_len, most)
        assert lease.hit_len == found.hit_len or most < found.match_len
        assert self.room is not None or lease.hit_len == lease.match_len
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

    def prepare(self, request: Request | None = None) -> None:
        """Slots and window blocks for a step of as many tokens as there is room for, or fewer."""
        request = request or self.some()
        if request is None or self.room is None:
            return
        num_tokens = self.random.randint(0, min(request.lease.room, 3 * self.block_size))
        num_drafts = self.random.choice((0, self.random.randint(0, min(num_tokens, 3))))
        tokens, before = self.next_tokens(request, num_tokens), self.held_of(request)
        try:
            request.step = Step(request.lease, request.tokens, tokens, num_drafts, request.namespace)
        except OutOfBlocks:
            assert before == self.held_of(request)
            victim = self.some()
            assert victim is not None
            self.end(victim)

    def held_of(self, request: Request) -> object:
        """What a lease has, and what others can get."""
        cache = self.cache
        return list(request.lease.window_blocks), cache.available_slots, cache.available_window_blocks

    def leave_mark(self) -> None:
        request = self.some()
        if request is not None:
            request.lease.mark()
            if self.random.random() < 0.5:
                request.lease.commit()

    def step(self) -> None:
        """Reserve for some requests, run all copies in order, write, say what was written, publish some of it."""
        batch = self.random.sample(self.requests, min(len(self.requests), self.random.randint(1, 3)))
        for prepare in (self.reserve, self.prepare):
            for request in batch:
                if request in self.requests:
                    prepare(request)
        batch = [request for request in batch if request in self.requests]
        for request in self.requests:
            self.run_copies(request)
        if self.mark_memory is not None:
            batch = [request for request in batch if request.step is not None and request.step.cells]
            steps = [request.step for request in batch if request.step is not None]
            self.mark_memory.compute(steps, self.random)
        for request in batch:
            self.write(request)
        for request in batch:
            if self.random.random() < 0.4:
                request.lease.commit()

    def run_copies(self, request: Request) -> None:
        for copy in request.copies:
            self.memory[copy.destination][: copy.num_tokens] = self.memory[copy.source][: copy.num_tokens]
        request.copies.clear()

    def next_tokens(self, request: Request, count: int) -> list[int]:
        """What a request goes on with: what is replayed, the text that was asked for, or something else."""
        start = len(request.tokens)
        goes_on = self.random.random() < 0.8 and request.tokens == request.wanted[:start]
        stop = start + count if goes_on else min(start + count, request.lease.written_from)
        tokens = request.wanted[start:stop]
        return tokens + [self.random.randrange(3) for _ in range(count - len(tokens))]

    def write(self, request: Request) -> None:
        """What was asked for, then drafts up to the end of the room, which are rejected."""
        lease, size = request.lease, self.block_size
        start, room = lease.num_tokens, lease.room
        assert room >= 0
        if request.step is None:
            tokens = self.next_tokens(request, self.random.randint(0, room))
        else:
            computed = request.step.tokens
            num_kept = len(computed) - self.random.randint(0, request.step.num_drafts)
            tokens, request.step = computed[:num_kept], None
        request.append(tokens)
        for position in range(max(start, lease.written_from), start + room):
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
        hit_len = self.cache.match(tokens, namespace).hit_len  # where a pin can be gone on with
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
        before = [self.cache.match(*query)[::2] for query in queries]
        self.cache = self.make()
        self.requests, self.pins = [], []
        if self.mirror is not None:
            self.mirror = Mirror()
            self.stop = self.cache.subscribe(self.mirror.hear)
        self.cache.restore(state)
        assert [self.cache.match(*query)[::2] for query in queries] == before

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
            num_there = max(lease.num_tokens, lease.match_len)
            cells = request.cells
            if num_there > len(cells):
                cells = cells + cells_of(request.wanted, request.namespace)[len(cells) : num_there]
            read = [self.memory[table[position // size]][position % size] for position in range(num_there)]
            assert read == cells, "a request reads KV that is not its own"
            if self.mark_memory is not None:
                self.mark_memory.check_lease(lease, request.cells)
        if self.mark_memory is not None:
            self.mark_memory.check_tree(self.cache)
        for tokens, namespace in self.queries():
            self.reads(tokens, namespace)
        for pinned in self.pins:
            if pinned.pin.num_tokens and (pinned.pin.pinned_until is None or pinned.pin.pinned_until > self.now):
                assert self.cache.match(pinned.tokens, pinned.namespace).hit_len == len(pinned.tokens)
        if self.mirror is not None:
            assert self.mirror.hashes == matchable_hashes(self.cache), "the mirror differs from what can be matched"
            assert self.mirror.marks == matchable_marks(self.cache), "the mirror differs from what can be hit"

    def queries(self) -> Iterator[tuple[list[int], Namespace]]:
        """Some text whose cached part must be right, drawn anew each time, and what the requests wrote."""
        yield self.text(), self.random.choice(self.namespaces)
        for request in self.requests:
            yield request.tokens, request.namespace

    def explains(self, tokens: list[int], namespace: Namespace) -> None:
        """What is said of a miss is what a look at everything shows."""
        told, found = self.cache.explain(tokens, namespace), self.cache.match(tokens, namespace)
        match_len, goes_on, elsewhere = told_from(self.cache, tokens, namespace)
        assert told.match_len == match_len == found.match_len
        assert told.hit_len == found.hit_len
        if self.room is None:
            assert found.hit_len == match_len
        else:
            assert goes_on_at(self.cache, tokens[:match_len], namespace, self.room, found.hit_len)
        if match_len == len(tokens):
            assert told.reason is Reason.COMPLETE
            return
        assert len(told.expected) == len(set(told.expected)) == min(len(goes_on), 8)
        assert goes_on.issuperset(told.expected)
        if told.reason is not Reason.EVICTED:
            seen = Reason.DIVERGED if goes_on else Reason.NEVER_SEEN
            assert told.reason is (Reason.OTHER_NAMESPACE if elsewhere else seen)

    def reads(self, tokens: list[int], namespace: Namespace) -> None:
        found, size = self.cache.match(tokens, namespace), self.block_size
        read = [self.memory[found.blocks[position // size]][position % size] for position in range(found.match_len)]
        assert read == cells_of(tokens[: found.match_len], namespace), "a match gives KV of another text"

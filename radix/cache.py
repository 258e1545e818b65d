"""The prefix cache: what a runtime calls. Never touches KV bytes, knows nothing of models or threads."""

import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from stemma.radix import snapshot
from stemma.radix.acquire import acquire
from stemma.radix.check import check_state
from stemma.radix.errors import SnapshotError
from stemma.radix.events import Listener
from stemma.radix.explain import Explanation, explain
from stemma.radix.lease import Lease
from stemma.radix.lease_marks import begin
from stemma.radix.lease_state import NextUse
from stemma.radix.lease_table import LeaseTable
from stemma.radix.mark import MarkRoom
from stemma.radix.namespaces import Namespace, parts_of
from stemma.radix.node import Mark, Node
from stemma.radix.policy import Policy
from stemma.radix.publish import path_blocks
from stemma.radix.retained import Retained
from stemma.radix.reuse import ReuseQueue
from stemma.radix.stats import CacheStats, Match
from stemma.radix.store import BlockStore
from stemma.radix.tokens import TOKEN_BYTES, Packed, Tokens, pack


class PrefixCache:
    """Token-granular prefix cache over `num_blocks` physical blocks of `block_size` tokens.

    `acquire` gives a Lease: its prefix cannot be evicted. The lease reserves room (the only call that can find the
    pool too small), is told what was written, and publishes it by `commit`. `policy` makes the eviction queue
    (default: ReuseQueue; others in stemma.radix.policy), `clock` gives seconds, `pin_budget` bounds the pinned
    blocks (default: half of them), `ghost_tokens` the memory of evicted text (default: twice the cache), `marks` the
    room for windows and states (default: None, full layers only). Not thread-safe: one owner, as a scheduler is.

    A namespace is a string (a salt: equal text under another one is never matched) or Segments. Statistics and
    `explain` see all namespaces: they are the operator's, not a tenant's.
    """

    def __init__(
        self,
        num_blocks: int,
        block_size: int,
        policy: Policy = ReuseQueue,
        clock: Callable[[], float] = time.monotonic,
        *,
        pin_budget: int | None = None,
        ghost_tokens: int | None = None,
        marks: MarkRoom | None = None,
    ) -> None:
        self.block_size = block_size
        self._policy = policy
        self._mark_room = marks
        self._ghost_tokens = 2 * num_blocks * block_size if ghost_tokens is None else ghost_tokens
        store = BlockStore(num_blocks, block_size, policy(num_blocks), self._ghost_tokens, clock, marks)
        self._leases = LeaseTable(store, num_blocks // 2 if pin_budget is None else pin_budget)
        self._requests = self._hit_tokens = self._miss_tokens = 0

    @property
    def _store(self) -> BlockStore:
        return self._leases.store

    @property
    def num_blocks(self) -> int:
        return self._store.pool.total

    @property
    def available(self) -> int:
        """Blocks that reserves can get: free ones and those that may be evicted. O(1)."""
        self._leases.expire_pins()
        return self._store.available

    @property
    def available_slots(self) -> int:
        """Slots that advances can get: free ones, and those of marks that may be evicted. O(1)."""
        self._leases.expire_pins()
        return 0 if self._store.marks is None else self._store.marks.available_slots

    @property
    def available_window_blocks(self) -> int:
        """Window blocks likewise. O(1)."""
        self._leases.expire_pins()
        return 0 if self._store.marks is None else self._store.marks.available_window_blocks

    @property
    def has_marks(self) -> bool:
        """Whether one can go on only where a mark is."""
        return self._mark_room is not None

    def can_advance(self, num_slots: int, num_window_blocks: int) -> bool:
        """Whether advances can get so many slots and window blocks; what the model has no layers for is never short.
        O(1)."""
        marks = self._store.marks
        self._leases.expire_pins()
        return marks is None or marks.has_room(num_slots, num_window_blocks)

    def marks(self, tokens: Tokens, namespace: Namespace = "") -> list[Mark]:
        """Those of the longest cached prefix, in the order of their positions. For files: read at once."""
        path, match_len = self._descend(tokens, namespace)
        found = {position: mark for node in path for position, mark in (node.marks or {}).items()}
        return [found[position] for position in sorted(found) if position <= match_len]

    def _descend(self, tokens: Tokens, namespace: Namespace) -> tuple[list[Node], int]:
        """The nodes of the longest cached prefix, and its length."""
        data = pack(tokens)
        name, salt_boundary = parts_of(namespace)
        path: list[Node] = []
        root = self._store.tree.roots.get(name)
        if root is None:
            return path, 0
        _, match_len = self._store.tree.descend(root, 0, data, len(data) // TOKEN_BYTES, path, 0, salt_boundary)
        return path, match_len

    # Requests ------------------------------------------------------------------------------------

    def match(self, tokens: Tokens, namespace: Namespace = "") -> Match:
        """The longest cached prefix. Changes nothing: neither recency nor the shape of the tree."""
        path, match_len = self._descend(tokens, namespace)
        hit_len = match_len
        if self._store.marks is not None:
            hit_len = self._store.marks.going_on(path[-1], match_len)[0] if path else 0
        return Match(hit_len, path_blocks(path, match_len, self.block_size), match_len)

    def acquire(
        self,
        tokens: Tokens,
        namespace: Namespace = "",
        *,
        max_hit: int | None = None,
        priority: int = 0,
        marks_at: Iterable[int] = (),
    ) -> Lease:
        """Hold the longest cached prefix of `tokens`, at most `max_hit` tokens of it. Allocates nothing.

        Only what matched becomes recent. `priority` is for the policy of that name. marks_at: positions at which the
        caller knows that others will go on; with marks only.
        """
        data = pack(tokens)
        lease = self._acquire(data, namespace, max_hit, priority, marks_at)
        self.count(len(data) // TOKEN_BYTES, lease.hit_len)
        return lease

    def acquire_uncounted(
        self,
        tokens: Tokens,
        namespace: Namespace = "",
        *,
        max_hit: int | None = None,
        priority: int = 0,
        marks_at: Iterable[int] = (),
    ) -> Lease:
        """As `acquire`, but the counters know nothing of it: for a try, or for what was computed elsewhere."""
        return self._acquire(pack(tokens), namespace, max_hit, priority, marks_at)

    def _acquire(
        self, data: Packed, namespace: Namespace, max_hit: int | None, priority: int, marks_at: Iterable[int]
    ) -> Lease:
        num_tokens, (name, salt_boundary) = len(data) // TOKEN_BYTES, parts_of(namespace)
        if max_hit is None or max_hit > num_tokens:
            max_hit = num_tokens
        elif max_hit < 0:
            raise ValueError(f"max_hit must not be negative, got {max_hit}")
        leases = self._leases
        state = acquire(leases, data, name, salt_boundary, int(max_hit), priority)
        if self._mark_room is None:
            return Lease(leases, state, state.at)
        begin(leases.store, state, num_tokens, marks_at)
        return Lease(leases, state, state.position)

    def count(self, num_tokens: int, hit_len: int) -> None:
        """One more request, for so many tokens, of which so many were found."""
        self._requests += 1
        self._hit_tokens += hit_len
        self._miss_tokens += num_tokens - hit_len

    # What operators ask for ----------------------------------------------------------------------

    def check_pin(self, retained: Retained, num_tokens: int) -> None:
        """Raises PinError if so many tokens would be too much for this pin now."""
        self._leases.expire_pins()
        self._leases.retained.check_budget(retained, self._leases.pin_size(num_tokens, num_tokens))

    def share(self, retained: Retained, other: Retained) -> None:
        """`other` keeps the same path as `retained`, in constant time."""
        self._leases.share(retained, other)

    def let_go(self, retained: Retained, next_use: NextUse = NextUse.UNKNOWN) -> None:
        """Nothing is kept there any more. Twice is once. `next_use`: as for a lease, of what was not shared."""
        self._leases.let_go(retained, next_use)

    def give_up_one(self) -> bool:
        """Let go of what is retained, not pinned, and was used longest ago; False if there is nothing."""
        return self._leases.give_up_one()

    def drop(self, namespace: Namespace) -> int:
        """Forget a namespace (of Segments: the private part, under its salt). Nothing of it is matched from now on;
        what leases hold stays theirs. Returns the blocks that came free at once."""
        self._leases.expire_pins()
        before = self._store.pool.num_free
        self._store.forget(*parts_of(namespace))
        return self._store.pool.num_free - before

    def clear(self) -> int:
        """Forget everything. Nothing is matched from now on; what leases and pins hold stays theirs until they let go.
        Returns the blocks that came free at once."""
        self._leases.expire_pins()
        before = self._store.pool.num_free
        self._store.ghosts.clear()
        self._store.events.clearing(self._store.tree.awake(self._store.tree.nodes()))
        for name in list(self._store.tree.roots):
            self._store.forget(name, None)
        self._store.events.cleared()
        return self._store.pool.num_free - before

    def explain(self, tokens: Tokens, namespace: Namespace = "", *, looks_elsewhere: bool = True) -> Explanation:
        """How much of `tokens` is cached and why it is not more. Changes nothing.

        looks_elsewhere: whether the answer may be that another namespace has them. A tenant's must not: what stands in
        its place then would tell the same.
        """
        name, salt_boundary = parts_of(namespace)
        root = self._store.tree.roots.get(name) or Node(None, b"", 0, b"", array("i"), 0, name)
        others = self._store.tree.others_have if looks_elsewhere else _nobody
        store, data = self._store, pack(tokens)
        return explain(store.tree, store.ghosts, root, data, salt_boundary, others, store.marks)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each event from now on, first with all that is stored. Returns what ends it."""
        self._store.events.join(listener, self._store.tree.awake(self._store.tree.matchable()))
        return lambda: self._store.events.leave(listener)

    def stats(self) -> CacheStats:
        """All counters; O(1) in the size of the cache."""
        self._leases.expire_pins()
        store = self._store
        free, room = store.pool.num_free, store.published_blocks * self.block_size
        oldest = store.queue.oldest()
        return CacheStats(
            store.pool.total,
            free,
            store.pool.total - free - store.evictable,
            store.evictable,
            store.published_blocks,
            self._leases.retained.pinned.blocks,
            len(self._leases.states),
            self._requests,
            self._hit_tokens,
            self._miss_tokens,
            store.evicted_blocks,
            max(1 - store.published_tokens / room, 0.0) if room else 0.0,
            None if oldest is None else store.clock() - oldest,
            None if store.marks is None else store.marks.stats(),
        )

    def walk(self) -> Iterator[Node]:
        """Every node that can be matched, each after its parent. For pictures: read at once, do not write to them."""
        return self._store.tree.matchable()

    def check(self) -> None:
        """Prove every invariant: each block has one owner, holds and counts are right. Costs a walk over the cache."""
        check_state(self._leases)
        stats = self.stats()
        assert stats.free + stats.leased + stats.cached == stats.total

    def state(self) -> bytes:
        """The tree and its block numbers as bytes, checksummed. Keep the KV of the published blocks next to it."""
        return snapshot.dump(self._store)

    def restore(self, data: bytes | bytearray | memoryview) -> None:
        """Take over a state into an empty cache of the same size. SnapshotError, with nothing changed, otherwise."""
        self._leases.expire_pins()
        old = self._store
        if self._leases.states or old.pool.num_free != old.pool.total:
            raise SnapshotError("restore needs an empty cache: make a new one, or release everything and clear")
        queue = self._policy(self.num_blocks)
        fresh = BlockStore(self.num_blocks, self.block_size, queue, self._ghost_tokens, old.clock, self._mark_room)
        snapshot.load(data, fresh)
        self._leases.store = fresh
        fresh.events.take_over(old.events, fresh.tree.awake(fresh.tree.nodes()))

    def save(self, path: Path) -> None:
        """Write the state to a file, atomically."""
        snapshot.write(self.state(), path)


def _nobody(root: Node, data: Packed, num_tokens: int) -> bool:
    return False

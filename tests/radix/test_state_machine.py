"""Any order of acquire, reserve, extend, truncate, commit, fork, release and match, against a KV memory that is
written and copied as a runtime would: what a lease reads in its blocks must be its own tokens."""

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from stemma.radix import Lease, OutOfBlocks, PrefixCache

NAMESPACES = ("", "tenant")
token = st.integers(0, 2)
texts = st.lists(token, max_size=40)


class Request:
    """A lease and the tokens it should have."""

    def __init__(self, lease: Lease, tokens: list[int], namespace: str) -> None:
        self.lease = lease
        self.tokens = tokens
        self.namespace = namespace


class CacheMachine(RuleBasedStateMachine):
    @initialize(num_blocks=st.integers(1, 30), block_size=st.integers(1, 8))
    def start(self, num_blocks: int, block_size: int) -> None:
        self.time = 0.0
        self.cache = PrefixCache(num_blocks, block_size, clock=self.tick)
        self.block_size = block_size
        self.memory: dict[tuple[int, int], tuple[str, tuple[int, ...]]] = {}  # (block, slot) -> the prefix it holds
        self.requests: list[Request] = []
        self.published: set[tuple[str, tuple[int, ...]]] = set()

    def tick(self) -> float:
        self.time += 1.0
        return self.time

    def pick(self, data: st.DataObject) -> Request:
        return self.requests[data.draw(st.integers(0, len(self.requests) - 1))]

    def reads(self, request: Request) -> None:
        """Each position of the lease holds the KV of exactly its prefix."""
        lease, size = request.lease, self.block_size
        assert lease.num_tokens == len(request.tokens)
        for position in range(lease.num_tokens):
            slot = (lease.blocks[position // size], position % size)
            assert self.memory.get(slot) == (request.namespace, tuple(request.tokens[: position + 1]))

    @rule(tokens=texts, namespace=st.sampled_from(NAMESPACES), max_hit=st.none() | st.integers(0, 40))
    def acquire(self, tokens: list[int], namespace: str, max_hit: int | None) -> None:
        expected = self.cache.match(tokens, namespace).hit_len
        lease = self.cache.acquire(tokens, namespace, max_hit=max_hit)
        assert lease.hit_len == min(expected, len(tokens) if max_hit is None else max_hit)
        self.requests.append(Request(lease, tokens[: lease.hit_len], namespace))

    @precondition(lambda self: self.requests)
    @rule(data=st.data(), tokens=st.lists(token, min_size=1, max_size=20), more=st.integers(0, 9))
    def write(self, data: st.DataObject, tokens: list[int], more: int) -> None:
        request = self.pick(data)
        lease = request.lease
        before = (list(lease.blocks), lease.num_tokens, self.cache.stats())
        try:
            copies = lease.reserve(len(tokens) + more)
        except OutOfBlocks as refused:
            error = refused
            copies = None
        if copies is None:
            assert error.needed > error.available == self.cache.available
            assert before == (list(lease.blocks), lease.num_tokens, self.cache.stats())
            return
        for copy in copies:
            for slot in range(copy.num_tokens):
                self.memory[copy.destination, slot] = self.memory[copy.source, slot]
        for written in tokens:
            position = len(request.tokens)
            request.tokens.append(written)
            slot = (lease.blocks[position // self.block_size], position % self.block_size)
            self.memory[slot] = (request.namespace, tuple(request.tokens))
        lease.extend(tokens)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def truncate(self, data: st.DataObject) -> None:
        request = self.pick(data)
        keep = data.draw(st.integers(request.lease.num_published, request.lease.num_tokens))
        request.lease.truncate(keep)
        del request.tokens[keep:]

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        request = self.pick(data)
        request.lease.commit()
        assert self.cache.match(request.tokens, request.namespace).hit_len == len(request.tokens)

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        request = self.pick(data)
        self.requests.append(Request(request.lease.fork(), list(request.tokens), request.namespace))

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        request = self.pick(data)
        request.lease.release()
        self.requests.remove(request)

    @rule(tokens=texts, namespace=st.sampled_from(NAMESPACES))
    def match(self, tokens: list[int], namespace: str) -> None:
        found = self.cache.match(tokens, namespace)
        for position in range(found.hit_len):
            slot = (found.blocks[position // self.block_size], position % self.block_size)
            assert self.memory.get(slot) == (namespace, tuple(tokens[: position + 1]))

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "cache"):
            self.cache.check()
            for request in self.requests:
                self.reads(request)


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)

"""A cache that lives, one thread at a time, what it holds block by block, and a network that loses messages."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import zmq

from stemma.radix import Lease, MarkRoom, Namespace, PrefixCache, Segments
from stemma.radix.errors import OutOfBlocks
from stemma.radix.tokens import unpack
from stemma.scale.events import EventOptions, Gap, Mirror, Subscriber

SIZE = 4
NAMESPACES: tuple[Namespace, ...] = (
    "",
    "",
    "team",
    "team//lora:sql@0f3a",
    Segments("", 6, "ours"),
    Segments("", 6, "x"),
)
HERE = "tcp://127.0.0.1:0"

Texts = set[tuple[str, tuple[int, ...]]]


class World:
    """A small cache, so that it evicts, and what a scheduler does with it, at random."""

    def __init__(self, seed: int, marks: MarkRoom | None = None) -> None:
        self.cache = PrefixCache(48, SIZE, marks=marks)
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._leases: list[Lease] = []

    def between(self, look: Callable[[PrefixCache], Any]) -> Any:
        with self._lock:
            return look(self.cache)

    def live(self, num_steps: int) -> None:
        for _ in range(num_steps):
            with self._lock:
                self._step()

    def _step(self) -> None:
        draw = self._random
        match draw.choices(["text", "hold", "fork", "release", "drop", "clear", "reload"], [60, 10, 8, 20, 2, 1, 1])[0]:
            case "text":
                lease = self._compute(draw.choice(NAMESPACES))
                if lease is not None:
                    lease.release()
            case "hold":
                lease = self._compute(draw.choice(NAMESPACES))
                self._leases += [] if lease is None else [lease]
            case "fork" if self._leases:
                self._leases.append(draw.choice(self._leases).fork())
            case "release" if self._leases:
                self._leases.pop(draw.randrange(len(self._leases))).release()
            case "drop":
                self.cache.drop(draw.choice(NAMESPACES))
            case "clear":
                self.cache.clear()
            case "reload":
                self._reload()

    def _compute(self, namespace: Namespace) -> Lease | None:
        draw = self._random
        start = [draw.randrange(2) for _ in range(draw.randrange(1, 14))]
        tokens = start + [draw.randrange(3) for _ in range(draw.randrange(20))]
        lease = self.cache.acquire(tokens, namespace, max_hit=len(tokens) - 1)
        while lease.num_tokens < len(tokens):
            piece = tokens[lease.num_tokens :][: draw.randrange(1, 9)]
            try:
                lease.reserve(len(piece))
                lease.advance(len(piece))
            except OutOfBlocks:
                lease.release()
                return None
            lease.extend(piece)
            if draw.random() < 0.3:
                lease.mark()
                lease.commit()
        lease.mark()
        lease.commit()
        return lease

    def _reload(self) -> None:
        while self._leases:
            self._leases.pop().release()
        state = self.cache.state()
        self.cache.clear()
        self.cache.restore(state)

    def texts(self) -> Texts:
        """Each full block, as its scope and all tokens up to its end."""
        with self._lock:
            found: Texts = set()
            paths: dict[int, list[int]] = {}
            for node in self.cache.walk():
                path = paths[id(node)] = paths.get(id(node.parent), []) + unpack(node.tokens)
                ends = range(SIZE * (node.start // SIZE + 1), node.end + 1, SIZE)
                found |= {(node.scope, tuple(path[:end])) for end in ends}
            return found

    def marks(self) -> Counter[tuple[str, int]]:
        with self._lock:
            return Counter((node.scope, at) for node in self.cache.walk() for at in node.marks or ())


def texts_of(mirror: Mirror) -> Texts:
    """The same of a mirror; a block whose beginning it does not know is none."""
    paths = ((block.scope, mirror.path(name)) for name, block in mirror.blocks.items())
    return {(scope, tuple(path)) for scope, path in paths if path is not None}


def marks_of(mirror: Mirror) -> Counter[tuple[str, int]]:
    return Counter((scope, at) for _, at, scope in mirror.marks)


class Follower:
    """A mirror that follows a publisher, and the gaps it was told of."""

    def __init__(self, subscriber: Subscriber) -> None:
        self.subscriber = subscriber
        self.mirror = Mirror()
        self.gaps: list[str] = []

    def follow(self, seconds: float = 0.0) -> None:
        """Hear what there is."""
        while (heard := self.subscriber.get(seconds)) is not None:
            if isinstance(heard[1], Gap):
                self.gaps.append(heard[1].why)
                self.mirror.clear()
            else:
                self.mirror.apply(heard[1])

    def follow_until(self, condition: Callable[[], bool], seconds: float = 20.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain; gaps: {self.gaps}"
            self.follow(0.02)


@contextmanager
def following(endpoint: str, replay: str | None, **options: Any) -> Iterator[Follower]:
    with Subscriber(endpoint, replay, **{"silence_seconds": 0.2, "replay_seconds": 2.0} | options) as subscriber:
        yield Follower(subscriber)


def options(**given: Any) -> EventOptions:
    """At free ports of this machine's own."""
    return EventOptions(**{"endpoint": HERE, "replay": HERE} | given)


@contextmanager
def losing(endpoint: str, share: float, seed: int = 0) -> Iterator[str]:
    """Passes an endpoint's messages on, but for a share of them. Gives its own endpoint."""
    draw, stopping = random.Random(seed), threading.Event()
    with zmq.Context() as context, context.socket(zmq.SUB) as ear, context.socket(zmq.PUB) as mouth:
        ear.subscribe(b"")
        ear.connect(endpoint)
        port = mouth.bind_to_random_port("tcp://127.0.0.1")

        def run() -> None:
            while not stopping.is_set():
                if ear.poll(20):
                    frames = ear.recv_multipart()
                    if draw.random() >= share:
                        mouth.send_multipart(frames)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"tcp://127.0.0.1:{port}"
        finally:
            stopping.set()
            thread.join()
            mouth.setsockopt(zmq.LINGER, 0)

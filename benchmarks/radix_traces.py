"""Traces of five families of prefix-sharing traffic, made from a seed. Knows no cache and no peer.

A trace is a pool size and a list of requests (prompt, output) as int32 arrays. Sizes scale with `scale`; the seed
changes the texts, the lengths, the order and the mix, so that no figure hangs on one example.
"""

import hashlib
from collections.abc import Callable
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]
VOCABULARY = 32_000


class Request(NamedTuple):
    prompt: Ids
    output: Ids


class Trace(NamedTuple):
    name: str
    pool_tokens: int
    requests: list[Request]


class Writer:
    """Random texts and lengths from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def text(self, length: int) -> Ids:
        return self.random.integers(0, VOCABULARY, max(1, int(length)), dtype=np.int32)

    def length(self, mean: float, spread: float = 0.5) -> int:
        """Log-normal around `mean`."""
        return max(1, int(mean * self.random.lognormal(-spread * spread / 2, spread)))

    def pick(self, count: int) -> int:
        return int(self.random.integers(count))


def chat(seed: int = 1, scale: float = 1.0) -> Trace:
    """2,000 sessions of 8 turns, 256 of them live, three system prompts."""
    writer = Writer(seed)
    systems = [writer.text(writer.length(mean, 0.2)) for mean in (400, 800, 1600)]
    sessions, live_count, turns = int(2000 * scale), int(256 * scale), 8
    requests: list[Request] = []
    live: list[tuple[Ids, int]] = []
    started = 0
    while started < sessions or live:
        while len(live) < live_count and started < sessions:
            live.append((systems[writer.pick(3)], 0))
            started += 1
        index = writer.pick(len(live))
        history, turn = live[index]
        prompt = np.concatenate([history, writer.text(writer.length(60))])
        output = writer.text(writer.length(120))
        requests.append(Request(prompt, output))
        if turn + 1 == turns:
            live[index] = live[-1]
            live.pop()
        else:
            live[index] = (np.concatenate([prompt, output]), turn + 1)
    return Trace("chat", int(190_000 * scale), requests)


def few_shot(seed: int = 1, scale: float = 1.0) -> Trace:
    """One prefix of 2,000 tokens and 20,000 questions, each asked once."""
    writer = Writer(seed)
    prefix = writer.text(2000)
    requests = [
        Request(np.concatenate([prefix, writer.text(writer.length(90))]), writer.text(writer.length(30)))
        for _ in range(int(20_000 * scale))
    ]
    return Trace("few-shot", 65_536, requests)


def tree_of_thought(seed: int = 1, scale: float = 1.0) -> Trace:
    """Problems searched in breadth: each thought kept is the prefix of the next three, 24 problems at once."""
    writer = Writer(seed)
    instructions = writer.text(800)
    waiting = int(400 * scale)
    requests: list[Request] = []
    live: list[list[Ids]] = []  # per problem: the frontier still to expand
    depth_of: list[int] = []
    while waiting or live:
        while waiting and len(live) < 24:
            live.append([np.concatenate([instructions, writer.text(writer.length(200))])])
            depth_of.append(0)
            waiting -= 1
        index = writer.pick(len(live))
        thoughts: list[Ids] = []
        for node in live[index]:
            for _ in range(3):
                prompt = np.concatenate([node, writer.text(writer.length(10))])
                output = writer.text(writer.length(60))
                requests.append(Request(prompt, output))
                thoughts.append(np.concatenate([prompt, output]))
        writer.random.shuffle(thoughts)  # type: ignore[arg-type]
        live[index], depth_of[index] = thoughts[:3], depth_of[index] + 1
        if depth_of[index] == 5:
            live.pop(index)
            depth_of.pop(index)
    return Trace("tree", int(60_000 * scale), requests)


def long_documents(seed: int = 1, scale: float = 1.0) -> Trace:
    """Questions on documents of 2k to 30k tokens, some popular and many not; a pool of 200k tokens."""
    writer = Writer(seed)
    documents = [writer.text(min(30_000, max(2_000, writer.length(8_000, 0.7)))) for _ in range(int(100 * scale))]
    weights = 1.0 / np.arange(1, len(documents) + 1) ** 1.0
    writer.random.shuffle(weights)
    order = writer.random.choice(len(documents), size=int(1500 * scale), p=weights / weights.sum())
    requests = [
        Request(np.concatenate([documents[i], writer.text(writer.length(50))]), writer.text(writer.length(100)))
        for i in order
    ]
    return Trace("long documents", 200_000, requests)


def agents(seed: int = 1, scale: float = 1.0) -> Trace:
    """Agents whose histories grow to 30,000 tokens, 24 of them live; each calls a tool of its own latency."""
    writer = Writer(seed)
    instructions = writer.text(1500)
    waiting = int(90 * scale)
    requests: list[Request] = []
    live: list[tuple[float, int, float, Ids]] = []  # when it comes back, its number, its tool's latency, its history
    now = 0.0
    while waiting or live:
        while waiting and len(live) < 24:
            latency = float(writer.random.lognormal(0, 0.8))
            history = np.concatenate([instructions, writer.text(writer.length(300))])
            heappush(live, (now + latency * float(writer.random.random()), waiting, latency, history))
            waiting -= 1
        now, number, latency, history = heappop(live)
        prompt = np.concatenate([history, writer.text(writer.length(450, 0.8))])
        output = writer.text(writer.length(150))
        requests.append(Request(prompt, output))
        history = np.concatenate([prompt, output])
        if len(history) <= 30_000:
            heappush(live, (now + latency * float(writer.random.lognormal(0, 0.4)), number, latency, history))
    return Trace("agents", 150_000, requests)


FAMILIES: dict[str, Callable[[int, float], Trace]] = {
    "chat": chat,
    "few-shot": few_shot,
    "tree": tree_of_thought,
    "long documents": long_documents,
    "agents": agents,
}


def endless_hit_rate(trace: Trace) -> float:
    """The token hit rate of a cache that never evicts, by a plain trie of hashed prefixes of 16 tokens."""
    seen: set[bytes] = set()
    hit = total = 0
    for prompt, output in trace.requests:
        data = np.concatenate([prompt, output]).tobytes()
        digest = hashlib.blake2b(digest_size=16)
        matched, still = 0, True
        for start in range(0, len(data) - 63, 64):
            digest.update(data[start : start + 64])
            key = digest.digest()
            if key in seen:
                if still and start + 64 <= 4 * len(prompt):
                    matched += 16
            else:
                still = False
                seen.add(key)
        hit += matched
        total += len(prompt)
    return hit / total

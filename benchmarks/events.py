"""What publishing KV events costs: the loop that changes the cache, bytes on the wire, memory of the mirror.

    python benchmarks/events.py [--texts 300] [--tokens 2048] [--json FILE]

A text is acquired, written and published as a scheduler does it, with no model behind: without anybody who listens,
with a listener that does nothing (what hashing costs), and with a publisher. In turn, in one process, medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from stemma.radix import PrefixCache
from stemma.scale.events import EventOptions, Mirror, Publisher, Subscriber, Told

BLOCK = 16
ENDPOINT = "tcp://127.0.0.1:0"


def texts(num: int, num_tokens: int) -> list[np.ndarray]:
    draw = np.random.default_rng(7)
    return [draw.integers(0, 50_000, num_tokens, dtype=np.int32) for _ in range(num)]


def run(cache: PrefixCache, all_texts: list[np.ndarray]) -> float:
    """Microseconds of this thread for a block, evictions included."""
    started = time.thread_time()
    for text in all_texts:
        with cache.acquire(text) as lease:
            rest = text[lease.num_tokens :]
            lease.reserve(len(rest))
            lease.extend(rest)
            lease.commit()
    return (time.thread_time() - started) * 1e6 / sum(len(text) // BLOCK for text in all_texts)


def loop_cost(all_texts: list[np.ndarray], rounds: int) -> dict[str, float]:
    num_blocks = sum(len(text) // BLOCK for text in all_texts) // 2
    found: dict[str, list[float]] = {"nobody": [], "a listener": [], "a publisher": []}
    for _ in range(rounds):
        found["nobody"].append(run(PrefixCache(num_blocks, BLOCK), all_texts))
        cache = PrefixCache(num_blocks, BLOCK)
        cache.subscribe(lambda event: None)
        found["a listener"].append(run(cache, all_texts))
        cache = PrefixCache(num_blocks, BLOCK)
        with Publisher(between(cache), EventOptions(endpoint=ENDPOINT, replay=ENDPOINT)):
            found["a publisher"].append(run(cache, all_texts))
    return {name: statistics.median(values) for name, values in found.items()}


def between(cache: PrefixCache) -> Any:
    """Nothing changes the cache but this thread, and it does so while nobody asks."""
    return lambda look: look(cache)


def sizes(all_texts: list[np.ndarray]) -> dict[str, float]:
    num_blocks = sum(len(text) // BLOCK for text in all_texts)
    cache, events = PrefixCache(num_blocks + 1, BLOCK), []
    cache.subscribe(events.append)
    run(cache, all_texts)
    tracemalloc.start()
    mirror = Mirror()
    for event in events:
        mirror.apply(Told(event))
    memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    with Publisher(between(cache), EventOptions(endpoint=ENDPOINT, replay=ENDPOINT, kept=1)) as publisher:
        wait_until(lambda: publisher._intake._is_waiting)
        sent = sum(len(message.payload) for message in publisher._all_there_is(publisher._history.latest, 10**9))
        started = time.perf_counter()
        with Subscriber(publisher.endpoint, publisher.replay, replay_seconds=60) as subscriber:
            known = Mirror()
            while len(known.blocks) < num_blocks:
                heard = subscriber.get(1.0)
                if heard is not None and isinstance(heard[1], Told):
                    known.apply(heard[1])
        seconds = time.perf_counter() - started
    return {
        "bytes on the wire a block": sent / num_blocks,
        "bytes of the mirror a block": memory / num_blocks,
        "microseconds a block from nothing to all": seconds * 1e6 / num_blocks,
    }


def wait_until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.01)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    sys.setswitchinterval(0.005)
    all_texts = texts(given.texts, given.tokens)
    costs = loop_cost(all_texts, given.rounds)
    for name, value in costs.items():
        print(f"{value:8.2f} us a block of the loop's thread, {name}")
    (name_of_peer, least), *others = costs.items()
    rows = [
        {
            "case": name,
            "metric": "us_a_block",
            "ours": value,
            "peer": least,
            "peer_name": name_of_peer,
            "ratio": value / least,
        }
        for name, value in others
    ]
    if given.json:
        given.json.write_text(json.dumps({"rows": rows}, indent=1))
    for name, value in sizes(all_texts).items():
        print(f"{value:8.1f} {name}")


if __name__ == "__main__":
    main()

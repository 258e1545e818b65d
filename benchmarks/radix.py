"""The prefix cache against SGLang's, on traces of five families: time per request, hit rates, eviction; and the soak.

    python benchmarks/radix.py [--json FILE] [--repeats 5] [--scale 1.0]     figures, peers in the same run, interleaved
    python benchmarks/radix.py --parts traces --block 1 16 --seeds 1 2 3     times a request with blocks of 1 token too
    python benchmarks/radix.py --parts hedge --mooncake FOLDER               hit rates against LRU on growing sessions
    python benchmarks/radix.py --parts memory                                bytes a token, full garbage collections
    python benchmarks/radix.py --soak 10000000                               random operations, checked

Times are CPU time of the thread, so that other programs on the machine disturb them less; medians of the repeats. Each
row says whether ours ran compiled or interpreted (stemma.radix.is_compiled), and with blocks of how many tokens.
"""

import argparse
import gc
import json
import statistics
import subprocess
import sys
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from time import thread_time
from typing import NamedTuple

import numpy as np
from radix_peers import PEERS, Peer, RustCore
from radix_sessions import TOKENS_PER_ID, coding_agents, mooncake, unique_tokens
from radix_traces import FAMILIES, Request, Trace
from radix_worlds import World

from stemma.radix import Lease, PrefixCache, is_compiled, lru
from stemma.radix.reuse import unhedged

BLOCK = 16
HELD_OUT_SEEDS = (11, 12, 13)
SESSIONS = ((21, 6), (22, 12), (23, 20))  # seeds, and how many sessions are live
POOL_SHARES = (0.02, 0.05, 0.1, 0.25, 0.5)


class Row(NamedTuple):
    """One figure: ratio is ours over the peer's."""

    case: str
    metric: str
    ours: float
    peer: float
    peer_name: str
    block: int = BLOCK

    def as_dict(self) -> dict[str, object]:
        form = "compiled" if is_compiled else "interpreted"
        return {**self._asdict(), "ratio": self.ours / self.peer if self.peer else None, "form": form}


class Prepared(NamedTuple):
    """A request as int32 arrays, the form in which a runtime keeps it; slices of a view are free of copies."""

    prompt: "array[int]"
    full: memoryview


class Ours:
    """Stemma's cache behind the peers' face."""

    name = "stemma"

    def __init__(self, pool_tokens: int, page_size: int) -> None:
        self.cache = PrefixCache(pool_tokens // page_size, page_size)

    def prepare(self, request: Request) -> Prepared:
        prompt = request.prompt.tobytes()
        return Prepared(array("i", prompt), memoryview(array("i", prompt + request.output.tobytes())))

    def serve(self, prepared: Prepared) -> None:
        prompt, full = prepared
        lease = self.cache.acquire(prompt, max_hit=len(prompt) - 1)
        hit = lease.hit_len
        lease.reserve(len(full) - hit)
        lease.extend(full[hit:])
        lease.commit()
        lease.release()

    def evict(self, num_tokens: int) -> None:
        """What a reserve does when nothing is free."""
        lease = self.cache.acquire(array("i"))
        lease.reserve(num_tokens)
        lease.release()

    def hit_tokens(self) -> int:
        return self.cache.stats().hit_tokens


class OursLRU(Ours):
    """The same with LRU."""

    name = "stemma, LRU"

    def __init__(self, pool_tokens: int, page_size: int) -> None:
        self.cache = PrefixCache(pool_tokens // page_size, page_size, lru)


class OursUnhedged(Ours):
    """The default policy without its hedge."""

    name = "stemma, unhedged"

    def __init__(self, pool_tokens: int, page_size: int) -> None:
        self.cache = PrefixCache(pool_tokens // page_size, page_size, unhedged)


def time_per_request(make: Callable[[int, int], Peer], trace: Trace, block: int = BLOCK) -> tuple[float, float]:
    """Microseconds per request and the token hit rate."""
    peer = make(trace.pool_tokens, block)
    prepared = [peer.prepare(request) for request in trace.requests]
    gc.collect()
    gc.disable()
    start = thread_time()
    for request in prepared:
        peer.serve(request)
    seconds = thread_time() - start
    gc.enable()
    return 1e6 * seconds / len(prepared), peer.hit_tokens() / sum(len(request.prompt) for request in trace.requests)


def traces(repeats: int, scale: float, names: list[str], blocks: list[int], seeds: list[int]) -> Iterator[Row]:
    """Time per request and hit rate of each family, with blocks of each size and for each seed."""
    for name in names:
        for seed in seeds:
            trace = FAMILIES[name](seed, scale)
            for block in blocks:
                yield from one_trace(f"{name}, seed {seed}", trace, repeats, block)


def one_trace(case: str, trace: Trace, repeats: int, block: int) -> Iterator[Row]:
    """All caches in turn."""
    makers = (Ours, OursLRU, *PEERS)
    figures: dict[str, list[tuple[float, float]]] = {}
    for _ in range(repeats):
        for make in makers:
            figures.setdefault(make.name, []).append(time_per_request(make, trace, block))  # type: ignore[attr-defined]
    medians = {who: statistics.median(time for time, _ in runs) for who, runs in figures.items()}
    for who in list(medians)[1:]:
        yield Row(case, "us_per_request", medians[Ours.name], medians[who], who, block)
    yield Row(case, "hit_rate", figures[Ours.name][0][1], figures[OursLRU.name][0][1], OursLRU.name, block)
    yield Row(case, "hit_rate", figures[Ours.name][0][1], endless(trace, block), "endless", block)


def endless(trace: Trace, block: int) -> float:
    """The hit rate of a cache that never evicts."""
    tokens = sum(len(request.prompt) + len(request.output) for request in trace.requests)
    return time_per_request(OursLRU, trace._replace(pool_tokens=tokens + 64 * len(trace.requests)), block)[1]


def held_out(scale: float, names: list[str]) -> Iterator[Row]:
    """Hit rates over LRU's on other seeds and other pool sizes of the same families."""
    for name in names:
        for seed in HELD_OUT_SEEDS:
            trace = FAMILIES[name](seed, scale)
            for share in (0.7, 1.0, 1.5):
                sized = trace._replace(pool_tokens=int(trace.pool_tokens * share))
                ours, theirs = time_per_request(Ours, sized)[1], time_per_request(OursLRU, sized)[1]
                yield Row(f"{name}, seed {seed}, pool x{share}", "hit_rate", ours, theirs, OursLRU.name)


def hedge(folder: Path | None) -> Iterator[Row]:
    """Hit rates on recorded conversations and on sessions of agents, at pools of 2 to 50 % of the unique tokens. Blocks
    of the size of what stands for one of the recorded ids."""
    recorded = sorted(folder.glob("mooncake_*.jsonl")) if folder else []
    drawn = [coding_agents(seed, num_live=live)._replace(name=f"coding agents {live}") for seed, live in SESSIONS]
    for trace in [*map(mooncake, recorded), *drawn]:
        unique = unique_tokens(trace)
        for share in POOL_SHARES:
            sized = trace._replace(pool_tokens=int(share * unique))
            ours = time_per_request(Ours, sized, TOKENS_PER_ID)
            for peer in (OursLRU, OursUnhedged):
                theirs = time_per_request(peer, sized, TOKENS_PER_ID)
                yield Row(f"{trace.name}, pool {share:.0%}", "hit_rate", ours[1], theirs[1], peer.name, TOKENS_PER_ID)
                yield Row(
                    f"{trace.name}, pool {share:.0%}", "us_per_request", ours[0], theirs[0], peer.name, TOKENS_PER_ID
                )


def full_of_leaves(make: Callable[[int, int], Peer], num_leaves: int) -> Peer:
    """A cache with that many leaves of 64 tokens below one prefix, and nothing free."""
    numbers = np.random.default_rng(7)
    peer = make(64 * num_leaves + 64, BLOCK)
    prefix = numbers.integers(0, 32_000, 64, dtype=np.int32)
    for _ in range(num_leaves):
        peer.serve(peer.prepare(_leaf_request(prefix, numbers)))
    return peer


def _leaf_request(prefix: "np.ndarray[tuple[int], np.dtype[np.int32]]", numbers: np.random.Generator) -> Request:
    text = numbers.integers(0, 32_000, 64, dtype=np.int32)
    return Request(np.concatenate([prefix, text[:48]]), text[48:])


def eviction_time(peer: Peer, times: int = 200) -> float:
    """Microseconds of one eviction of 64 tokens, the mean of many in a row."""
    start = thread_time()
    for _ in range(times):
        peer.evict(64)
    return 1e6 * (thread_time() - start) / times


class OursEvicting(Ours):
    """Keeps what it evicted for, so that each eviction finds nothing free."""

    def __init__(self, pool_tokens: int, page_size: int) -> None:
        super().__init__(pool_tokens, page_size)
        self.kept: list[Lease] = []

    def evict(self, num_tokens: int) -> None:
        lease = self.cache.acquire(array("i"))
        lease.reserve(num_tokens)
        self.kept.append(lease)


def evictions(repeats: int) -> Iterator[Row]:
    """One eviction of 64 tokens with 1,000, 50,000 and 200,000 leaves."""
    ours: dict[int, float] = {}
    for num_leaves in (1_000, 50_000, 200_000):
        runs = min(repeats, 2) if num_leaves > 100_000 else repeats
        times = [eviction_time(full_of_leaves(OursEvicting, num_leaves)) for _ in range(runs)]
        ours[num_leaves] = statistics.median(times)
    yield Row("64 tokens", "evict_200k_over_1k", ours[200_000], ours[1_000], "stemma at 1,000 leaves")
    rust = eviction_time(full_of_leaves(RustCore, 50_000), times=20)
    yield Row("64 tokens, 50,000 leaves", "us_per_eviction", ours[50_000], rust, RustCore.name)


def memory(scale: float) -> Iterator[Row]:
    """Bytes and garbage collections of a cache of 10M tokens: full, and before it had evicted anything."""
    num_tokens = int(10_000_000 * scale)
    for leaf_tokens in (64, 512):
        script = [sys.executable, str(Path(__file__).with_name("radix_memory.py")), str(leaf_tokens), str(num_tokens)]
        weight = json.loads(subprocess.run(script, check=True, capture_output=True, text=True).stdout)
        case = f"{num_tokens:,} tokens, leaves of {leaf_tokens}"
        for metric in ("live_bytes", "full_bytes", "remembered_bytes"):
            yield Row(case, metric, weight[metric], 4.0, "bytes of a token id")
        for metric in ("live_objects", "remembered_objects"):
            yield Row(case, metric, weight[metric], 1.0, "an object a leaf")
        yield Row(case, "collection_ms", weight["full_collection"], weight["live_collection"], "nothing remembered")


def soak(num_operations: int, seed: int = 1) -> None:
    """Random worlds: what every request reads is compared after each operation, and every block accounted for."""
    operations = 1000
    for number in range(-(-num_operations // operations)):
        World(seed * 1_000_003 + number).run(operations)
        if number % 100 == 99:
            print(f"{(number + 1) * operations:,} operations, nothing lost, nothing read that is another's", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--families", nargs="*", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--block", type=int, nargs="+", default=[BLOCK], help="of the traces: tokens a block")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="of the traces")
    parser.add_argument("--parts", nargs="*", default=["traces", "held-out", "eviction"])
    parser.add_argument("--mooncake", type=Path, help="folder with mooncake_*.jsonl of kvcache-ai/Mooncake")
    parser.add_argument("--soak", type=int)
    options = parser.parse_args()
    if options.soak:
        soak(options.soak)
        return
    rows: list[Row] = []
    parts: dict[str, Callable[[], Iterator[Row]]] = {
        "traces": lambda: traces(options.repeats, options.scale, options.families, options.block, options.seeds),
        "held-out": lambda: held_out(options.scale, options.families),
        "hedge": lambda: hedge(options.mooncake),
        "memory": lambda: memory(options.scale),
        "eviction": lambda: evictions(options.repeats),
    }
    for part in options.parts:
        for row in parts[part]():
            rows.append(row)
            figures = f"{row.ours:10.3f} {row.peer:10.3f} {row.ours / row.peer:7.3f}"
            print(f"{row.case:34} {row.block:3} {row.metric:20} {figures}  {row.peer_name}", flush=True)
    if options.json:
        options.json.write_text(json.dumps({"rows": [row.as_dict() for row in rows]}, indent=1))


if __name__ == "__main__":
    main()

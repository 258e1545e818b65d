"""Traces of sessions whose prefixes grow, and recorded ones: for hit rates at pools given as shares of the text.

`mooncake` reads the traces of kvcache-ai/Mooncake (FAST25-release/traces, not part of this repository): requests as ids
of blocks of 512 tokens, here of a few tokens each. `coding_agents` draws sessions of an agent with its tools. Both give
requests without outputs: what a session has written is in its next prompt.
"""

import json
from heapq import heapify, heappop, heappush
from pathlib import Path

import numpy as np
from radix_traces import Ids, Request, Trace, Writer

TOKENS_PER_ID = 8
NO_OUTPUT = np.empty(0, dtype=np.int32)


def mooncake(path: Path, tokens_per_id: int = TOKENS_PER_ID) -> Trace:
    """One recorded trace; every id becomes so many tokens that no other id has in common with it."""
    requests = []
    with path.open() as lines:
        for line in lines:
            ids = np.array(json.loads(line)["hash_ids"], dtype=np.int64)
            tokens = (ids[:, None] * 2_654_435_761 + np.arange(tokens_per_id) * 40_503 + 1) % 2_147_483_629
            requests.append(Request(tokens.astype(np.int32).reshape(-1), NO_OUTPUT))
    return Trace(path.stem.removeprefix("mooncake_"), 0, requests)


def coding_agents(seed: int, scale: float = 1.0, *, num_live: int = 6, spread: float = 0.9) -> Trace:
    """150 sessions of about 70 requests each: one system prompt, what a project adds, prefixes that grow with each call
    of a tool, tools of seconds and pauses of the user's of minutes to hours. A few sessions run at once; some begin
    anew from their summary. Lengths are a sixteenth of an agent's.
    """
    writer = Writer(seed)
    chance = writer.random
    system = writer.text(1000)
    projects = [writer.text(writer.length(150)) for _ in range(20)]
    starts = np.cumsum(chance.exponential(1.0, int(150 * scale))) * 70 * 60 / num_live
    waiting: list[tuple[float, int]] = [(float(start), number) for number, start in enumerate(starts)]
    heapify(waiting)
    history: dict[int, Ids] = {}
    left = {number: writer.length(70, spread) for _, number in waiting}
    requests: list[Request] = []
    while waiting:
        now, number = heappop(waiting)
        if number not in history:
            project = projects[writer.pick(len(projects))]
            history[number] = np.concatenate([system, project, writer.text(writer.length(60))])
        prompt = history[number]
        requests.append(Request(prompt, NO_OUTPUT))
        left[number] -= 1
        if left[number] <= 0:
            continue
        grown = [prompt, writer.text(writer.length(25, 0.8)), writer.text(writer.length(60, 1.2))]
        history[number] = np.concatenate(grown)
        if len(history[number]) > 10_000:  # it goes on from a summary
            history[number] = np.concatenate([prompt[: len(system)], writer.text(writer.length(300))])
        pauses = chance.random() < 0.08
        wait = chance.lognormal(6.5, 1.5) if pauses else chance.lognormal(2.0, 1.2)
        heappush(waiting, (now + float(wait), number))
    return Trace("coding agents", 0, requests)


def unique_tokens(trace: Trace, size: int = 8) -> int:
    """Tokens of a cache that keeps everything, by blocks of `size`."""
    seen: set[int] = set()
    for prompt, output in trace.requests:
        data, before = np.concatenate([prompt, output]).tobytes(), 0
        for start in range(0, len(data), 4 * size):
            before = hash((before, data[start : start + 4 * size]))
            seen.add(before)
    return size * len(seen)

"""A program with branches over several inputs: on a prefix cache, and on the same engine without one.

python benchmarks/programs.py --json programs.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import stemma
from stemma.runtime.model import LoadedModel

DIMENSIONS = ("clarity", "evidence", "style", "structure")
ESSAY = (
    "Bees matter because they pollinate a third of what we eat. Without them harvests fall and prices rise. A hive "
    "needs flowers from spring to autumn, clean water, and hedges that are left to grow. Farmers who leave a strip of "
    "each field unmown lose little and gain much, for the yield of the rest goes up. "
) * 4
NUM_ROUNDS = 3


@stemma.program
async def judge(s: stemma.State, essay: str) -> str:
    s.system("You are a strict judge of essays. You are brief.").user(f"Essay:\n{essay}")

    async def one(b: stemma.State, dimension: str) -> str:
        return await b.user(f"Judge its {dimension}.").gen(max_tokens=8, ignore_eos=True)

    remarks = await s.fork(DIMENSIONS, one)
    return await s.user("Sum up: " + " ".join(remarks)).gen(max_tokens=8, ignore_eos=True)


def seconds(loaded: LoadedModel, prefix_cache: bool) -> tuple[float, stemma.Usage]:
    """One round on a fresh engine, over inputs that differ from each other."""
    with stemma.Engine.of(loaded, kv_tokens=16384, prefix_cache=prefix_cache) as llm:
        started = time.perf_counter()
        runs = judge.map(llm, [f"{number}. {ESSAY}" for number in range(2)]).result()
        return time.perf_counter() - started, sum((run.usage for run in runs), stemma.Usage())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    path = parser.parse_args().json
    with stemma.Engine() as llm:
        loaded = llm.loaded
    seconds(loaded, True)  # compiles what must be compiled
    rounds = [(seconds(loaded, True), seconds(loaded, False)) for _ in range(NUM_ROUNDS)]
    rows = []
    times = [(cached[0], plain[0]) for cached, plain in rounds]
    counts = [(float(cached[1].prefilled_tokens), float(plain[1].prefilled_tokens)) for cached, plain in rounds]
    for metric, pairs in (("seconds", times), ("prefilled tokens", counts)):
        ours, peer = (statistics.median(pair[side] for pair in pairs) for side in (0, 1))
        rows.append({"case": "2 essays, 4 branches each", "metric": metric, "ours": ours, "peer": peer,
                     "peer_name": "the same engine, prefix_cache=False", "ratio": ours / peer})  # fmt: skip
        print(f"{metric}: {ours:.4g} with the cache, {peer:.4g} without: {ours / peer:.2f}")
    if path is not None:
        path.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()

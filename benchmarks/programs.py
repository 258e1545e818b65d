"""What each part of the runtime is worth: programs of SGLang's paper, with one thing taken away at a time.

    python benchmarks/programs.py [--json FILE] [--chart FILE] [--rounds 1] [--only NAME ...] [--arms NAME ...]

`ours` is instances a second with everything on, the peer an arm, medians of rounds in turn, each on a fresh engine over
one loaded model and on texts that no round before it had. A second row tells the hit rate beside the best one that any
order and any cache could have: a token counts as a hit if an earlier prompt or answer of the round had it there.

Rows are added to those that FILE has, a row measured again takes the place of the old one, and the chart (SVG) is drawn
of all that FILE has then. So parts can be measured one by one; `--rounds 0 --chart` measures nothing.

no cache         prefix_cache=False; a third of the inputs, at least four (`peer_instances`): each is as dear as any
exact match      a table in place of the tree: what was computed is found by the very same prompt alone; as few inputs
first come       queue by arrival alone
random order     the same, inputs shuffled
one at a time    no two requests side by side (no parallelism of branches and inputs)
no hints         branches do not compute what they share first, nothing is held, nothing said of the next use
no jumps         what a grammar forces is sampled
no drafts        nothing is guessed
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from program_charts import chart
from program_shapes import SHAPES, Shape

import stemma
from stemma.lang.states import state as states
from stemma.runtime.engine import Generation
from stemma.runtime.model import LoadedModel

FULL = "full"


class Arm(NamedTuple):
    """options: of the engine. few, shuffled, exact, hinted: see above."""

    options: Mapping[str, Any]
    few: bool = False
    shuffled: bool = False
    exact: bool = False
    hinted: bool = True


ARMS: Mapping[str, Arm] = MappingProxyType(
    {
        FULL: Arm({}),
        "no cache": Arm({"prefix_cache": False}, few=True),
        "exact match": Arm({}, few=True, exact=True, hinted=False),
        "first come": Arm({"schedule_policy": "fcfs"}),
        "random order": Arm({"schedule_policy": "fcfs"}, shuffled=True),
        "one at a time": Arm({"max_running": 1}),
        "no hints": Arm({}, hinted=False),
        "no jumps": Arm({"jump_forward": False}),
        "no drafts": Arm({"drafts_from": ("none",)}),
    }
)


class Asked:
    """An engine as a program sees it, which remembers what was asked of it, and says of it what an arm leaves."""

    def __init__(self, engine: stemma.Engine, arm: Arm) -> None:
        self._engine = engine
        self._arm = arm
        self.asked: list[tuple[list[int], Generation]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def submit(self, prompt: Any, *, hold: Any = None, **options: Any) -> Generation:
        if self._arm.exact:
            options["namespace"] = f"{hash(tuple(prompt))}"
        if not self._arm.hinted:
            hold = None
            options.pop("next_use", None)
        generation = self._engine.submit(prompt, hold=hold, **options)
        self.asked.append((list(prompt), generation))
        return generation

    def submit_all(self, prompts: Any, **options: Any) -> list[Generation]:
        return [self.submit(prompt, **options) for prompt in prompts]

    def hit_rates(self) -> tuple[float, float]:
        """What was cached of all prompts' tokens, and the most that could have been."""
        done = [(prompt, generation.completion) for prompt, generation in self.asked]
        told = [(prompt, completion) for prompt, completion in done if completion is not None]
        total = sum(len(prompt) for prompt, _ in told)
        cached = sum(completion.usage.cached_tokens for _, completion in told)
        return cached / total, 1 - num_needed(told) / total


def num_needed(told: list[tuple[list[int], Any]]) -> int:
    """Tokens of prompts that must be computed in whatever order: each distinct beginning once, unless an answer brought
    it; and the last token of each prompt that is all there, for its logits."""
    answered: set[int] = set()
    for prompt, completion in told:
        chain = hash(())
        for at, token in enumerate([*prompt, *completion.tokens[:-1]]):
            chain = hash((chain, token))
            if at >= len(prompt):
                answered.add(chain)
    seen: set[int] = set()
    needed = 0
    for prompt, _ in told:
        chain, is_last_new = hash(()), False
        for token in prompt:
            chain = hash((chain, token))
            is_last_new = chain not in seen and chain not in answered
            needed += is_last_new
            seen.add(chain)
        needed += not is_last_new
    return needed


@contextmanager
def hints(given: bool) -> Iterator[None]:
    """Without them branches begin at once, whatever they share."""
    before = states.MIN_PREFILL
    states.MIN_PREFILL = before if given else 1 << 60
    try:
        yield
    finally:
        states.MIN_PREFILL = before


class Round(NamedTuple):
    """Of one arm: instances a second, of how many; hit rate, the best hit rate there could be."""

    speed: float
    num_instances: float
    hit_rate: float
    best: float


def run(loaded: LoadedModel, shape: Shape, arm: Arm, seed: int) -> Round:
    """One round on a fresh engine."""
    chance = random.Random(f"{shape.name} {seed}")
    inputs = shape.inputs(chance)
    if arm.shuffled:
        chance.shuffle(inputs)
    if arm.few:
        del inputs[max(4, len(inputs) // 3) :]
    with stemma.Engine.of(loaded, kv_tokens=65_536, **arm.options) as engine, hints(arm.hinted):
        asked = Asked(engine, arm)
        started = time.perf_counter()
        for made in shape.program.map(asked, inputs).result():
            if made.error is not None:
                raise made.error
        seconds = time.perf_counter() - started
        return Round(len(inputs) / seconds, len(inputs), *asked.hit_rates())


def measure(loaded: LoadedModel, shape: Shape, arms: Iterable[str], rounds: int) -> list[dict[str, Any]]:
    """Rows of medians; the arms take turns, and everything on is measured with them."""
    run(loaded, shape, Arm({}, few=True), -1)  # grammars and steps are compiled
    order = [FULL, *(name for name in arms if name != FULL)]
    found = [{name: run(loaded, shape, ARMS[name], seed) for name in order} for seed in range(rounds)]
    ours, *others = (_median([each[name] for each in found]) for name in order)
    print(f"\n{shape.name}: {ours.speed:.2f} instances/s, hit rate {ours.hit_rate:.3f} of {ours.best:.3f}")
    ratio = ours.hit_rate / ours.best if ours.best else 1.0
    rows = [row(shape, "hit rate", (ours.hit_rate, ours.best), "the best there could be", ratio)]
    for name, other in zip(order[1:], others, strict=True):
        ratio = statistics.median(each[FULL].speed / each[name].speed for each in found)
        print(f"  {name:15} {other.speed:8.2f}  full is {ratio:5.2f}x  hits {other.hit_rate:.3f}", flush=True)
        counts = {"peer_instances": other.num_instances, "peer_hit_rate": other.hit_rate, "rounds": rounds}
        rows.append(row(shape, "instances/s", (ours.speed, other.speed), name, ratio) | counts)
    return rows


def _median(rounds: list[Round]) -> Round:
    return Round(*(statistics.median(values) for values in zip(*rounds, strict=True)))


def row(shape: Shape, metric: str, pair: tuple[float, float], peer_name: str, ratio: float) -> dict[str, Any]:
    """pair: ours and the peer's."""
    ours, peer = pair
    return {
        "case": shape.name, "metric": metric, "ours": ours, "peer": peer, "peer_name": peer_name, "ratio": ratio
    }  # fmt: skip


def merged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The last of each case and peer, in the order of shapes and arms."""
    last = {(each["case"], each["peer_name"]): each for each in rows}
    cases, arms = [shape.name for shape in SHAPES], [*ARMS, "the best there could be"]
    return sorted(last.values(), key=lambda each: (cases.index(each["case"]), arms.index(each["peer_name"])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--chart", type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    names = [shape.name for shape in SHAPES]
    parser.add_argument("--only", nargs="+", default=names, choices=names)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS))
    options = parser.parse_args()
    path: Path | None = options.json
    rows = json.loads(path.read_text(encoding="utf-8"))["rows"] if path is not None and path.exists() else []
    if options.rounds:
        with stemma.Engine() as engine:
            loaded = engine.loaded
        for shape in SHAPES:
            if shape.name in options.only:
                rows = merged(rows + measure(loaded, shape, options.arms, options.rounds))
                if path is not None:  # behind each, so that what was measured stays
                    path.write_text(json.dumps({"rows": rows}, indent=1), encoding="utf-8")
    if options.chart is not None:
        options.chart.write_text(chart(rows), encoding="utf-8")


if __name__ == "__main__":
    main()

"""What each part of the runtime is worth: programs of SGLang's paper, with one thing taken away at a time.

    python benchmarks/programs.py [--json FILE] [--svg FILE] [--rounds 3] [--only NAME,...] [--arms NAME,...]

`ours` is instances a second with everything on, the peer an arm, medians of rounds in turn, each on a fresh engine over
one loaded model and on texts that no round before it had. A second row tells the hit rate beside the best one that any
order and any cache could have: a token counts as a hit if an earlier prompt or answer of the round had it there.

no cache         prefix_cache=False
exact match      a table in place of the tree: what was computed is found by the very same prompt alone
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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from program_shapes import SHAPES, Shape

import stemma
from stemma.lang.states import state as states
from stemma.runtime.engine import Generation
from stemma.runtime.model import LoadedModel

FULL = "full"


class Arm(NamedTuple):
    """options: of the engine. shuffled, exact, hinted: see above."""

    options: Mapping[str, Any]
    shuffled: bool = False
    exact: bool = False
    hinted: bool = True


ARMS: Mapping[str, Arm] = MappingProxyType(
    {
        FULL: Arm({}),
        "no cache": Arm({"prefix_cache": False}),
        "exact match": Arm({}, exact=True, hinted=False),
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
    """Of one arm: instances a second, hit rate, the best hit rate there could be."""

    speed: float
    hit_rate: float
    best: float


def run(loaded: LoadedModel, shape: Shape, arm: Arm, seed: int) -> Round:
    """One round on a fresh engine."""
    chance = random.Random(f"{shape.name} {seed}")
    inputs = shape.inputs(chance)
    if arm.shuffled:
        chance.shuffle(inputs)
    with stemma.Engine.of(loaded, kv_tokens=65_536, **arm.options) as engine, hints(arm.hinted):
        asked = Asked(engine, arm)
        started = time.perf_counter()
        for made in shape.program.map(asked, inputs).result():
            if made.error is not None:
                raise made.error
        seconds = time.perf_counter() - started
        return Round(len(inputs) / seconds, *asked.hit_rates())


def measure(loaded: LoadedModel, shape: Shape, arms: list[str], rounds: int) -> dict[str, Round]:
    """Medians of each arm's rounds, in turn."""
    run(loaded, shape, ARMS[FULL], -1)  # grammars and steps are compiled
    found = [{name: run(loaded, shape, ARMS[name], seed) for name in arms} for seed in range(rounds)]
    return {
        name: Round(*(statistics.median(values) for values in zip(*(each[name] for each in found), strict=True)))
        for name in arms
    }


def rows_of(shape: Shape, measured: Mapping[str, Round]) -> list[dict[str, Any]]:
    ours = measured[FULL]
    rows = [
        {
            "case": shape.name, "metric": "instances/s", "ours": ours.speed, "peer": other.speed, "peer_name": name,
            "ratio": ours.speed / other.speed, "peer_hit_rate": other.hit_rate,
        }
        for name, other in measured.items()
        if name != FULL
    ]  # fmt: skip
    return [*rows, {
        "case": shape.name, "metric": "hit rate", "ours": ours.hit_rate, "peer": ours.best,
        "peer_name": "the best there could be",
        "ratio": ours.hit_rate / ours.best if ours.best else 1.0,
    }]  # fmt: skip


def show(shape: Shape, measured: Mapping[str, Round]) -> None:
    ours = measured[FULL]
    print(f"\n{shape.name}: {ours.speed:.2f} instances/s, hit rate {ours.hit_rate:.3f} of {ours.best:.3f}")
    for name, other in measured.items():
        if name != FULL:
            print(
                f"  {name:15} {other.speed:8.2f}  full is {ours.speed / other.speed:5.2f}x  hits {other.hit_rate:.3f}"
            )


def draw(path: Path, found: Mapping[str, Mapping[str, Round]]) -> None:
    """Each arm's speed as a share of full's, a group of bars for each program; and the hit rates."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "stemma"
    figure, (speeds, hits) = pyplot.subplots(2, 1, figsize=(13, 8), layout="constrained", sharex=True)
    arms = [name for name in next(iter(found.values())) if name != FULL]
    width = 0.8 / len(arms)
    for number, name in enumerate(arms):
        places = [at + (number - len(arms) / 2) * width for at in range(len(found))]
        speeds.bar(places, [each[name].speed / each[FULL].speed for each in found.values()], width, label=name)
        hits.bar(places, [each[name].hit_rate for each in found.values()], width)
    speeds.axhline(1, color="black", linewidth=0.8)
    hits.scatter(
        range(len(found)), [each[FULL].hit_rate for each in found.values()], color="black", label="full", zorder=3
    )
    hits.scatter(
        range(len(found)), [each[FULL].best for each in found.values()], marker="_", s=500, color="red", label="best"
    )
    speeds.set_title("instances a second, full is 1")
    hits.set_title("hit rate")
    speeds.legend(ncols=4)
    hits.legend()
    hits.set_xticks(range(len(found)), list(found), rotation=20)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(shape.name.replace(",", "") for shape in SHAPES))
    parser.add_argument("--arms", default=",".join(ARMS))
    options = parser.parse_args()
    arms = [FULL, *(name for name in options.arms.split(",") if name != FULL)]
    with stemma.Engine() as engine:
        loaded = engine.loaded
    rows, found = [], {}
    for shape in SHAPES:
        if shape.name.replace(",", "") in options.only.split(","):
            measured = found[shape.name] = measure(loaded, shape, arms, options.rounds)
            show(shape, measured)
            rows += rows_of(shape, measured)
    if options.json is not None:
        options.json.write_text(json.dumps({"rows": rows}, indent=1), encoding="utf-8")
    if options.svg is not None:
        draw(options.svg, found)


if __name__ == "__main__":
    main()

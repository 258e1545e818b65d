"""Schemas used once, as most are: compile, the masks along an instance and its steps, with llguidance beside.

    python benchmarks/fsm_cold.py --gguf MODEL.gguf [--data FILE.jsonl] [--schemas 300] [--seed 0]
        [--vocabularies 49k 128k] [--shapes] [--why] [--json FILE]

The schemas are those of `cold_schemas.py`, drawn from the seed, or of FILE (one `{"id", "schema", "valid"}` a line).
Each is compiled once, and its first valid instance that both engines take walked once, token by token: mask, then step.
Both engines have their turn at a schema in one process and one thread, the first of them changing; times are that
thread's CPU time, without what the clock itself takes. The process is warm (kernels, tables of the vocabulary, one
simple schema used and thrown away), what belongs to the schema is not. Garbage is collected between schemas.

`together` is compile and all masks. Ratios are ours over llguidance's: of the sums, and the median of the schemas' own.
Schemas that one of the two refuses, or whose instance it refuses, are counted and left out.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cold_schemas import cold_schemas
from declared_order import arranged
from fsm_engines import Engine, LLGuidance, Stemma
from fsm_vocabularies import TokenizerFile, vocabulary_49k, vocabulary_128k

from stemma.fsm.kernels.loader import kernels

QUANTILES = {"p50": 50, "p90": 90, "p99": 99}
FIRST = {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "integer"}}, "required": ["a"]}


class Walk(NamedTuple):
    """One engine's times on one schema, in seconds; `masks` has the first one too."""

    compile: float
    masks: list[float]
    steps: list[float]

    @property
    def together(self) -> float:
        return self.compile + sum(self.masks)


@functools.cache
def clock_time() -> float:
    """The seconds that lie between two looks at the clock, one right after the other."""
    looks = [time.thread_time() for _ in range(2_001)]
    return float(np.median(np.diff(looks)))


def walk(engine: Engine, schema: Any, tokens: list[int], row: Any) -> Walk | str:
    """One walk, or why there is none."""
    clock, own = time.thread_time, clock_time()
    before = clock()
    try:
        session = engine.schema(schema).session()
    except Exception as error:  # whatever a peer raises for what it refuses
        return f"refused: {str(error)[:100]}"
    compile_time = clock() - before - own
    masks, steps = [], []
    for token in tokens:
        before = clock()
        session.mask(row)
        masks.append(clock() - before - own)
        before = clock()
        allowed = session.advance(token)
        steps.append(clock() - before - own)
        if not allowed:
            return "refuses the instance"
    before = clock()
    session.mask(row)
    masks.append(clock() - before - own)
    return Walk(compile_time, masks, steps) if session.is_complete() else "is not complete"


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def measure(lines: list[dict[str, Any]], file: TokenizerFile) -> tuple[dict[str, dict[str, Walk]], dict[str, str]]:
    """The walks of both engines by schema, and why the others have none."""
    engines: list[Engine] = [Stemma(file), LLGuidance(file)]
    kernels()
    encoder = file.tokenizer()
    row = np.zeros((len(file.token_bytes()) + 31) // 32, np.uint32)
    walks: dict[str, dict[str, Walk]] = {}
    why: dict[str, str] = {}
    for number, line in enumerate([{"id": "", "schema": FIRST, "valid": [{"a": "b", "b": 1}]}, *lines]):
        tokens = encoder.encode(compact(arranged(line["valid"][0], line["schema"])), add_special_tokens=False).ids
        found: dict[str, Walk] = {}
        for engine in engines if number % 2 else engines[::-1]:
            gc.collect()
            gc.disable()
            one = walk(engine, line["schema"], list(tokens), row)
            gc.enable()
            if isinstance(one, str):
                why[line["id"]] = f"{engine.name} {one}"
            else:
                found[engine.name] = one
        if len(found) == len(engines) and line["id"]:
            walks[line["id"]] = found
    return walks, why


def figures_of(walks: list[dict[str, Walk]]) -> dict[str, tuple[float, float]]:
    """Ours and llguidance's, in us; for `median schema` the ratio itself, beside 1."""
    ours, theirs = ([each[name] for each in walks] for name in ("stemma", "llguidance"))
    both = (ours, theirs)
    ratios = [mine.together / other.together for mine, other in zip(ours, theirs, strict=True)]
    figures = {"together, sum": [sum(each.together for each in side) for side in both]}
    figures["together, median schema"] = [float(np.median(ratios)) / 1e6, 1e-6]
    figures["schemas dearer than llguidance"] = [sum(ratio > 1 for ratio in ratios) / 1e6, len(ratios) / 1e6]
    figures["compile, sum"] = [sum(each.compile for each in side) for side in both]
    figures["compile, p50"] = [float(np.median([each.compile for each in side])) for side in both]
    figures["compile and first mask, p50"] = [float(np.median([each.compile + each.masks[0] for each in side]))
                                              for side in both]  # fmt: skip
    for kind in ("masks", "steps"):
        times = [[value for each in side for value in getattr(each, kind)] for side in both]
        figures[f"{kind}, mean"] = [float(np.mean(each)) for each in times]
        for name, quantile in QUANTILES.items():
            figures[f"{kind}, {name}"] = [float(np.percentile(each, quantile)) for each in times]
    return {name: (mine * 1e6, other * 1e6) for name, (mine, other) in figures.items()}


def report(case: str, figures: dict[str, tuple[float, float]]) -> list[dict[str, Any]]:
    print(f"\n{case:32}{'stemma':>12}{'llguidance':>12}{'ratio':>8}   (us of CPU time)")
    rows = []
    for metric, (mine, other) in figures.items():
        print(f"{metric:32}{mine:12.2f}{other:12.2f}{mine / other:8.3f}")
        rows.append({"case": case, "metric": metric, "ours": mine, "peer": other, "peer_name": "llguidance",
                     "ratio": mine / other})  # fmt: skip
    return rows


def run(arguments: argparse.Namespace) -> None:
    if arguments.data:
        lines = [json.loads(text) for text in arguments.data.read_text().splitlines() if text.strip()]
        lines = [line for line in lines if line["valid"]][:: max(1, len(lines) // arguments.schemas)]
    else:
        lines = list(cold_schemas(arguments.schemas, arguments.seed))
    rows = []
    for name in arguments.vocabularies:
        file = vocabulary_49k(arguments.gguf) if name == "49k" else vocabulary_128k()
        walks, why = measure(lines, file)
        reasons = Counter(reason.partition(":")[0] for reason in why.values())
        print(f"\n{len(lines)} schemas; left out: {dict(reasons)}")
        if arguments.why:
            print(*(f"  {subject}: {reason}" for subject, reason in why.items()), sep="\n")
        rows += report(f"{len(walks)} schemas, {name}", figures_of(list(walks.values())))
        if arguments.shapes:
            groups: dict[str, list[dict[str, Walk]]] = defaultdict(list)
            for subject, each in walks.items():
                groups[subject.rstrip("-0123456789").split("---")[0]].append(each)
            for shape, group in groups.items():
                rows += report(f"{shape} ({len(group)}), {name}", figures_of(group))
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows}, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, required=True, help="a GGUF file with the 49k tokenizer")
    parser.add_argument("--data", type=Path, help="schemas with instances instead of drawn ones")
    parser.add_argument("--schemas", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vocabularies", nargs="*", default=["49k", "128k"])
    parser.add_argument("--shapes", action="store_true", help="each shape of schemas by itself too")
    parser.add_argument("--why", action="store_true", help="say what was refused by whom")
    parser.add_argument("--json", type=Path)
    run(parser.parse_args())


if __name__ == "__main__":
    main()

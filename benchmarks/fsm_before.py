"""Compile times and masks of this build beside an earlier one's, on the schemas that the earlier one reads.

    python benchmarks/fsm_before.py --before REVISION --data FILE.jsonl --gguf MODEL.gguf [--runs N] [--json FILE]

FILE has one `{"id", "schema", "valid", ...}` a line. Both builds run in processes of their own and take turns, schema
by schema and run by run, on one core; times are CPU time of the measuring thread. `compile` is from the schema to a
compiled grammar, with what it takes to drop the one before; `walk` is a matcher's way along the tokens of a valid
instance, with a mask at each; `walk again` the same when all masks are known. A schema's time is the median of its
runs. The earlier build is taken from this repository's history, into a folder of the cache. Kernels are compiled
before anything is timed.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pickle
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
CACHE = Path.home() / ".cache" / "stemma-bench" / "revisions"
Times = tuple[float, float, float, float]  # seconds: compiling, the first mask, a walk, the walk again
PARTS = ("compile", "first mask", "walk", "walk again")


def folder_of(revision: str) -> Path:
    """The files of a revision."""
    name = subprocess.run(["git", "rev-parse", revision], cwd=ROOT, check=True, capture_output=True, text=True)
    folder = CACHE / name.stdout.strip()
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = folder.with_suffix(".partial")
        partial.mkdir(exist_ok=True)
        archive = subprocess.run(["git", "archive", name.stdout.strip()], cwd=ROOT, check=True, capture_output=True)
        subprocess.run(["tar", "-x"], cwd=partial, input=archive.stdout, check=True)
        partial.rename(folder)
    return folder


class Build:
    """One build in a process of its own, which imports it from its folder."""

    def __init__(self, folder: Path, token_bytes: list[bytes | None], eos: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(folder)}, cwd=folder,
        )  # fmt: skip
        self.ask((str(folder), token_bytes, eos))

    def ask(self, message: Any) -> Any:
        assert self.process.stdin
        assert self.process.stdout
        pickle.dump(message, self.process.stdin)
        self.process.stdin.flush()
        return pickle.load(self.process.stdout)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def serve() -> None:
    """Measures a schema with an instance's tokens a message: its `Times`, or None where the build refuses it."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def answer(value: Any) -> None:
        pickle.dump(value, answers)
        answers.flush()

    folder, token_bytes, eos = pickle.load(sys.stdin.buffer)
    import stemma.fsm
    from stemma.fsm import CompiledGrammar, Matcher, Vocabulary
    from stemma.fsm.json_schema import JSONSchema

    try:
        from stemma.fsm.kernels.loader import kernels as ready
    except ImportError:  # where numba compiled them in a thread
        ready = importlib.import_module("stemma.fsm.kernels.loader").loader().wait

    assert stemma.fsm.__file__.startswith(folder), (stemma.fsm.__file__, folder)
    ready()
    vocabulary = Vocabulary(token_bytes, {"<eos>": eos}, [eos])
    clock, compiled = time.thread_time, None
    row = np.zeros(-(-len(token_bytes) // 32), dtype=np.uint32)

    def walk(tokens: list[int]) -> float:
        matcher, begin = Matcher(compiled), clock()
        for token in tokens:
            matcher.mask_into(row)
            assert matcher.advance(token)
        return clock() - begin

    answer("ready")
    while True:
        schema, tokens = pickle.load(sys.stdin.buffer)
        try:
            begin = clock()
            compiled = CompiledGrammar(JSONSchema(schema).grammar(), vocabulary)
            middle = clock()
            compiled.mask(compiled.start)
            end = clock()
            answer((middle - begin, end - middle, walk(tokens), walk(tokens)))
        except Exception:  # whatever either build refuses
            answer(None)


def measure(builds: list[Build], schemas: list[tuple[Any, list[int]]], runs: int) -> list[list[list[Times | None]]]:
    """By run, schema and build. The builds take turns at being first."""
    found = []
    for run in range(runs):
        found.append([])
        for number, schema in enumerate(schemas):
            order = (0, 1) if (run + number) % 2 else (1, 0)
            pairs = {index: builds[index].ask(schema) for index in order}
            found[-1].append([pairs[0], pairs[1]])
    return found


def compact(value: Any) -> bytes:
    """JSON as a grammar without white space writes it."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def tokenized(text: bytes, ids: dict[bytes, int]) -> list[int]:
    """The longest token at each place."""
    tokens = []
    while text:
        length = next(length for length in range(min(32, len(text)), 0, -1) if text[:length] in ids)
        tokens.append(ids[text[:length]])
        text = text[length:]
    return tokens


def rows_of(found: list[list[list[Times | None]]], before: str) -> list[dict[str, Any]]:
    """Sums and medians over the schemas that both builds read."""
    by_schema = [each for each in zip(*found, strict=True) if all(all(pairs) for pairs in each)]
    rows = []
    for part, name in enumerate(PARTS):
        times = [[statistics.median(pairs[build][part] for pairs in each) for build in (0, 1)] for each in by_schema]
        ratios = [ours / peer for ours, peer in times]
        sums = [sum(column) * 1e3 for column in zip(*times, strict=True)]
        medians = [statistics.median(column) * 1e3 for column in zip(*times, strict=True)]
        case = f"{len(by_schema)} schemas"
        for metric, (ours, peer), ratio in (
            (f"{name}, all, ms", sums, sums[0] / sums[1]),
            (f"{name}, median, ms", medians, medians[0] / medians[1]),
            (f"{name}, median of ratios", (statistics.median(ratios), 1.0), statistics.median(ratios)),
        ):
            rows.append(
                {"case": case, "metric": metric, "ours": ours, "peer": peer, "peer_name": before, "ratio": ratio}
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="a revision of this repository")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--gguf", type=Path, required=True, help="a GGUF file with the 49k tokenizer")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    from fsm_vocabularies import vocabulary_49k

    file = vocabulary_49k(options.gguf)
    lines = [json.loads(line) for line in options.data.read_text("utf-8").splitlines() if line.strip()]
    token_bytes, eos = file.token_bytes(), file.special()[file.eos]
    ids = {data: token for token, data in enumerate(token_bytes) if data}
    schemas = [(line["schema"], tokenized(compact(line["valid"][0]), ids)) for line in lines if line["valid"]]
    folders = [ROOT, folder_of(options.before)]
    for folder in folders:  # compiles what is not compiled yet
        Build(folder, token_bytes, eos).end()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    builds = [Build(folder, token_bytes, eos) for folder in folders]
    rows = rows_of(measure(builds, schemas, options.runs + 1)[1:], options.before)
    for build in builds:
        build.end()
    print(f"{rows[0]['case']}\n{'':32}{'ours':>10}{options.before:>12}{'ratio':>8}")
    for row in rows:
        print(f"{row['metric']:32}{row['ours']:10.3f}{row['peer']:12.3f}{row['ratio']:8.3f}")
    if options.json:
        options.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    if sys.argv[1:] == ["--serve"]:
        serve()
    else:
        main()

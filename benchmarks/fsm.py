"""Constraints against llguidance, xgrammar and outlines-core on JSON Schemas with valid and invalid instances.

    python benchmarks/fsm.py --data FILE.jsonl --gguf MODEL.gguf [--peers llguidance xgrammar outlines-core]
        [--vocabularies 49k 128k] [--schemas N] [--limit SECONDS] [--json OUT] [--charts FOLDER]

FILE has one `{"id", "schema", "valid", "invalid"}` a line. Each engine has a process of its own, one thread; they take
turns, schema by schema. They read the same compact JSON, in the schema's order where an engine insists.
`cold` is the first time an instance is walked with a fresh grammar, `warm` the second. Tables and compiled kernels are
those of a second start: one schema is compiled and thrown away before. Times are those of the measuring thread (its CPU
time), so that neighbours on the machine do not count. What takes longer than the limit is ended and counts as that.
Shares of jumps are over the schemas that both engines with forced tokens compile.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
import venv
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from declared_order import arranged

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = Path.home() / ".cache" / "stemma-bench" / "fsm-env"
PACKAGES = ["llguidance==1.9.1", "xgrammar==0.2.8", "outlines-core==0.2.14", "apache-tvm-ffi"]
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "p999": 99.9}

REGEXES = [
    r"[a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\.[a-zA-Z]{2,}",
    r"\d{4}-\d{2}-\d{2}",
    r"(\+\d{1,2}\s?)?\(?\d{3}\)?[\s.-]?\d{3}[\s.-]?\d{4}",
    r"https?://[^\s/$.?#][^\s]*",
    r"(25[0-5]|2[0-4]\d|1?\d?\d)(\.(25[0-5]|2[0-4]\d|1?\d?\d)){3}",
    r"[0-9a-f]{8}-[0-9a-f]{4}-[1-5][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    r"(yes|no|maybe)",
    r"-?\d+(\.\d+)?([eE][+-]?\d+)?",
    r"#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})",
    r"[A-Z][a-z]+( [A-Z][a-z]+){1,3}",
    r"(0?[1-9]|1[0-2]):[0-5]\d ?(AM|PM)",
    r"\$\d{1,3}(,\d{3})*(\.\d\d)?",
    r"[^\n]{1,200}",
    r"(\w+\s){0,20}\w+\.",
    r".{10,1000}",
    r"[\u4e00-\u9fff]{2,8}",
    r"<(\w+)>[^<]*</\w+>",
    r"v?\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?",
    r"([A-Z]{2}\d{2})( ?\d{4}){3,5}",
    r"(?:a|b|c){3,50}d?",
    r"Thought: [^\n]+\nAction: (search|answer)\nInput: [^\n]+",
]


def environment() -> Path:
    """An environment of its own with the peers; the rest is seen from the one this runs in."""
    python = ENVIRONMENT / "bin" / "python"
    if not python.exists():
        venv.create(ENVIRONMENT, with_pip=True)
        [site] = (ENVIRONMENT / "lib").glob("python*/site-packages")
        (site / "outer.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", *PACKAGES], check=True, timeout=900)
    return python


def enter_environment() -> None:
    """Begin this command again in the environment of its peers, unless it runs there."""
    python = environment()
    if Path(sys.prefix) != ENVIRONMENT:
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        os.execve(python, [str(python), *sys.argv], {**os.environ, "PYTHONPATH": paths})


def percentiles(values: list[float], scale: float) -> dict[str, float]:
    import numpy as np

    return {
        name: float(np.percentile(values, q)) * scale if values else float("nan") for name, q in PERCENTILES.items()
    }


class Tally:
    """What one engine did, over one schema or over all."""

    def __init__(self) -> None:
        self.count: Counter[str] = Counter()
        self.first: list[float] = []
        self.masks: dict[str, list[float]] = {"cold": [], "warm": []}
        self.steps: list[float] = []
        self.why: dict[str, str] = {}
        self.jumps: dict[str, Counter[str]] = {}  # by schema

    def add(self, other: Tally) -> None:
        self.count += other.count
        self.first += other.first
        for kind, times in self.masks.items():
            times += other.masks[kind]
        self.steps += other.steps
        self.why |= other.why
        self.jumps |= other.jumps


def walk(session: Any, tokens: list[int], row: Any, masks: list[float], steps: list[float], check: bool) -> bool:
    """Mask and advance along `tokens`; whether all were allowed and the end is complete."""
    clock = time.thread_time
    for token in tokens:
        before = clock()
        session.mask(row)
        masks.append(clock() - before)
        if check and not int(row[token >> 5]) >> (token & 31) & 1:
            return False
        before = clock()
        allowed = session.advance(token)
        steps.append(clock() - before)
        if not allowed:
            return False
    return bool(session.is_complete())


def accepts(compiled: Any, tokens: list[int]) -> bool:
    session = compiled.session()
    return all(session.advance(token) for token in tokens) and session.is_complete()


def jumps(compiled: Any, tokens: list[int], count: Counter[str]) -> None:
    """Replays canonical tokens with jumps: how many were forced, how many drafts held, how many were not canonical."""
    session = compiled.session()
    position = 0
    while position < len(tokens):
        forced = session.forced()
        certain, rest = forced.tokens, tokens[position:]
        if certain:
            if certain != rest[: len(certain)]:
                count["not_canonical"] += 1
                return
            count["certain"] += len(certain)
        drafts = 0
        while drafts < len(forced.drafts) and forced.drafts[drafts : drafts + 1] == rest[len(certain) + drafts :][:1]:
            drafts += 1
        count["drafts"] += drafts
        count["drafted"] += len(forced.drafts)
        taken = len(certain) + drafts
        taken += position + taken < len(tokens)
        for token in tokens[position : position + taken]:
            if not session.advance(token):
                return
        position += taken


def measure_schema(engine: Any, line: dict[str, Any], encode: Any, tally: Tally, row: Any) -> None:
    schema = line["schema"]
    before = time.thread_time()
    try:
        compiled = engine.schema(schema)
        session = compiled.session()
        session.mask(row)
    except Exception as error:  # whatever a peer raises for what it refuses
        tally.why[line["id"]] = f"refused: {str(error)[:150]}"
        return
    tally.first.append(time.thread_time() - before)
    tally.count["compiled"] += 1
    wrong = []
    for index, instance in enumerate(line["valid"]):
        texts = dict.fromkeys(compact(value) for value in (instance, arranged(instance, schema)))
        fitting = []
        for tokens in map(encode, texts):
            masks: list[float] = []
            if walk(compiled.session(), tokens, row, masks, tally.steps, check=True):
                fitting.append(tokens)
                tally.masks["cold"] += masks
                break
        if not fitting:
            wrong.append(f"valid {index} refused")
            continue
        walk(compiled.session(), fitting[0], row, tally.masks["warm"], tally.steps, check=False)
        count = tally.jumps.setdefault(line["id"], Counter())
        count["tokens"] += len(fitting[0])
        jumps(compiled, fitting[0], count)
    for index, instance in enumerate(line["invalid"]):
        texts = dict.fromkeys(compact(value) for value in (instance, arranged(instance, schema)))
        if any(accepts(compiled, encode(text)) for text in texts):
            wrong.append(f"invalid {index} accepted")
            tally.count["accepted_invalid"] += 1
    if wrong:
        tally.why[line["id"]] = "; ".join(wrong[:3])
    else:
        tally.count["all_right"] += 1


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def measure_regex(engine: Any, pattern: str, tally: Tally, row: Any) -> None:
    before = time.thread_time()
    try:
        engine.regex(pattern).session().mask(row)
    except Exception as error:
        tally.why[pattern] = f"refused: {str(error)[:150]}"
        return
    tally.first.append(time.thread_time() - before)
    tally.count["compiled"] += 1


class Worker:
    """One engine in a process of its own, which is ended and begun anew where one task takes longer than the limit."""

    def __init__(self, name: str, vocabulary: str, arguments: argparse.Namespace) -> None:
        self.name = name
        self.vocabulary = vocabulary
        self.arguments = arguments
        self.begin()

    def begin(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=serve, args=(theirs, self.name, self.vocabulary, self.arguments.gguf), daemon=True
        )
        self.process.start()
        self.pipe.recv()

    def measure(self, subject: str, task: dict[str, Any] | str) -> Tally:
        self.pipe.send(task)
        if self.pipe.poll(self.arguments.limit):
            found: Tally = self.pipe.recv()
            return found
        self.end()
        self.begin()
        late = Tally()
        late.first.append(self.arguments.limit)
        late.count["timed_out"] += 1
        late.why[subject] = f"took longer than {self.arguments.limit} s"
        return late

    def end(self) -> None:
        self.process.kill()
        self.process.join()


def serve(pipe: Any, name: str, vocabulary: str, gguf: Path) -> None:
    """Measures a schema (a dictionary) or a regex (a text) a message, with everything ready as in a second start."""
    import gc

    import numpy as np
    from fsm_engines import ENGINES
    from fsm_vocabularies import vocabulary_49k, vocabulary_128k

    from stemma.fsm.kernels.loader import kernels

    file = vocabulary_49k(gguf) if vocabulary == "49k" else vocabulary_128k()
    encoder = file.tokenizer()

    def encode(text: str) -> list[int]:
        return list(encoder.encode(text, add_special_tokens=False).ids)

    engine = ENGINES[name](file)
    if name == "stemma":
        kernels()
    row = np.zeros((len(file.token_bytes()) + 31) // 32, np.uint32)
    first = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    measure_schema(engine, {"id": "", "schema": first, "valid": [{"a": "b"}], "invalid": []}, encode, Tally(), row)
    gc.collect()
    gc.disable()
    pipe.send("ready")
    while True:
        task, tally = pipe.recv(), Tally()
        if isinstance(task, str):
            measure_regex(engine, task, tally, row)
        else:
            measure_schema(engine, task, encode, tally, row)
        pipe.send(tally)


def figures_of(tallies: dict[str, Tally], regexes: dict[str, Tally]) -> dict[str, dict[str, float]]:
    """Every metric of every engine; jumps only of those that have them, over the schemas that all of those compile."""
    figures: dict[str, dict[str, float]] = defaultdict(dict)
    jumping = [name for name in tallies if name in ("stemma", "llguidance")]
    common = set.intersection(*(set(tallies[name].jumps) for name in jumping))
    for name, tally in tallies.items():
        for kind in ("cold", "warm"):
            for q, value in percentiles(tally.masks[kind], 1e6).items():
                figures[f"mask_{kind}_{q}"][name] = value
        for q, value in percentiles(tally.first, 1e3).items():
            figures[f"first_mask_{q}"][name] = value
        for q, value in percentiles(tally.steps, 1e6).items():
            figures[f"advance_{q}"][name] = value
        figures["regexes_compiled"][name] = regexes[name].count["compiled"]
        figures["regex_first_mask_p50"][name] = percentiles(regexes[name].first, 1e3)["p50"]
        for key in ("compiled", "all_right", "accepted_invalid", "timed_out"):
            figures[key][name] = tally.count[key]
        if name in jumping:
            jumped = sum((tally.jumps[schema] for schema in common), Counter())
            figures["not_canonical"][name] = sum(each["not_canonical"] for each in tally.jumps.values())
            figures["jump_share"][name] = jumped["certain"] / max(1, jumped["tokens"])
            figures["jump_share_with_drafts"][name] = (jumped["certain"] + jumped["drafts"]) / max(1, jumped["tokens"])
            if jumped["drafted"]:
                figures["drafts_right"][name] = jumped["drafts"] / jumped["drafted"]
    return figures


def report(case: str, figures: dict[str, dict[str, float]], engines: list[str]) -> list[dict[str, Any]]:
    print(f"\n{case} (masks and steps in us, first mask in ms)")
    print(f"{'':28}" + "".join(f"{name:>16}" for name in engines))
    rows = []
    for metric, values in figures.items():
        print(f"{metric:28}" + "".join(f"{values[name]:16.3f}" if name in values else f"{'-':>16}" for name in engines))
        for peer in engines[1:]:
            if peer in values:
                ratio = values["stemma"] / values[peer] if values[peer] else None
                rows.append({"case": case, "metric": metric, "ours": values["stemma"], "peer": values[peer],
                             "peer_name": peer, "ratio": ratio})  # fmt: skip
    return rows


def run(arguments: argparse.Namespace) -> None:
    from fsm_charts import chart

    lines = [json.loads(text) for text in arguments.data.read_text().splitlines() if text.strip()]
    step = max(1, len(lines) // arguments.schemas) if arguments.schemas else 1
    lines = lines[::step]
    names = ["stemma", *arguments.peers]
    rows = []
    for vocabulary in arguments.vocabularies:
        workers = [Worker(name, vocabulary, arguments) for name in names]
        tallies, regexes = {name: Tally() for name in names}, {name: Tally() for name in names}
        for number, line in enumerate(lines):
            for worker in workers if number % 2 else workers[::-1]:
                tallies[worker.name].add(worker.measure(line["id"], line))
        for pattern in REGEXES:
            for worker in workers:
                regexes[worker.name].add(worker.measure(pattern, pattern))
        for worker in workers:
            worker.end()
        figures = figures_of(tallies, regexes)
        case = f"{len(lines)} schemas, {vocabulary}"
        rows += report(case, figures, names)
        if arguments.charts:
            arguments.charts.mkdir(parents=True, exist_ok=True)
            (arguments.charts / f"fsm-{vocabulary}-{len(names)}.svg").write_text(chart(case, figures, names))
        if arguments.why:
            for name in names:
                for subject, why in (tallies[name].why | regexes[name].why).items():
                    print(f"{name:14} {subject:40} {why}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows}, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--gguf", type=Path, required=True, help="a GGUF file with the 49k tokenizer")
    parser.add_argument("--peers", nargs="*", default=["llguidance"], help="llguidance xgrammar outlines-core")
    parser.add_argument("--vocabularies", nargs="*", default=["49k", "128k"])
    parser.add_argument("--schemas", type=int, default=0, help="only about so many, spread over the file")
    parser.add_argument("--limit", type=float, default=10.0, help="seconds for one schema with its instances")
    parser.add_argument("--charts", type=Path, help="a folder for one SVG a vocabulary")
    parser.add_argument("--why", action="store_true", help="say what was refused or wrong")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    enter_environment()
    run(arguments)


if __name__ == "__main__":
    main()

"""How much of JSON Schema is answered exactly: ours next to llguidance and xgrammar, on schemas and on the test suite.

    python benchmarks/schema_coverage.py [--data FILE.jsonl] [--suite FOLDER] [--formats] [--peers llguidance xgrammar]
        [--json OUT]

FILE has one `{"id", "schema", "valid", "invalid"}` a line. FOLDER is the JSON-Schema-Test-Suite (with `tests/draft7`);
without it the suite is taken from the source package of `jsonschema` on PyPI. The mandatory part of a draft is the
files in its folder (383 groups of 2020-12 on GitHub in August 2026, 368 in that package); `--formats` adds
`optional/format` and, for ours, the mandatory part by the letter: formats annotated, `1.0` an integer, any order. The
suite's `remotes` are given along. A schema or a group is all right when it compiles, every valid instance is accepted
(keys as they are or in declared order) and every invalid one is rejected. A group without valid instances is also right
when its schema is refused. The peers live in an environment of their own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from declared_order import arranged

from fsm import accepts, compact, enter_environment

SUITE_PACKAGE = "jsonschema==4.26.0"
DRAFTS = {
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft4": "http://json-schema.org/draft-04/schema#",
}


def suite_folder() -> Path:
    """The test suite out of the source package, fetched once."""
    cache = Path.home() / ".cache" / "stemma-bench" / "suite"
    found = list(cache.glob("jsonschema-*/json"))
    if not found:
        cache.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", SUITE_PACKAGE]
        subprocess.run([*pip, "-d", str(cache)], check=True, timeout=600)
        [archive] = cache.glob("jsonschema-*.tar.gz")
        with tarfile.open(archive) as package:
            package.extractall(cache, filter="data")
        found = list(cache.glob("jsonschema-*/json"))
    return found[0]


def remotes(folder: Path, draft: str) -> dict[str, Any]:
    """The documents that the suite's groups refer to, by URI."""
    known = {path.name for path in (folder / "tests").iterdir()} - {draft}
    paths = (path.relative_to(folder / "remotes") for path in (folder / "remotes").rglob("*.json"))
    return {
        f"http://localhost:1234/{path.as_posix()}": json.loads((folder / "remotes" / path).read_text())
        for path in paths
        if path.parts[0] not in known
    }


def suite_cases(folder: Path, draft: str, part: str = "") -> list[dict[str, Any]]:
    """The groups of a draft in the form of the data; each schema says its draft."""
    cases = []
    for path in sorted((folder / "tests" / draft / part).glob("*.json")):
        for group in json.loads(path.read_text()):
            schema = group["schema"]
            if isinstance(schema, dict) and "$schema" not in schema:
                schema = {"$schema": DRAFTS[draft], **schema}
            tests = {kind: [test["data"] for test in group["tests"] if test["valid"] == kind] for kind in (True, False)}
            name = f"{path.stem}: {group['description']}"
            cases.append(
                {
                    "id": name,
                    "schema": schema,
                    "valid": tests[True],
                    "invalid": tests[False],
                    "may_refuse": not tests[True],
                }
            )
    return cases


def verdict(engine: Any, case: dict[str, Any], encode: Any) -> str:
    """`right`, or what is wrong."""
    schema = case["schema"]
    try:
        compiled = engine.schema(schema)
        compiled.session()
    except Exception as error:  # whatever an engine raises for what it refuses
        return "right" if case.get("may_refuse") else f"refused: {str(error)[:120]}"
    texts = [(compact(value), compact(arranged(value, schema))) for value in (*case["valid"], *case["invalid"])]
    try:
        taken = [any(accepts(compiled, encode(text)) for text in dict.fromkeys(pair)) for pair in texts]
    except Exception as error:
        return f"failed: {str(error)[:120]}"
    valid = len(case["valid"])
    if any(taken[valid:]):
        return "accepted an invalid instance"
    return "right" if all(taken[:valid]) else "rejected a valid instance"


def measure(case: str, cases: list[dict[str, Any]], engines: list[Any], encode: Any, why: bool) -> list[dict[str, Any]]:
    counts: dict[str, Counter[str]] = {engine.name: Counter() for engine in engines}
    for one in cases:
        for engine in engines:
            found = verdict(engine, one, encode)
            counts[engine.name][found.partition(":")[0]] += 1
            if why and found != "right":
                print(f"{engine.name:12} {one['id'][:60]:60} {found}")
    print(f"\n{case}: {len(cases)}")
    for kind in ("right", "refused", "rejected a valid instance", "accepted an invalid instance", "failed"):
        print(f"  {kind:30}" + "".join(f"{counts[engine.name][kind]:8d} {engine.name}" for engine in engines))
    rows = []
    for metric in ("right", "accepted an invalid instance"):
        ours = counts["stemma"][metric]
        for engine in engines[1:]:
            peer = counts[engine.name][metric]
            rows.append({"case": case, "metric": metric.replace(" ", "_"), "ours": ours, "peer": peer,
                         "peer_name": engine.name, "ratio": ours / peer if peer else None})  # fmt: skip
    return rows


def run(arguments: argparse.Namespace) -> None:
    from fsm_engines import ENGINES, Stemma
    from fsm_vocabularies import vocabulary_128k

    file = vocabulary_128k()
    encoder = file.tokenizer()

    def encode(text: str) -> list[int]:
        return list(encoder.encode(text, add_special_tokens=False).ids)

    engines = [Stemma(file), *(ENGINES[name](file) for name in arguments.peers)]
    rows = []
    if arguments.data:
        cases = [json.loads(line) for line in arguments.data.read_text().splitlines() if line.strip()]
        rows += measure(arguments.data.stem, cases, engines, encode, arguments.why)
    folder = arguments.suite or suite_folder()
    for draft in arguments.drafts:
        ours = partial(Stemma, file, resources=remotes(folder, draft))
        engines[0] = ours()
        rows += measure(draft, suite_cases(folder, draft), engines, encode, arguments.why)
        if arguments.formats:
            formats = suite_cases(folder, draft, "optional/format")
            rows += measure(f"{draft} formats", formats, engines, encode, arguments.why)
            letter = [ours(formats="annotated", integers="any", property_order="any")]
            rows += measure(f"{draft} by the letter", suite_cases(folder, draft), letter, encode, arguments.why)
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows}, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--suite", type=Path)
    parser.add_argument("--formats", action="store_true", help="the optional formats too")
    parser.add_argument("--drafts", nargs="*", default=list(DRAFTS))
    parser.add_argument("--peers", nargs="*", default=["llguidance"], help="llguidance xgrammar")
    parser.add_argument("--why", action="store_true", help="say what was wrong")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    enter_environment()
    run(arguments)


if __name__ == "__main__":
    main()

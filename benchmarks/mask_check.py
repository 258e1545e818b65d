"""Masks against brute force on thousands of random positions, over both vocabularies; agreement with llguidance.

    python benchmarks/mask_check.py --gguf MODEL.gguf [--data FILE.jsonl] [--schemas N]
        [--vocabularies 49k 128k] [--walks 40]

The forms, the brute force (every token's bytes through the automaton) and the walks are those of
tests/test_real_vocabulary.py; `--walks` of them a form, two a schema of FILE (one `{"id", "schema", ...}` a line). It
fails at the first mask that differs. On schemas that both engines compile, llguidance and jsonschema-rs read what
random walks write; what they do not take is counted and shown.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema_rs
import llguidance

from stemma.fsm import FormError, LimitError, Vocabulary, compile
from stemma.fsm.json_schema import JSONSchema

CHECKS = Path(__file__).resolve().parent.parent / "tests" / "test_real_vocabulary.py"
COMPACT = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
OUTPUT_TOKENS = 60


def checks() -> Any:
    """The test's module."""
    spec = importlib.util.spec_from_file_location("real_vocabulary", CHECKS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def agreement(
    check: Any, line: dict[str, Any], vocabulary: Vocabulary, other: llguidance.LLTokenizer, draw: random.Random
) -> Counter[str]:
    """How often each engine, and the validator, reads what a walk of the other wrote."""
    count: Counter[str] = Counter()
    theirs = llguidance.LLMatcher(
        other, llguidance.LLMatcher.grammar_from_json_schema(json.dumps(line["schema"]), defaults=COMPACT), log_level=0
    )
    if theirs.is_error():
        return count
    count["schemas"] += 1
    grammar = compile(JSONSchema(line["schema"]), vocabulary)
    validator = jsonschema_rs.validator_for(line["schema"])
    encode = vocabulary.tokenize
    assert encode is not None
    for _ in range(3):
        try:
            output = check.plainly(check.outputs(grammar, draw, OUTPUT_TOKENS)[0])
        except AssertionError:  # a shortest end longer than the budget
            count["ours without an end"] += 1
            continue
        reader = theirs.deep_copy()
        read = reader.try_consume_tokens(encode(output)) == len(encode(output)) and reader.is_accepting()
        count["ours, read by llguidance" if read else "ours, not read by llguidance"] += 1
        valid = validator.is_valid(json.loads(output))
        count["ours, valid" if valid else "ours, not valid"] += 1
        if not (valid and read):
            print(f"{line['id']}: {'not read' if valid else 'not valid'}: {output.decode()[:300]}")
    return count


def run(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    from fsm_vocabularies import vocabulary_49k, vocabulary_128k

    check = checks()
    lines = [json.loads(text) for text in arguments.data.read_text().splitlines() if text.strip()]
    lines = lines[:: max(1, len(lines) // arguments.schemas)] if arguments.schemas else lines
    rows: list[dict[str, Any]] = []
    for name in arguments.vocabularies:
        file = vocabulary_49k(arguments.gguf) if name == "49k" else vocabulary_128k()
        vocabulary = file.vocabulary()
        brute, draw, before = check.BruteForce(vocabulary), random.Random(0), time.perf_counter()
        positions = 0
        for form in check.FORMS.values():
            positions += check.checked_masks(compile(form, vocabulary), brute, draw, arguments.walks)
        own, limited = positions, 0
        for number, line in enumerate(lines):
            if number % 20 == 0:
                print(f"{name}: {positions} masks, {number} of {len(lines)} schemas", flush=True)
            try:
                positions += check.checked_masks(compile(JSONSchema(line["schema"]), vocabulary), brute, draw, 2)
            except LimitError:
                limited += 1  # in the walk of every token from every configuration, not in a mask
            except FormError:
                continue
        print(
            f"{name}: {positions} masks at different configurations ({own} of forms of our own) equal brute force, "
            f"{limited} schemas beyond its limits, {time.perf_counter() - before:.0f} s"
        )
        other = llguidance.LLTokenizer(file.path.read_text(), eos_token=file.special()[file.eos])
        agreed: Counter[str] = Counter()
        for line in lines:
            try:
                agreed += agreement(check, line, vocabulary, other, draw)
            except FormError:
                continue
        print(f"{name}: " + ", ".join(f"{number} {what}" for what, number in sorted(agreed.items())))
        for metric, value in (("masks_compared", positions), *agreed.items()):
            rows.append({"case": name, "metric": metric, "ours": value, "peer": None, "peer_name": "", "ratio": None})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("/dev/null"), help="schemas of other people's")
    parser.add_argument("--vocabularies", nargs="*", default=["49k", "128k"])
    parser.add_argument("--schemas", type=int, default=0, help="only about so many, spread over the file")
    parser.add_argument("--walks", type=int, default=40)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = run(arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps({"rows": rows}, indent=1))


if __name__ == "__main__":
    main()

"""A soak: random walks through the grammars of schemas; every output must come to its end and be a valid instance.

    python benchmarks/random_walks.py [--data FILE.jsonl] [--schemas 500] [--walks 6] [--seed 0]

The schemas of FILE (one `{"id", "schema", ...}` a line) and `--schemas` drawn at random (tests/fsm/random_schemas.py).
A walk takes any byte that is allowed; after a random number of them it is steered to its end as the engine steers
(`shortest_completion`). jsonschema-rs judges, formats asserted but where no text has the format and the pattern beside
it: there the pattern counts alone. A schema may be refused when it is compiled, with a typed error. Prints what is
wrong and fails where a walk is stuck, invalid, without an end, or dies of anything else.
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np

from stemma.fsm import FormError, Matcher, Vocabulary, compile
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.languages.lint import lint

SCHEMAS = Path(__file__).resolve().parent.parent / "tests" / "fsm" / "random_schemas.py"
LENGTHS = (0, 5, 20, 60, 200)
BUDGET = 20_000
END = 256
BEYOND_DOUBLES = re.compile(rb"[0-9][0-9.]{14}|[0-9][eE][-+]?[0-9]")  # numbers that a reader of doubles rounds
WRONG = ("stuck", "invalid", "no end", "crashed")


def vocabulary() -> Vocabulary:
    """A token for each byte, and an end."""
    return Vocabulary([bytes([byte]) for byte in range(256)] + [None], {"<end>": END}, [END])


def drawn(count: int, seed: int) -> Iterator[tuple[str, Any]]:
    spec = importlib.util.spec_from_file_location("random_schemas", SCHEMAS)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield from ((f"random-{number}", module.random_schema(number)) for number in range(seed, seed + count))


def walked(matcher: Matcher, chance: random.Random, length: int) -> tuple[str, bytes]:
    """What became of one walk, and its text."""
    data = bytearray()
    row = np.zeros(9, np.uint32)
    for _ in range(length):
        matcher.mask_into(row)
        [allowed] = np.unpackbits(row[:8].view(np.uint8), bitorder="little").nonzero()
        if not len(allowed) or (matcher.is_complete and chance.random() < 0.3):
            break
        byte = chance.choice([byte for byte in allowed.tolist() if 32 <= byte < 127] or allowed.tolist())
        if not matcher.advance(byte):
            return "crashed", bytes(data)
        data.append(byte)
    rest = matcher.shortest_completion(BUDGET)
    if rest is None:
        return "no end", bytes(data)
    data += bytes(token for token in rest if token != END)
    return ("ended" if all(map(matcher.advance, rest)) and matcher.is_complete else "stuck"), bytes(data)


def repeats_a_name(text: bytes) -> bool:
    """Counting members says nothing where a name comes twice, which no automaton can exclude."""
    found: list[bool] = []

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        found.append(len(dict(members)) < len(members))
        return dict(members)

    json.loads(text, object_pairs_hook=pairs)
    return any(found)


def verdict(outcome: str, text: bytes, validator: Any) -> str:
    if outcome != "ended":
        return outcome
    if validator is None or repeats_a_name(text) or BEYOND_DOUBLES.search(text):
        return "not judged"
    return "valid" if validator.is_valid(json.loads(text)) else "invalid"


def judged(schema: Any, form: JSONSchema) -> Any:
    """The schema without the formats that do not count because the pattern beside them contradicts them."""
    found = copy.deepcopy(schema)
    for warning in lint(form).warnings:
        if warning.message.endswith("the pattern counts"):
            place = found
            for key in warning.pointer.split("/")[1:]:
                place = place[int(key) if isinstance(place, list) else key.replace("~1", "/").replace("~0", "~")]
            del place["format"]
    return found


def of_schema(
    schema: Any, form: JSONSchema, byte_vocabulary: Vocabulary, walks: int, chance: random.Random
) -> Counter[str]:
    count: Counter[str] = Counter()
    try:
        matcher = Matcher(compile(form, byte_vocabulary))
    except FormError as error:
        kind = "no value" if "no value fulfils" in str(error) else "unsupported"
        return Counter([f"refused: {kind}"])
    try:
        validator = jsonschema_rs.validator_for(judged(schema, form), validate_formats=True)
    except jsonschema_rs.ValidationError:  # a pattern that it does not take for one
        validator = None
    for _ in range(walks):
        try:
            outcome, text = walked(matcher.fork(), chance, chance.choice(LENGTHS))
            found = verdict(outcome, text, validator)
        except Exception as error:
            found, text = "crashed", repr(error).encode()
        count[found] += 1
        if found in WRONG:
            print(f"  {found}: {text.decode(errors='replace')[:300]}")
            break
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--schemas", type=int, default=500)
    parser.add_argument("--walks", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    byte_vocabulary, wrong = vocabulary(), 0
    lines = map(json.loads, arguments.data.read_text().splitlines()) if arguments.data else iter(())
    known = [(line["id"], line["schema"]) for line in lines]
    for name, schemas in (("data", known), ("random", list(drawn(arguments.schemas, arguments.seed)))):
        before, total = time.process_time(), Counter[str]()
        for identifier, schema in schemas:
            count = of_schema(schema, JSONSchema(schema), byte_vocabulary, arguments.walks, random.Random(identifier))
            total += count
            if any(count[kind] for kind in WRONG):
                wrong += 1
                print(f"{identifier}: {json.dumps(schema)[:1500]}")
        print(f"{name}: {len(schemas)} schemas in {time.process_time() - before:.0f} s: {dict(total)}")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()

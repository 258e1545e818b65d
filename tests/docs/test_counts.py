"""Numbers that pages claim are those of the source: limits by their constants, counts by counting."""

from __future__ import annotations

import ast
import keyword
import re
import tomllib
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, get_args

import pytest

from docs.draw_rooms import BEGIN, END, block, floors
from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.automaton.draw import Drawing, explored
from stemma.fsm.json_schema import JSONSchema
from stemma.kernels.cpu.attention.kv_dtypes import KV_DTYPES, region_bytes
from tests.docs.pages import ROOT, pages
from tests.runtime.model.family_cases import CASES

TEXTS = {page.name: " ".join(page.text.split()) for page in pages()}
WORDS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def number(text: str) -> int:
    """Of `1,000`, `2^53` or `Seven`."""
    base, _, exponent = text.replace(",", "").partition("^")
    value = WORDS.index(base.lower()) if base.lower() in WORDS else int(base)
    return value ** int(exponent or 1)


def constant(path: str) -> Any:
    """`module:NAME`, or `file.py:NAME` of what is not there on every machine: Triton."""
    if ".py:" in path:
        return written(*path.split(":"))
    module, _, names = path.partition(":")
    value: Any = import_module(f"stemma.{module}")
    for name in names.split("."):
        value = getattr(value, name.removesuffix("()"))
        value = value() if name.endswith("()") else value
    return value


def written(path: str, name: str) -> Any:
    """What a file gives to a name at its top."""
    nodes = ast.parse((ROOT / path).read_text("utf-8")).body
    assigned = {
        target.id: node.value
        for node in nodes
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return ast.literal_eval(assigned[name])


# A page, what it says there, and the constant that has to be it; a factor, where the page counts in another unit.
CONSTANTS: list[tuple[str, str, str, int]] = [
    ("architecture", r"One that (\S+) others of a later arrival", "runtime.core.waiting:MAX_OVERTAKEN", 1),
    ("architecture", r"and at most (\S+) others, in", "runtime.core.scheduler:MAX_LOOKS", 1),
    ("fsm", r"More than (\S+) items in one state", "fsm.kernels.stacks:MANY", 1),
    ("fsm", r"makes more than (\S+) calls", "fsm.kernels.closure:MANY_CALLS", 1),
    ("fsm", r"small tables \((\S+) rows", "fsm.kernels.tables:FIRST_CONFIGS", 1),
    ("fsm", r"rows, (\S+) stacks", "fsm.kernels.tables:FIRST_STACKS", 1),
    ("fsm", r"room for (\S+) rows", "fsm.kernels.tables:MAPPED_CONFIGS", 1),
    ("fsm", r"with up to (\S+) bytes less", "fsm.vocabulary.vocabulary:FEW_BYTES", 1),
    ("fsm", r"\(at most (\S+) bytes\), and the forced bytes", "fsm.matching.jump:WINDOW", 1),
    ("fsm", r"builds at most (\S+) rules", "fsm.automaton.shortest_completion:MAX_RULES", 1),
    ("fsm", r"more than (\S+) million\s+units", "fsm.automaton.shortest_completion:MAX_WORK", 1_000_000),
    ("schemas", r"pending in more than (\S+) ways", "fsm.languages.lark.following:MAXIMUM_PENDING", 1),
    ("schemas", r"(\S+) alternatives of one goal", "fsm.languages.json_schema.expansion:MAXIMUM_ALTERNATIVES", 1),
    ("schemas", r"(\S+) states of one object, array", "fsm.languages.json_schema.context:MAXIMUM_STATES", 1),
    ("schemas", r"(\S+) states of one object, array", "fsm.languages.json_schema.numbers:MAXIMUM_STATES", 1),
    ("schemas", r"(\S+) patterns for the names", "fsm.languages.json_schema.objects:MAXIMUM_PATTERNS", 1),
    ("schemas", r"(\S+) conditions on its members", "fsm.languages.json_schema.objects:MAXIMUM_CONDITIONS", 1),
    ("schemas", r"(\S+) combinations of them", "fsm.languages.json_schema.context:MAXIMUM_CHOICES", 1),
    ("schemas", r"nesting of (\d+)", "fsm.languages.json_schema.document:MAXIMUM_DEPTH", 1),
    ("schemas", r"chains of (\S+) in-place", "fsm.languages.json_schema.expansion:MAXIMUM_CHAIN", 1),
    ("schemas", r"(\S+) expanded within each other", "fsm.languages.json_schema.expansion:MAXIMUM_ACTIVE", 1),
    ("schemas", r"nested (\d+) deep", "fsm.languages.json_schema.readers:MAXIMUM_DEPTH_OF_VALUES", 1),
    ("schemas", r"(\d+) checks of a value", "fsm.languages.json_schema.meaning:MAXIMUM_CHECKS", 1),
    ("schemas", r"(\d+) questions whether", "fsm.languages.json_schema.possibility:MAXIMUM_NESTING", 1),
    ("fsm", r"(\S+) nodes within each other", "fsm.syntax.ast:MAXIMUM_DEPTH", 1),
    ("schemas", r"a range of up to (\S+) integers", "fsm.languages.json_schema.meaning:MAXIMUM_ENUMERATED", 1),
    ("schemas", r"up to (\S+) digits of a second", "fsm.languages.json_schema.formats:LONGEST_FRACTION", 1),
    ("schemas", r"up to (\S+) digits a number", "fsm.languages.json_schema.formats:LONGEST_COUNT", 1),
    ("kernels", r"splits of `KV_SPLIT` = (\S+) positions", "kernels.ops:KV_SPLIT", 1),
    ("kernels", r"in blocks of up to (\d+)", "kernels.cpu.products.linear:MAX_BLOCK", 1),
    ("kernels", r"from (\S+) rows on that pays", "kernels.cpu.products.amx:FROM", 1),
    ("kernels", r"Steps of more than (\S+) tokens go", "kernels.cpu.steps:MAX_TOKENS", 1),
    ("kernels", r"arguments, (\S+) words each", "kernels.cpu.steps:COMMAND_WORDS", 1),
    ("kernels-gpu", r"at most (\S+) keys", "kernels/triton/keys.py:MOST_KEYS", 1),
    ("kernels-gpu", r"at most (\S+) partial sums", "kernels/triton/keys.py:MOST_PARTIALS", 1),
    ("kernels-gpu", r"at most (\S+) rows a KV head", "kernels/triton/cut.py:FEW_ROWS", 1),
    ("kernels-gpu", r"up to (\S+) rows a sequence", "kernels/triton/cut.py:SHARED_ROWS", 1),
    ("radix", r"edges are at most (\S+) tokens long", "radix.publish:EDGE_TOKENS", 1),
    ("radix", r"as match, in (\S+) namespaces", "radix.tree:MAX_ALONE", 1),
    ("radix", r"1/256 of the pool, (\S+) blocks at most", "radix.store:SPARE_BLOCKS", 1),
    ("radix", r"The priors weigh (\S+) and", "radix.reuse:TABLE_PRIOR", 1),
    ("radix", r"weigh 256 and (\S+) leaves", "radix.reuse:FACTOR_PRIOR", 1),
    ("serving", r"`default_max_tokens` \((\S+)\)", "server.config:ServerConfig().default_max_tokens", 1),
    ("serving", r"`compile_seconds` \((\S+)\)", "server.config:ServerConfig().compile_seconds", 1),
    ("serving", r"`turn_memory_bytes`, (\S+) MiB", "server.config:ServerConfig().turn_memory_bytes", 1 << 20),
    ("serving", r"at most (\S+) calls in an answer", "server.outputs.constraints:MAX_CALLS", 1),
    ("serving", r"compiled grammars \| (\S+), and", "runtime.engine.grammars:MAX_COMPILED", 1),
    ("serving", r"and (\S+) MiB of what they have touched", "runtime.engine.grammars:MAX_COMPILED_BYTES", 1 << 20),
    ("serving", r"recorded small steps \| (\S+) sizes", "kernels.cpu.steps:MAX_RECORDINGS", 1),
    ("serving", r"log-probabilities of (\S+) fixed tokens", "runtime.engine.saving:PROBE_TOKENS", 1),
]


def num_contracts() -> int:
    return len(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"])


def num_hostile(which: str) -> int:
    return len(getattr(import_module("tests.fsm.test_hostile"), which))


def num_own_keywords() -> int:
    """In JSON Schemas."""
    return len(re.findall(r'"x-stemma-\w+": ', (ROOT / "fsm/languages/json_schema/keywords.py").read_text("utf-8")))


def drawn(compressed: bool) -> Drawing:
    """The automaton of the schema that the page draws."""
    (schema,) = re.findall(r"echo '(\{.*?\})' > schema.json", TEXTS["docs/fsm.md"])
    return explored(Automaton(JSONSchema(schema).grammar()), compressed, 60)


def bytes_of_a_token(kv_dtype: str) -> int:
    """Of a layer, with 3 KV heads of 64, in blocks of 16."""
    return 2 * 3 * region_bytes(64, 16, kv_dtype) // 16


def num_workloads() -> int:
    """Read from the text: the module imports what only its own environment has."""
    (names,) = re.findall(r'^ALL = "(.*)"$', (ROOT / "benchmarks/peers.py").read_text("utf-8"), re.MULTILINE)
    return len(names.split(","))


def num_dialects_of_regexes() -> int:
    return len(get_args(constant("fsm.languages.regex.tree:Dialect")))


COUNTS: list[tuple[str, str, Callable[[], int]]] = [
    ("CONTRIBUTING", r"(\S+) contracts of import-linter", num_contracts),
    ("docs/findings", r"(\S+) findings in libraries", lambda: len(list((ROOT / "findings").iterdir()))),
    ("docs/fsm", r"has (\S+) that are walked", lambda: num_hostile("ANSWERED")),
    ("docs/fsm", r"and (\S+) that are refused", lambda: num_hostile("REFUSED")),
    ("docs/kernels-gpu", r"(\S+) tokens of 16-bit KV", lambda: written("kernels/triton/cut.py", "PIECE")[2]),
    ("docs/kernels-gpu", r"(\S+) of 8-bit KV \(", lambda: written("kernels/triton/cut.py", "PIECE")[1]),
    *(("docs/kernels", rf"\| {name} \| (\S+) \|", partial(bytes_of_a_token, name)) for name in KV_DTYPES),
    ("docs/fsm", r"(\S+) configurations and \d+ edges become", lambda: len(drawn(compressed=False).configs)),
    ("docs/fsm", r"configurations and (\S+) edges become", lambda: len(drawn(compressed=False).edges)),
    ("docs/fsm", r"edges become (\S+) and", lambda: len(drawn(compressed=True).configs)),
    ("docs/fsm", r"edges become \S+ and (\d+)", lambda: len(drawn(compressed=True).edges)),
    ("docs/schemas", r"An own parser for (\S+) dialects", num_dialects_of_regexes),
    ("docs/schemas", r"(\S+) keywords of ours", num_own_keywords),
    ("docs/schemas", r"names without the (\S+) keywords of Python", lambda: len(keyword.kwlist)),
    ("docs/model", r"for (\S+) configurations of", lambda: sum(map(len, CASES.values()))),
    ("docs/model", r"configurations of (\S+) families", lambda: len(CASES)),
    ("docs/model", r"through (\S+) rooms: `files/`", lambda: len(list((ROOT / "runtime/model").glob("*/__init__.py")))),
    ("docs/measurements/peers", r"(\S+) workloads on one model", num_workloads),
]
COUNTED = r"(?:contracts|families|dialects|findings|workloads|endpoints|rooms)"


@pytest.mark.parametrize(("page", "claim", "path", "factor"), CONSTANTS, ids=lambda value: str(value))
def test_limits(page, claim, path, factor):
    (claimed,) = re.findall(claim, TEXTS[f"docs/{page}.md"])
    assert number(claimed) * factor == constant(path)


@pytest.mark.parametrize(("page", "claim", "count"), COUNTS, ids=[f"{page}: {claim}" for page, claim, _ in COUNTS])
def test_counts(page, claim, count):
    (claimed,) = re.findall(claim, TEXTS[f"{page}.md"])
    assert number(claimed) == count()


def test_whoever_counts_such_things_is_checked():
    checked = {(page, found.span(1)) for page, claim, _ in COUNTS for found in re.finditer(claim, TEXTS[f"{page}.md"])}
    for name, text in TEXTS.items():
        text = text.partition(BEGIN.strip())[0] + text.partition(END.strip())[2]
        for found in re.finditer(rf"\b(\d+|{'|'.join(WORDS[2:])}) (?:\w+ )?{COUNTED}\b", text, re.IGNORECASE):
            assert (name.removesuffix(".md"), found.span(1)) in checked, f"{name}: {found[0]}"


def test_the_rooms_are_drawn_as_they_are():
    """`python docs/draw_rooms.py` draws them anew."""
    drawn = (ROOT / "docs/architecture.md").read_text("utf-8").split(BEGIN)[1].split(END)[0]
    assert drawn.strip() == block().strip()


def test_a_circle_of_rooms_cannot_be_drawn():
    using = {"a": frozenset({"b"}), "b": frozenset({"a"}), "c": frozenset({"d"}), "d": frozenset[str]()}
    with pytest.raises(ValueError, match=r"\['a', 'b'\]"):
        floors(using)
    assert floors({name: using[name] for name in "cd"}) == {"d": 0, "c": 1}

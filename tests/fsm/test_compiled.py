"""The two forms of front ends and emitter, compiled and interpreted: which one runs, that both make the same states of
schemas, and that what is nested too deeply is refused in both, where the stack is small too."""

import ast
import shutil
import sys
from pathlib import Path

import pytest

import stemma
from stemma import fsm
from stemma.compiled import BUILT, DIGEST, MODULES, digest_of
from stemma.fsm.errors import UnsupportedSchema
from stemma.fsm.json_schema import JSONSchema
from tests.forms_of_packages import said

HOME = Path(stemma.__file__).parent
PACKAGE = Path(fsm.__file__).parent
STATES = """
import hashlib
from stemma.fsm import Limits, is_compiled
from stemma.fsm.automaton.program import Program
from stemma.fsm.json_schema import JSONSchema
text, number = {"type": "string"}, {"type": "number"}
thing = {"type": "object", "properties": {"a": {"$ref": "#/$defs/t"}, "b": text, "c": number}, "required": ["c", "a"]}
schemas = [
    {},
    thing | {"$defs": {"t": {"anyOf": [text, {"type": "null"}, {"type": "array", "items": thing, "maxItems": 3}]}}},
    {"oneOf": [{"properties": {"k": {"const": k}, k: number}, "required": ["k"]} for k in "xyz"], "type": "object"},
    {"type": "string", "pattern": "^[a-c]+(x|yz){2,5}$", "maxLength": 12},
    {"type": ["integer", "string"], "minimum": -3.5, "exclusiveMaximum": 120, "multipleOf": 3, "format": "date"},
    {"type": "array", "prefixItems": [text, number], "items": {"enum": [1, "2", None, [3, {"f": 4.5}]]}, "minItems": 1},
    {"type": "object", "patternProperties": {"^i_": number}, "additionalProperties": text, "minProperties": 1},
    {"type": "object", "properties": {"a": number, "b": text}, "dependentRequired": {"a": ["b"]}, "maxProperties": 3},
    {"if": {"properties": {"a": {"const": 1}}}, "then": {"required": ["b"]}, "not": {"type": ["array", "number"]}},
    {"type": "array", "uniqueItems": True, "items": {"enum": ["a", "b", 3]}, "contains": {"const": 3}},
    *({"type": "string", "format": name} for name in ("date-time", "email", "uuid", "ipv4", "time", "uri")),
]
digest = hashlib.sha256()
for schema in schemas:
    for order in ("declared", "any"):
        program, rule = Program(JSONSchema(schema, order).grammar(), Limits()), 0
        while rule < min(program.num_rules, 500):
            program.build_rule(rule)
            rule += 1
        digest.update(bytes(program.states) + bytes(program.edges))
print(is_compiled, digest.hexdigest())
"""
DEEP = """
import threading
from stemma.fsm import FormError, LimitError
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.automaton import program
from stemma.fsm.languages.json_schema import texts
from stemma.fsm.syntax import ast, nodes
def nested(count, inner, around):
    for _ in range(count):
        inner = around(inner)
    return inner
def chain(count, link):
    defs = {str(i): link({"$ref": f"#/$defs/{i + 1}"}) for i in range(count)}
    return {"$defs": defs | {str(count): {"type": "string"}}, "$ref": "#/$defs/0"}
circle = []
circle.append(circle)
values = {"$defs": {"l": {"type": "array", "items": {"$ref": "#/$defs/l"}}}, "allOf": [{"$ref": "#/$defs/l"}]}
deep = nested(600, "x", lambda value: [value])
questions = lambda following: {"oneOf": [{"const": nested(400, 1, lambda value: [value])},
                                         nested(120, following, lambda inner: {"items": inner})]}
schemas = [
    {"const": circle}, {"const": deep}, {"not": {"enum": [deep]}}, values | {"enum": [deep, 3]}, chain(30, questions),
    *(chain(5000, lambda following: {kind: [following]}) for kind in ("allOf", "anyOf", "oneOf")),
    chain(5000, lambda following: {"properties": {"a": following}, "required": ["a"], "type": "object",
                                   "minProperties": 1}),
    nested(250, {"type": "string"}, lambda inner: {"not": inner}),
]
def refused(schema):
    try:
        JSONSchema(schema).grammar()
    except FormError as error:
        return type(error) is LimitError
def node():
    try:
        nested(20_000, ast.Literal(b"a"), lambda inner: ast.Choice((ast.Repeat(inner, 0, 3), ast.Literal(b"b"))))
    except LimitError:
        return True
AROUND = (
    lambda inner: ast.Choice((ast.Concatenation((inner, ast.Literal(b"a"))), ast.Literal(b"b"))),
    lambda inner: ast.Repeat(inner, 0, 3),
    lambda inner: ast.Repeat(ast.Concatenation((ast.Literal(b"a"), inner)), 1, None),
    lambda inner: ast.Difference(ast.Intersection(inner, ast.Literal(b"b")), ast.Literal(b"b")),
)
WAYS = (nodes.nullable, nodes.lengths, lambda node: nodes.of_length(node, 1, 5), texts.any_length, texts.prefix,
        lambda node: list(nodes.specials(node)), texts.is_empty, lambda node: texts.spelled(node, True), hash, repr,
        program.nullable, program.nonempty)
def gone_through():
    for around in AROUND:
        deep = nested(ast.MAXIMUM_DEPTH // 2 - 1, ast.Literal(b"a"), around)
        for way in WAYS:
            try:
                way(deep)
            except (RecursionError, LimitError):
                pass
    return True
def run():
    print(*(refused(schema) for schema in schemas), node(), gone_through())
threading.stack_size(4 << 20)
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""


def copy_of(folder: Path, *, with_built: bool) -> Path:
    """The package and what stands around all packages; returns its folder."""
    package = folder / "stemma/fsm"
    left_out = ("__pycache__",) if with_built else ("__pycache__", BUILT)
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns(*left_out))
    for path in HOME.glob("*.py"):
        shutil.copy(path, folder / "stemma")
    return package


def test_all_that_is_compiled_is_there() -> None:
    assert [name for name in MODULES["fsm"] if not (PACKAGE / f"{name}.py").exists()] == []


def test_both_forms_refuse_what_is_nested_too_deeply(tmp_path: Path) -> None:
    copy_of(tmp_path / "one", with_built=fsm.is_compiled)
    copy_of(tmp_path / "other", with_built=False)
    for form in ("one", "other"):
        answers = said(DEEP, tmp_path / form)
        assert len(answers) == 12
        assert set(answers) == {"True"}, f"{form}: {answers}"


@pytest.mark.skipif(not fsm.is_compiled, reason="this installation was made without a C compiler")
def test_both_forms_make_the_same_states(tmp_path: Path) -> None:
    copy_of(tmp_path / "one", with_built=True)
    copy_of(tmp_path / "other", with_built=False)
    compiled, interpreted = said(STATES, tmp_path / "one"), said(STATES, tmp_path / "other")
    assert (compiled[0], interpreted[0]) == ("True", "False")
    assert compiled[1] == interpreted[1]


def test_what_was_compiled_from_other_sources_is_not_used(tmp_path: Path) -> None:
    package = copy_of(tmp_path, with_built=fsm.is_compiled)
    if not fsm.is_compiled:
        (package / BUILT).mkdir()
        (package / BUILT / DIGEST).write_text(digest_of(package))
    with (package / "errors.py").open("a") as file:
        file.write("\n# one line more\n")
    assert digest_of(package) != (package / BUILT / DIGEST).read_text()
    assert said("import stemma.fsm; print(stemma.fsm.is_compiled)", tmp_path) == ["False"]


def test_nothing_is_being_handled_behind_a_refusal():
    """What hands out a value in an `except`, compiled by mypyc, leaves the error to its caller, which then seems to
    handle it for ever: with all that its traceback holds, and as the context of errors that are none of its own."""
    with pytest.raises(UnsupportedSchema):
        JSONSchema({"type": "array", "items": {"type": "string"}, "uniqueItems": True}).grammar()
    assert sys.exc_info() == (None, None, None)


@pytest.mark.parametrize("package", MODULES)
def test_no_compiled_generator_hands_out_a_value_while_it_handles_an_error(package):
    handlers = {
        f"{module}.py:{handler.lineno}": handler
        for module in MODULES[package]
        for handler in ast.walk(ast.parse((HOME / package / f"{module}.py").read_text()))
        if isinstance(handler, ast.ExceptHandler)
    }
    assert handlers
    yields = ast.Yield, ast.YieldFrom, ast.Await
    assert [place for place, one in handlers.items() if any(isinstance(node, yields) for node in ast.walk(one))] == []

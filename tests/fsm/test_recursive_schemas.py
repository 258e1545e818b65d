"""Schemas that lead back to themselves: what holds of a schema while it is being worked out is never taken for granted.

Small schemas of three definitions that refer to each other in every way, and every small value, against jsonschema-rs.
"""

# ruff: noqa: E501 - the cases are a table, one row each

import json
import random
from itertools import permutations
from typing import Annotated, Any, Literal

import jsonschema_rs
import pydantic
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.errors import LimitError, SchemaError
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.syntax.recogniser import Recogniser
from stemma.fsm.work import work_limit
from tests.fsm.random_schemas import BEYOND_DOUBLES

WORK = 400_000  # of one schema


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def accepted(schema: Any, values: list[Any], **options: Any) -> list[Any]:
    grammar = JSONSchema(schema, **options).grammar()
    recogniser = Recogniser(grammar.rule)
    return [value for value in values if recogniser.matches(grammar.start, compact(value))]


def valid(schema: Any, values: list[Any]) -> list[Any]:
    validator = jsonschema_rs.Draft202012Validator(schema)
    return [value for value in values if validator.is_valid(value)]


def small_values() -> list[Any]:
    """Every scalar of a few, alone, in arrays and objects, and those in each other again."""
    scalars: list[Any] = [None, 0, "x", True]
    once: list[Any] = [[], {}, *([value] for value in scalars), *({name: value} for name in "ab" for value in scalars)]
    once += [[0, "x"], {"a": 0, "b": "x"}, {"a": None, "b": None}, {"z": 0}]
    twice = [[value] for value in once] + [{name: value} for name in "ab" for value in once]
    twice += [
        pair for value in once for pair in ({"a": value, "b": 0}, {"a": None, "b": value}, [value, 0], [0, value])
    ]
    thrice = [wrapped for value in twice[::5] for wrapped in ([value], {"a": value}, {"b": value})]
    return scalars + once + twice + thrice


VALUES = small_values()


def walked(schema: Any, seed: int, limit: int = 12) -> bytes | None:
    """A random text of a schema, None where it has not come to an end. Never stuck. Short: a validator that tries each
    branch of each `oneOf` takes time exponential in its depth."""
    chance, automaton = random.Random(seed), Automaton(JSONSchema(schema).grammar())
    config, text = automaton.start, bytearray()
    while len(text) < 4 * limit:
        allowed = [byte for byte, after in enumerate(automaton.row(config)) if after > 0]
        if automaton.is_accepting(config) and (not allowed or len(text) > limit or chance.random() < 0.5):
            return bytes(text)
        assert allowed, f"stuck after {bytes(text)!r}"
        ending = [byte for byte in allowed if byte in b'"]}'] if len(text) > limit else []
        text.append(chance.choice(ending or [byte for byte in allowed if 32 <= byte < 127] or allowed))
        config = automaton.step(config, text[-1])
    return None


# By hand ---------------------------------------------------------------------------------------------------------


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def named(*names: str, **definitions: Any) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{names[0]}", "$defs": definitions}


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


LIST = named("N", N=closed(["v", "n"], v={"type": "integer"}, n={"oneOf": [ref("N"), {"type": "null"}]}))
KIDS = named(
    "N", N=closed(["k"], k={"type": "array", "minItems": 1, "items": {"oneOf": [ref("N"), {"type": "string"}]}})
)
CASES: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "a list": (LIST, [{"v": 1, "n": None}, {"v": 1, "n": {"v": 2, "n": None}}], [{"v": 1}, {"v": 1, "n": {}}]),
    "trees of at least one": (KIDS, [{"k": ["a"]}, {"k": ["a", {"k": ["b"]}]}], [{"k": []}, {"k": [{"k": []}]}, {"k": [1]}]),
    "items by index": (named("N", N={"type": "array", "minItems": 2, "prefixItems": [{"type": "integer"}, {"oneOf": [ref("N"), {"type": "null"}]}], "items": False}), [[1, None], [1, [2, None]]], [[1], [1, []], [1, None, 1]]),
    "contains": (named("N", N={"type": "array", "contains": {"oneOf": [ref("N"), {"const": 0}]}}), [[0], [1, [0]], [[[0]]]], [[], [1], [[1]]]),
    "any member": (named("N", N={"type": "object", "minProperties": 1, "additionalProperties": {"oneOf": [ref("N"), {"type": "integer"}]}}), [{"x": 1}, {"x": {"y": 1}}], [{}, {"x": {}}, {"x": "s"}]),
    "members by pattern": (named("N", N={"type": "object", "patternProperties": {"^a": {"oneOf": [ref("N"), {"type": "null"}]}}, "required": ["a"], "additionalProperties": False}), [{"a": None}, {"a": {"a": None}}], [{}, {"a": {}}, {"b": None}]),
    "through allOf": (named("N", N={"allOf": [{"type": "object", "required": ["n"]}, {"properties": {"n": {"oneOf": [{"allOf": [ref("N")]}, {"type": "null"}]}}}]}), [{"n": None}, {"n": {"n": None}}], [{}, {"n": 1}, {"n": {}}]),
    "through if": (named("N", N={"type": "object", "required": ["n"], "if": {"properties": {"n": {"type": "object"}}}, "then": {"properties": {"n": {"oneOf": [ref("N"), {"type": "string"}]}}}, "else": {"properties": {"n": {"type": "null"}}}}), [{"n": None}, {"n": {"n": None}}], [{"n": 1}, {"n": {"n": 1}}, {"n": "s"}]),
    "through not": (named("N", N={"type": "object", "required": ["n"], "properties": {"n": {"not": {"oneOf": [ref("N"), {"type": "string"}]}}}}), [{"n": 1}, {"n": {}}, {"n": {"n": {"n": 1}}}], [{"n": "s"}, {"n": {"n": 1}}, {}]),
    "a dynamic reference": ({"$id": "http://x/t", "$dynamicAnchor": "t", "type": "object", "required": ["n"], "properties": {"n": {"oneOf": [{"$dynamicRef": "#t"}, {"type": "null"}]}}}, [{"n": None}, {"n": {"n": None}}], [{"n": 1}, {}, {"n": {}}]),
    "branches that overlap in part": (named("N", N={"oneOf": [{"type": "object", "required": ["a"], "properties": {"a": ref("M")}}, {"type": "object", "required": ["b"], "properties": {"b": ref("M")}}]}, M={"oneOf": [ref("N"), {"type": "null"}]}), [{"a": None}, {"b": {"a": None}}, {"a": None, "b": 1}, {"b": None, "a": 1}], [{}, {"a": None, "b": None}, {"a": 1}, {"a": {}}]),
    "told apart late": (named("L", L={"type": "array", "items": ref("N")}, N={"oneOf": [closed(["l", "k"], l=ref("L"), k={"const": "x"}), closed(["l", "k"], l=ref("L"), k={"const": "y"}), closed(["l", "m"], l=ref("N"), m=closed(["k"], k={"const": 1})), closed(["l", "m"], l=ref("N"), m=closed(["k"], k={"const": 2}))]}), [[], [{"l": [], "k": "x"}], [{"l": [{"l": [], "k": "y"}], "k": "y"}], [{"l": {"l": [], "k": "x"}, "m": {"k": 2}}]], [[{"l": [], "k": "z"}], [{"k": "x"}], [{"l": [], "m": {"k": 1}}]]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("order", ["declared", "any"])
def test_recursion_is_read(name: str, order: Any) -> None:
    schema, good, bad = CASES[name]
    assert valid(schema, good + bad) == good
    assert accepted(schema, good + bad, property_order=order) == good
    for seed in range(5):
        text = walked(schema, seed)
        assert text is None or BEYOND_DOUBLES.search(text) or valid(schema, [json.loads(text)])


@pytest.mark.parametrize("keyword", ["oneOf", "anyOf"])
@pytest.mark.parametrize("branches", list(permutations([{"type": "null"}, {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/A"}}, {"$ref": "#/$defs/B"}])))  # fmt: skip
@pytest.mark.parametrize("start", "AB")
def test_types_that_require_each_other_are_read_in_any_order(keyword: str, branches: Any, start: str) -> None:
    schema = named(start, A=closed(["b"], b={keyword: list(branches)}), B=closed(["a"], a=ref("A")))
    good = [{"b": None}, {"b": {"a": {"b": None}}}, {"b": [{"b": None}]}] if start == "A" else [{"a": {"b": None}}]
    good += [] if start == "A" else [{"a": {"b": {"a": {"b": None}}}}]
    bad = [{}, {"b": {}}, {"a": {}}, {"b": {"a": None}}, {"b": []}, {"a": {"b": {"a": {}}}}]
    assert accepted(schema, good + bad) == valid(schema, good + bad) == good


@pytest.mark.parametrize("branches", list(permutations([{"type": "integer"}, closed(["neg"], neg=ref("E")), closed(["l", "r"], l=ref("E"), r=ref("E"))])))  # fmt: skip
def test_expressions_are_read_in_any_order(branches: Any) -> None:
    schema = named("E", E={"oneOf": list(branches)})
    good = [1, {"neg": 1}, {"l": 1, "r": {"neg": {"neg": 2}}}]
    assert accepted(schema, [*good, {}, {"neg": {}}, {"l": 1}, "x", {"l": 1, "r": {"neg": "x"}}]) == good


class Num(pydantic.BaseModel):
    kind: Literal["num"]
    value: int


class Neg(pydantic.BaseModel):
    kind: Literal["neg"]
    arg: "Node"


class Many(pydantic.BaseModel):
    first: Annotated[list["Node"], pydantic.Field(min_length=1)]
    by_name: dict[str, "Node"]
    kind: Literal["many"]


Node = Annotated[Num | Neg | Many, pydantic.Field(discriminator="kind")]
Neg.model_rebuild()
Many.model_rebuild()


@pytest.mark.parametrize("kind", [Node, Neg, Many, list[Node], dict[str, Neg], Node | None])
def test_discriminated_unions_of_pydantic(kind: Any) -> None:
    """Every text of a recursive union is a value of it, and every value is a text."""
    adapter = pydantic.TypeAdapter[Any](kind)
    num = {"kind": "num", "value": 1}
    some = [
        num,
        {"kind": "neg", "arg": num},
        {"first": [num, {"kind": "neg", "arg": num}], "by_name": {"x": num}, "kind": "many"},
    ]
    some += [{"kind": "neg"}, {"first": [], "by_name": {}, "kind": "many"}, {"kind": "other"}, None]
    some += [[value] for value in some] + [{"k": value} for value in some]
    schema = adapter.json_schema()
    assert accepted(schema, some) == valid(schema, some)
    for seed in range(5):
        text = walked(schema, seed, 200)
        if text is not None:
            adapter.validate_json(text)  # raises if it is none


def test_types_that_require_each_other() -> None:
    class Dept(pydantic.BaseModel):
        title: str
        head: "Employee"

    class Employee(pydantic.BaseModel):
        name: str
        dept: Dept | None

    Dept.model_rebuild(_types_namespace={"Employee": Employee})
    schema = Employee.model_json_schema()
    deep = {"name": "a", "dept": {"title": "t", "head": {"name": "b", "dept": None}}}
    assert accepted(schema, [deep, deep["dept"], {"name": "a", "dept": None}]) == [deep, {"name": "a", "dept": None}]


# Nothing that fulfils it ---------------------------------------------------------------------------------------------

ENDLESS = closed(["a"], a=ref("A"))
EMPTY: dict[str, tuple[Any, str]] = {
    "itself, required": (named("A", A=ENDLESS), "/$defs/A"),
    "each other": (named("A", A=closed(["b"], b=ref("B")), B=closed(["a"], a=ref("A"))), "/$defs/"),
    "an item": (closed(["x"], x={"type": "array", "minItems": 1, "items": closed(["q"], q={"enum": []})}), "/properties/x/items/properties/q"),
    "an item of itself": (named("A", A={"type": "array", "minItems": 1, "items": ref("A")}), "/$defs/A"),
    "a prefix": ({"type": "array", "prefixItems": [{}, {"type": "integer", "minimum": 3, "maximum": 2}], "minItems": 2}, "/prefixItems/1"),
    "contained": ({"type": "array", "contains": {"type": "string", "minLength": 3, "maxLength": 2}}, "/contains"),
    "all branches": ({**named("B", A=ENDLESS, B={"oneOf": [ref("A"), closed(["x"], x=ref("A"))]})}, "/$defs/"),
    "a contradiction": ({"type": "string", "enum": [1]}, "/:"),
}  # fmt: skip


@pytest.mark.parametrize("name", EMPTY)
def test_what_nothing_fulfils_is_refused_with_its_place(name: str) -> None:
    schema, pointer = EMPTY[name]
    with pytest.raises(SchemaError, match="no value fulfils this schema") as caught:
        JSONSchema(schema).grammar()
    assert str(caught.value).startswith(pointer)


def test_an_optional_member_that_nothing_fulfils_is_forbidden() -> None:
    definitions = {"A": ENDLESS}
    schema = {**closed([], x=ref("A"), y={"type": "integer"}, z=ref("A")), "$defs": definitions}
    assert accepted(schema, [{}, {"y": 1}, {"x": {"a": 1}}, {"x": 1}, {"z": {}}]) == [{}, {"y": 1}]
    assert accepted({"items": ref("A"), "$defs": definitions}, [[], [1], [{}], 1]) == [[], 1]
    assert accepted({"anyOf": [ref("A"), {"type": "null"}], "$defs": definitions}, [None, {}, {"a": None}]) == [None]
    assert accepted({"type": "object", "additionalProperties": ref("A"), "$defs": definitions}, [{}, {"x": 1}]) == [{}]


LOOPS = [
    {"$ref": "#"},
    {"anyOf": [{"type": "null"}, {"$ref": "#"}]},
    {"oneOf": [{"type": "null"}, {"allOf": [{"$ref": "#"}]}]},
    {"not": {"$ref": "#"}},
    {"properties": {"x": ref("L")}, "$defs": {"L": {"if": {"type": "null"}, "then": ref("L")}}},
    {"items": {"$dynamicRef": "#L"}, "$defs": {"L": {"$dynamicAnchor": "L", "anyOf": [{"$dynamicRef": "#L"}, {}]}}},
    {"items": {"$dynamicRef": "#L"}, "$defs": {"L": {"$anchor": "L", "allOf": [{"$dynamicRef": "#L"}]}}},
    {
        "$schema": "https://json-schema.org/draft/2019-09/schema",
        "items": {"not": {"$recursiveRef": "#"}},
        "$recursiveAnchor": True,
        "anyOf": [{"type": "null"}, {"$recursiveRef": "#"}],
    },
    {"items": ref("L"), "$defs": {"L": {"dependentSchemas": {"a": ref("M")}}, "M": {"anyOf": [ref("L"), {}]}}},
]


@pytest.mark.parametrize("schema", LOOPS, ids=str)
def test_a_reference_back_without_reading_is_refused_when_compiling(schema: Any) -> None:
    with pytest.raises(SchemaError, match="leads back to itself without reading"):
        JSONSchema(schema).grammar()


def test_a_dynamic_reference_that_reads_first_is_no_loop() -> None:
    tree = {"$dynamicAnchor": "T", "type": "object", "properties": {"k": {"items": {"$dynamicRef": "#T"}}}}
    assert accepted(tree, [{"k": [{"k": []}]}, {"k": [1]}]) == [{"k": [{"k": []}]}]
    elsewhere = {"$id": "http://x/root", "$ref": "list", "$defs": {
        "own": {"$dynamicAnchor": "T", "type": "integer"},
        "list": {"$id": "list", "$dynamicRef": "#T", "$defs": {"any": {"$dynamicAnchor": "T", "$dynamicRef": "#T"}}},
    }}  # fmt: skip
    assert accepted(elsewhere, [1, "x"]) == [1]


# At random -----------------------------------------------------------------------------------------------------------

NAMES = ["a", "b"]
LEAVES = st.sampled_from([{"type": "null"}, {"type": "integer"}, {"const": 0}, {"enum": [0, "x"]}, {"type": "boolean"}, True, {"type": "string"}])  # fmt: skip
SOON = [named("A")["$ref"], "#/$defs/B", "#/$defs/C"]


@st.composite
def schemas(draw: st.DrawFn, inside: tuple[str, ...], depth: int) -> Any:
    """A schema; `inside`: the definitions that it may speak of in place (those behind its own: no loops)."""
    if depth == 0:
        return draw(LEAVES)
    below = schemas((), depth - 1) | st.sampled_from([{"$ref": target} for target in SOON])  # read first: any of them
    here = schemas(inside, depth - 1)
    if inside:
        here |= st.sampled_from([{"$ref": target} for target in inside])
    kind = draw(st.sampled_from(["leaf", "object", "object", "array", "oneOf", "oneOf", "anyOf", "allOf", "not", "if"]))
    if kind == "leaf":
        return draw(LEAVES)
    if kind == "object":
        found: dict[str, Any] = {"properties": draw(st.dictionaries(st.sampled_from(NAMES), below, max_size=2))}
        found |= draw(st.sampled_from([{}, {"type": "object"}, {"type": "object", "additionalProperties": False}]))
        found |= draw(
            st.sampled_from(
                [{}, {"required": ["a"]}, {"required": ["b"]}, {"required": ["a", "b"]}, {"minProperties": 1}]
            )
        )
        return found | draw(st.just({}) | st.builds(lambda inner: {"patternProperties": {"^a": inner}}, below))
    if kind == "array":
        found = {"items": draw(below)} | draw(
            st.sampled_from([{}, {"type": "array"}, {"type": "array", "minItems": 1}])
        )
        return found | draw(
            st.just({}) | st.builds(lambda a: {"prefixItems": [a]}, below) | st.builds(lambda a: {"contains": a}, below)
        )
    if kind == "not":
        return {"not": draw(here)}
    if kind == "if":
        return {"if": draw(here), "then": draw(here), "else": draw(here)}
    return {kind: draw(st.lists(here, min_size=2, max_size=3))}


@st.composite
def documents(draw: st.DrawFn) -> Any:
    definitions = {name: draw(schemas(tuple(SOON[index + 1 :]), 2)) for index, name in enumerate("ABC")}
    return {"$ref": "#/$defs/A", "$defs": definitions}


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(documents(), st.integers(0, 2**32))
def test_small_values_are_accepted_exactly_if_they_are_valid(schema: Any, seed: int) -> None:
    expected = valid(schema, VALUES)
    try:
        with work_limit(WORK):
            assert accepted(schema, VALUES, property_order="any", integers="any") == expected
            text = walked(schema, seed)
    except SchemaError as refused:
        assert (refused.message.startswith("no value fulfils"), expected) == (True, [])  # noqa: PT017
    except (LimitError, RecursionError):  # of the plain recogniser, where rules are deep
        return
    else:
        assert text is None or BEYOND_DOUBLES.search(text) or valid(schema, [json.loads(text)])

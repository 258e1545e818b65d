"""Random schemas against an independent validator: the same instances are accepted, and random walks end in valid
ones."""

import json
import random
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.errors import FormError, LimitError
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.syntax.recogniser import Recogniser
from tests.fsm.random_schemas import BEYOND_DOUBLES, random_schema

NAMES = ["a", "b", "ab", "c"]
PATTERNS = ["^a", "b$", "^[ab]+$", "^.{1,2}$"]
SCALARS: list[Any] = [None, True, False, 0, 1, 2, -3, 10, 2.5, "", "a", "ab", "abc", "b"]
SCHEMAS_KIND = st.SearchStrategy[Any]


def small(strategy: SCHEMAS_KIND) -> SCHEMAS_KIND:
    return st.lists(strategy, min_size=1, max_size=3)


def maps(keys: list[str], strategy: SCHEMAS_KIND) -> SCHEMAS_KIND:
    return st.dictionaries(st.sampled_from(keys), strategy, max_size=3)


def counts(low: str, high: str) -> SCHEMAS_KIND:
    return st.integers(0, 2).flatmap(lambda least: st.integers(least, 3).map(lambda most: {low: least, high: most}))


LEAVES = st.one_of(
    st.booleans(),
    st.sampled_from([{"type": kind} for kind in ("string", "integer", "number", "object", "array", "null", "boolean")]),
    st.builds(lambda low, high: {"minimum": low, "exclusiveMaximum": high}, st.integers(-4, 2), st.integers(3, 12)),
    st.sampled_from([{"multipleOf": 2}, {"multipleOf": 0.5}, {"type": "integer", "exclusiveMinimum": 0}]),
    st.builds(lambda source: {"type": "string", "pattern": source}, st.sampled_from(PATTERNS)),
    st.builds(
        lambda values: {"enum": values}, st.lists(st.sampled_from(SCALARS), min_size=1, max_size=4, unique_by=repr)
    ),
    st.builds(lambda value: {"const": value}, st.sampled_from([*SCALARS, [1], {"a": 1}, {"a": "a", "b": []}])),
    counts("minLength", "maxLength"),
    counts("minItems", "maxItems"),
    counts("minProperties", "maxProperties"),
    st.builds(
        lambda names: {"type": "object", "required": names}, st.lists(st.sampled_from(NAMES), max_size=2, unique=True)
    ),
    st.just({"dependentRequired": {"a": ["b"]}}),
)


def combined(inner: SCHEMAS_KIND) -> SCHEMAS_KIND:
    return st.one_of(
        st.builds(lambda left, right: {**left, **right} if isinstance(left, dict) and isinstance(right, dict) else left,
                  inner, inner),
        st.builds(
            lambda properties, patterns, rest: {"properties": properties, **patterns, **rest},
            maps(NAMES, inner),
            st.one_of(st.just({}), st.builds(lambda inner: {"patternProperties": inner}, maps(PATTERNS[:2], inner))),
            st.one_of(st.just({}), st.builds(lambda inner: {"additionalProperties": inner}, inner)),
        ),
        st.builds(lambda item: {"items": item}, inner),
        st.builds(lambda items, rest: {"prefixItems": items, "items": rest}, small(inner), inner),
        st.builds(lambda item, sizes: {"contains": item, **sizes}, inner, counts("minContains", "maxContains")),
        st.builds(lambda parts: {"allOf": parts}, small(inner)),
        st.builds(lambda parts: {"anyOf": parts}, small(inner)),
        st.builds(lambda parts: {"oneOf": parts}, small(inner)),
        st.builds(lambda part: {"not": part}, inner),
        st.builds(lambda a, b, c: {"if": a, "then": b, "else": c}, inner, inner, inner),
        st.builds(lambda part: {"propertyNames": part}, inner),
        st.builds(lambda part: {"dependentSchemas": {"a": part}}, inner),
        st.builds(
            lambda properties, parts, rest: {"properties": properties, "anyOf": parts, "unevaluatedProperties": rest},
            maps(NAMES, inner), small(inner), inner,
        ),
    )  # fmt: skip


SCHEMAS = st.recursive(LEAVES, combined, max_leaves=6)
VALUES = st.recursive(
    st.sampled_from(SCALARS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from([*NAMES, "z"]), inner, max_size=4)
    ),
    max_leaves=6,
)


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEMAS, st.lists(VALUES, min_size=8, max_size=16))
def test_accepts_exactly_the_valid_instances(schema: Any, values: list[Any]) -> None:
    validator = jsonschema_rs.Draft202012Validator(schema)
    expected = [validator.is_valid(value) for value in values]
    try:
        grammar = JSONSchema(schema, property_order="any", integers="any").grammar()
    except LimitError:
        return
    except FormError as error:
        if "no value fulfils" not in str(error) or any(expected):
            raise
        return
    recogniser = Recogniser(grammar.rule)
    found = [recogniser.matches(grammar.start, compact(value)) for value in values]
    assert dict(zip(map(compact, values), found, strict=True)) == dict(zip(map(compact, values), expected, strict=True))


def walked(automaton: Automaton, chance: random.Random, limit: int) -> bytes | None:
    """A random text of the grammar; None where it has not come to an end. Never stuck."""
    config, text = automaton.start, bytearray()
    while len(text) < 4 * limit:
        allowed = [byte for byte, after in enumerate(automaton.row(config)) if after > 0]
        if automaton.is_accepting(config) and (not allowed or len(text) > limit or chance.random() < 0.5):
            return bytes(text)
        assert allowed, f"stuck after {bytes(text)!r}"
        ending = [byte for byte in allowed if byte in b'"]}'] if len(text) > limit else []
        likely = [byte for byte in allowed if 32 <= byte < 127] or allowed
        byte = chance.choice(ending or likely)
        text.append(byte)
        config = automaton.step(config, byte)
    return None


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEMAS, st.integers(0, 2**32))
def test_random_walks_end_in_valid_instances(schema: Any, seed: int) -> None:
    try:
        automaton = Automaton(JSONSchema(schema).grammar())
        walks = [walked(automaton, random.Random(seed + index), 60) for index in range(3)]
    except FormError:
        return
    validator = jsonschema_rs.Draft202012Validator(schema)
    for text in walks:
        if text is not None and not repeats_a_name(text) and not BEYOND_DOUBLES.search(text):
            assert validator.is_valid(json.loads(text)), text


def repeats_a_name(text: bytes) -> bool:
    """Counting members says nothing where a name comes twice, which no automaton can exclude."""
    found: list[bool] = []

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        found.append(len(dict(members)) < len(members))
        return dict(members)

    json.loads(text, object_pairs_hook=pairs)
    return any(found)


@pytest.mark.parametrize("value", [0, 1, -1, 0.5, 1e-7, -2.5e-8, 1e22, 123456789.25, -0.001, 1.5e300, 100, 99.99])
@pytest.mark.parametrize("bounds", [(0, 100), (-1, 0.5), (1e-8, 1e21), (99.99, 1e300), (-2.5e-8, -1e-9), (0.001, 0.01)])
@pytest.mark.parametrize("is_strict", [False, True])
def test_bounds_hold_in_every_spelling(value: float, bounds: tuple[float, float], is_strict: bool) -> None:
    names = ("exclusiveMinimum", "exclusiveMaximum") if is_strict else ("minimum", "maximum")
    schema = {"type": "number", **dict(zip(names, bounds, strict=True))}
    grammar = JSONSchema(schema).grammar()
    recogniser = Recogniser(grammar.rule)
    expected = bounds[0] < value < bounds[1] if is_strict else bounds[0] <= value <= bounds[1]
    assert recogniser.matches(grammar.start, json.dumps(value)) == expected
    if abs(value) < 1e15 and value == round(value, 9):
        assert recogniser.matches(grammar.start, f"{value:.9f}") == expected


@pytest.mark.parametrize("first", range(0, 80, 10))
def test_walks_of_schemas_with_everything_end_in_valid_instances(first: int) -> None:
    judged = 0
    for seed in range(first, first + 10):
        schema = random_schema(seed)
        try:
            automaton = Automaton(JSONSchema(schema).grammar())
        except FormError:
            continue
        validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        for walk in range(3):
            text = walked(automaton, random.Random(seed + walk), 30)
            if text is not None and not repeats_a_name(text) and not BEYOND_DOUBLES.search(text):
                assert validator.is_valid(json.loads(text)), (seed, text)
                judged += 1
    assert judged > 5

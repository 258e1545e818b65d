"""Values that are told at a glance are those that are worked out in earnest, and those that jsonschema-rs accepts."""

# ruff: noqa: E501 - the cases are a table

import json
import random
from fractions import Fraction
from typing import Any

import jsonschema_rs
import pytest

from stemma.fsm.errors import FormError
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.languages.json_schema import texts as texts_of
from stemma.fsm.languages.json_schema.compiler import SchemaCompiler
from stemma.fsm.languages.json_schema.facts import Bound, Format, Kind, Length, Multiple, NumberFact
from stemma.fsm.languages.json_schema.glance import Glance
from stemma.fsm.languages.json_schema.numbers import NumberReader, surely_possible
from stemma.fsm.syntax.ast import Grammar, RuleRef
from stemma.fsm.syntax.recogniser import Recogniser
from tests.fsm.random_schemas import Writer

OLD = "http://json-schema.org/draft-04/schema#"
VALUES: list[Any] = [
    None, True, False, 0, 1, 2, 3, -1, 12, 300, 0.5, 1.5, -0.25, "", "a", "b", "ab", "é\n", "abcdef", "1", "null",
    "2024-02-29", "2023-02-29", "x@example.org", [], [1], [1, 2], [1, 2, 3], ["a"], ["a", "b"], [None], [[1]], {}, {"a": 1},
]  # fmt: skip
PLAIN: list[Any] = [
    {"type": ["string", "null"]}, {"type": ["boolean", "integer"]}, {"type": ["integer", "number"]},
    {"const": "a"}, {"const": None}, {"const": False}, {"const": 1}, {"const": "a", "enum": ["b"]}, {"const": [1]},
    {"type": "string", "const": "a"}, {"type": "integer", "const": "a"}, {"$schema": OLD, "const": "a"},
    {"enum": ["a", "b", "a"]}, {"enum": ["a", 1]}, {"enum": [True]}, {"enum": list("abcdefghijkl")}, {"enum": [1, 2]},
    {"type": "string", "enum": ["a", "é\n"]}, {"type": ["string", "null"], "enum": ["a", None, 1]},
    {"type": "string", "minLength": 1}, {"type": "string", "maxLength": 2}, {"type": "string", "minLength": 2.0},
    {"type": "string", "minLength": 1, "maxLength": 2}, {"type": "string", "minLength": 0}, {"minLength": 2},
    {"type": "string", "minLength": 3, "maxLength": 2}, {"type": "string", "maxLength": 0}, {"type": "null", "maxLength": 3},
    {"type": "string", "format": "date"}, {"type": "string", "format": "email"}, {"type": "string", "format": "no such"},
    {"type": "string", "format": "date", "maxLength": 3}, {"type": "array", "format": "date"},
    {"type": "integer", "minimum": 1}, {"type": "integer", "maximum": 2, "minimum": 0}, {"type": "number", "maximum": 1},
    {"type": "integer", "minimum": 1, "maximum": 1}, {"type": "number", "minimum": 2, "maximum": 1}, {"minimum": 2},
    {"type": "integer", "exclusiveMinimum": 0.5, "maximum": 12}, {"type": "number", "minimum": 0, "exclusiveMaximum": 1},
    {"$schema": OLD, "type": "integer", "minimum": 1, "exclusiveMinimum": True}, {"type": "integer", "multipleOf": 3},
    {"anyOf": [{"type": "string"}, {"type": "null"}]}, {"anyOf": [{"enum": ["a", "b"]}, {"type": "integer", "minimum": 2}]},
    {"anyOf": [{"type": "string", "maxLength": 1}, {"$ref": "#/$defs/a"}], "$defs": {"a": {"type": "boolean"}}},
    {"anyOf": [{"type": "string", "pattern": "^a"}, {"type": "null"}]}, {"anyOf": [True, {"type": "null"}]},
    {"anyOf": [False, {"type": "null"}]}, {"anyOf": [{"const": n} for n in "abcdefghijkl"]},
    {"anyOf": [{"type": "string"}, {"type": "null"}], "type": "null"}, {"anyOf": [{"not": {"type": "null"}}]},
    {"type": "array", "items": {"type": "integer"}}, {"type": "array", "items": {"type": "integer"}, "minItems": 2},
    {"type": "array", "items": {"enum": ["a", None]}, "minItems": 1, "maxItems": 1}, {"type": "array", "items": False},
    {"type": "array", "items": {"type": "integer"}, "maxItems": 0}, {"type": "array", "minItems": 1}, {"maxItems": 1},
    {"type": "array", "items": {"not": {}}}, {"type": "array", "items": {"not": {}}, "minItems": 1},
    {"type": "array", "prefixItems": [{"type": "integer"}], "items": {"type": "string"}}, {"items": {"type": "integer"}},
    {"type": "array", "items": [{"type": "integer"}], "additionalItems": {"type": "null"}, "$schema": OLD},
    {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 2},
]  # fmt: skip


def in_earnest(compiler: SchemaCompiler, goal: Any) -> RuleRef | None:
    return None if goal else RuleRef("any")


def grammar_of(schema: Any, **options: Any) -> Grammar:
    """That of an object with the schema's values: a document whose root no value fulfils is refused."""
    held = {"$schema": schema.get("$schema", "https://json-schema.org/draft/2020-12/schema"),
            "$defs": schema.get("$defs", {}), "properties": {"v": schema}, "type": "object"}  # fmt: skip
    return JSONSchema(held, **options).grammar()


def without_glances(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(SchemaCompiler, "at_a_glance", in_earnest)
    patch.setattr(SchemaCompiler, "plain_array", lambda *_: None)
    patch.setattr(Glance, "has_value", lambda *_: False)


@pytest.mark.parametrize("options", [{}, {"integers": "any", "formats": "annotated", "white_space": "spaced"}], ids=str)
@pytest.mark.parametrize("schema", PLAIN, ids=lambda schema: json.dumps(schema)[:60])
def test_what_is_told_at_a_glance_is_what_is_worked_out_in_earnest(
    schema: Any, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    space = " " if options else ""
    texts = [json.dumps(value, separators=("," + space, ":" + space), ensure_ascii=False) for value in VALUES]

    def taken() -> list[bool]:
        grammar = grammar_of(schema, **options)
        recogniser = Recogniser(grammar.rule)
        return [recogniser.matches(grammar.start, f'{{"v":{space}{text}}}') for text in texts]

    at_a_glance = taken()
    without_glances(monkeypatch)
    assert at_a_glance == taken()
    if not options:
        validator = jsonschema_rs.validator_for(schema, validate_formats=True)
        assert at_a_glance == [validator.is_valid(value) for value in VALUES]


@pytest.mark.parametrize("schema", PLAIN, ids=lambda schema: json.dumps(schema)[:60])
def test_what_surely_has_a_value_has_one(schema: Any) -> None:
    document = JSONSchema(schema).document()
    if Glance(document).has_value(document.root):
        validator = jsonschema_rs.validator_for(schema, validate_formats=True)
        more = [4, 5.5, "abc", [1, 1, 1], ["x"] * 5]
        assert any(map(validator.is_valid, [*VALUES, *more]))


@pytest.mark.parametrize("seed", range(60))
def test_random_schemas_with_glances_read_what_they_read_without(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(random.Random(seed))
    schema = {"properties": {"v": {"anyOf": [writer.leaf(), writer.leaf()]} if seed % 3 else writer.array(2)}}
    defined = {"$defs": {name: writer.leaf() for name in writer.definitions}} | schema
    texts = [json.dumps({"v": value}, separators=(",", ":"), ensure_ascii=False) for value in VALUES]

    def taken() -> list[bool] | str:
        try:
            grammar = JSONSchema(defined).grammar()
        except FormError as error:
            return str(error)
        recogniser = Recogniser(grammar.rule)
        return [recogniser.matches(grammar.start, text) for text in texts]

    at_a_glance = taken()
    without_glances(monkeypatch)
    assert at_a_glance == taken()


def test_bounds_and_a_multiple_that_surely_leave_a_number_leave_one() -> None:
    draw = random.Random(0)
    sure = 0
    for _ in range(400):
        bounds = [draw.choice([-7, -1, 0, 1, 2, 2.5, 9, 10, 30]) for _ in range(2)]
        facts: list[NumberFact] = [Multiple(Fraction(draw.choice(["1", "2", "7", "0.5", "1.5", "2.25", "10"])), True)]
        facts += [Bound(Fraction(bounds[0]), True, draw.random() < 0.5)] * draw.choice([0, 1])
        facts += [Bound(Fraction(bounds[1]), False, draw.random() < 0.5)] * draw.choice([0, 1])
        kinds = draw.choice([Kind.INTEGER, Kind.NUMBER])
        if surely_possible(kinds, facts):
            sure += 1
            assert NumberReader(kinds, facts, plain=True).explored().edges[0], facts
    assert sure > 200


@pytest.mark.parametrize("name", ["hostname", "idn-hostname", "email", "uri", "date"])
def test_no_text_of_a_format_is_empty_so_none_is_begun_where_only_that_would_do(name: str) -> None:
    assert not texts_of.is_possible((Length(0, 0), Format(name, True)))
    assert texts_of.is_possible((Length(0, 12), Format(name, True)))

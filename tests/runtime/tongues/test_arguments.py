"""Languages of arguments that are not JSON: they keep to schemas, and refuse by name what they cannot keep to."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stemma.fsm import Matcher, compile
from stemma.fsm.errors import FormError
from stemma.fsm.json_schema import JSONSchema
from stemma.runtime.engine.grammars import make_vocabulary
from stemma.runtime.tongues.functions import Arguments, Function, types_of
from stemma.runtime.tongues.gemma_arguments import GemmaArguments
from stemma.runtime.tongues.keyword_arguments import KeywordArguments
from stemma.runtime.tongues.marks import Marks
from stemma.runtime.tongues.value_arguments import Middle, ValueArguments
from tests.runtime.tongues.making import tokenizer

XML = ValueArguments("", "<p=", tuple(Middle(kind, ">", kind in ("boolean", "array", "object")) for kind in
                     ("string", "number", "boolean", "null", "array", "object")), "</p>", "")  # fmt: skip
LANGUAGES: dict[str, Arguments] = {"values": XML, "keywords": KeywordArguments(), "gemma": GemmaArguments()}
EACH = pytest.mark.parametrize("name", LANGUAGES)
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "code": {"type": "string", "pattern": "^[A-C]{2}$"},
        "note": {"type": "string", "maxLength": 3},
        "count": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"type": "null"}]},
        "where": {"$ref": "#/$defs/place"},
        "ways": {"type": "array", "items": {"enum": ["on", "off"]}, "minItems": 1, "maxItems": 2},
        "sure": {"type": "boolean"},
    },
    "required": ["code"],
    "additionalProperties": False,
    "$defs": {
        "place": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "inside": {"$ref": "#/$defs/place"}},
            "required": ["name"],
            "additionalProperties": False,
        }
    },
}
VALID: list[dict[str, Any]] = [
    {"code": "AB"},
    {"code": "CC", "note": "abc", "count": 7},
    {"code": "AB", "count": None, "sure": False},
    {"code": "AB", "where": {"name": "x", "inside": {"name": "y"}}, "ways": ["on", "off"]},
    {"code": "AB", "note": ""},
]
INVALID: list[dict[str, Any]] = [
    {}, {"code": "AD"}, {"code": "ABC"}, {"code": "AB", "note": "abcd"}, {"code": "AB", "count": 10},
    {"code": "AB", "count": "x"}, {"code": "AB", "where": {"inside": {"name": "y"}}}, {"code": "AB", "ways": []},
    {"code": "AB", "ways": ["on", "on", "on"]}, {"code": "AB", "ways": ["up"]}, {"code": "AB", "other": 1},
]  # fmt: skip


def function(schema: dict[str, Any]) -> Function:
    return Function("f", JSONSchema(schema))


def takes(language: Arguments, schema: dict[str, Any], text: str) -> bool:
    marks = Marks(frozenset(tokenizer().special))
    grammar = language.grammar(function(schema), marks)
    matcher = Matcher(compile(grammar, make_vocabulary(tokenizer(), [256])))
    return all(matcher.advance(token) for token in tokenizer().encode_template(text)) and matcher.is_complete


@EACH
@pytest.mark.parametrize("values", VALID, ids=map(str, range(len(VALID))))
def test_what_a_schema_allows_is_taken_and_reads_back(name: str, values: dict[str, Any]) -> None:
    language = LANGUAGES[name]
    text = language.write(values)
    assert takes(language, SCHEMA, text)
    reader = language.reader(function(SCHEMA))
    step = reader.read(text, True)
    assert reader.is_done
    assert step.taken == len(text)
    assert json.loads(step.json) == values


@EACH
@pytest.mark.parametrize("values", INVALID, ids=map(str, range(len(INVALID))))
def test_what_a_schema_forbids_is_not_taken(name: str, values: dict[str, Any]) -> None:
    assert not takes(LANGUAGES[name], SCHEMA, LANGUAGES[name].write(values))


@EACH
@pytest.mark.parametrize(
    "beside", [{"anyOf": [{"required": ["a"]}]}, {"minProperties": 1}, {"not": {"required": ["b"]}}]
)
def test_what_is_said_beside_the_properties_is_refused_by_name(name: str, beside: dict[str, Any]) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, **beside}
    with pytest.raises(FormError, match=rf"the parameters of f have '{next(iter(beside))}'"):
        LANGUAGES[name].grammar(function(schema), Marks())


def test_a_text_never_holds_the_mark_that_ends_it() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    assert takes(XML, schema, "<p=a>x</q></p>")
    assert not takes(XML, schema, "<p=a>x</p></p>")


def test_what_may_be_text_or_not_is_what_it_reads_as() -> None:
    schema = {"type": "object", "properties": {"a": {"type": ["string", "integer"]}}, "required": ["a"]}
    for text, value in (("12", 12), ("ab", "ab"), ("1 2", "1 2")):
        step = XML.reader(function(schema)).read(f"<p=a>{text}</p>", True)
        assert json.loads(step.json) == {"a": value}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "integer"}, {"number"}),
        ({"enum": ["a", 1, None]}, {"string", "number", "null"}),
        (
            {"anyOf": [{"type": "array"}, {"$ref": "#/$defs/x"}], "$defs": {"x": {"type": "boolean"}}},
            {"array", "boolean"},
        ),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"$ref": "#/$defs/y"}, "y": {"const": {}}}}, {"object"}),
        ({}, {"string", "number", "boolean", "null", "array", "object"}),
    ],
)
def test_types_of_schemas(schema: dict[str, Any], expected: set[str]) -> None:
    assert types_of(schema) == expected

"""JSON Schema, keyword by keyword, on schemas of our own: what is accepted, what is not, what is refused and where."""

# ruff: noqa: E501 - the cases are a table, one row each

import json
from typing import Any

import pytest

from stemma.fsm.errors import FormError, LimitError, SchemaError, UnsupportedSchema
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.syntax.ast import Grammar
from stemma.fsm.syntax.recogniser import Recogniser


def compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def accepts(grammar: Grammar, text: str) -> bool:
    return Recogniser(grammar.rule).matches(grammar.start, text)


Case = tuple[Any, list[Any], list[Any]]
CASES: dict[str, Case] = {
    "types": ({"type": ["integer", "null"]}, [1, -0, 2.0, None], [1.5, "1", True, []]),
    "boolean schemas": ({"properties": {"a": True, "b": False}}, [{}, {"a": 1}, 3], [{"b": 1}]),
    "enum": ({"enum": [1, "é\n", [1, {"a": None}], 2.5, True]}, [1, 1.0, "é\n", [1, {"a": None}], 2.5, True], [0, "", [], False]),
    "const": ({"const": {"a": [1, 2]}}, [{"a": [1, 2]}], [{"a": [1]}, {}, 1]),
    "not const": ({"not": {"const": {"a": [1]}}}, [{"a": [2]}, {"b": [1]}, {}, [1], 1, {"a": [1], "b": 1}], [{"a": [1]}]),
    "bounds": ({"type": "integer", "minimum": -12, "exclusiveMaximum": 130}, [-12, 0, 7, 99, 129], [-13, 130, 1000, -100]),
    "fractions": ({"type": "number", "exclusiveMinimum": 0.25, "maximum": 10.5}, [0.2500001, 1, 10.5, 5e0], [0.25, 10.51, -1, 1e-05, 1e16]),
    "exponents": ({"type": "number", "minimum": 0}, [1e-07, 1.5e300, 0, 1e16], [-1e-07, -1e300, -0.1]),
    "old bounds": ({"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 3, "exclusiveMinimum": True}, [4, 3.1, "x"], [3, 2]),
    "multiples": ({"type": "integer", "multipleOf": 7}, [0, 7, -14, 7007], [1, 8, 71]),
    "decimal multiples": ({"type": "number", "multipleOf": 0.05, "minimum": 0}, [0, 0.05, 1.15, 3], [0.01, 0.051, -0.05]),
    "not integer": ({"type": "number", "not": {"type": "integer"}}, [0.5, -1.25], [1, 1.0, 2]),
    "lengths": ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "é\n", "😀😀😀"], ["a", "abcd", ""]),
    "pattern": ({"type": "string", "pattern": "^[a-c]+\"|\\\\"}, ["ab\"x", "x\\y"], ["b", ""]),
    "pattern and length": ({"type": "string", "pattern": "^a|b$", "maxLength": 3}, ["a", "xxb", "ab"], ["xx", "axxx"]),
    "not pattern": ({"type": "string", "not": {"pattern": "^a"}, "maxLength": 4}, ["", "ba"], ["a", "abc", "bbbbb"]),
    "formats": ({"type": "string", "format": "date"}, ["2024-02-29", "1999-12-31"], ["2023-02-29", "2024-13-01", "x"]),
    "format against the pattern beside it": ({"type": "string", "format": "time", "pattern": "^(?:[01]\\d|2[0-3]):[0-5]\\d$"}, ["12:30"], ["12:30:00Z", "24:00", "x"]),
    "local date-time": ({"type": "string", "format": "date-time", "pattern": "^\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d(:\\d\\d)?$"}, ["2024-02-29T12:34", "2024-02-29T12:34:56"], ["2024-02-29T12:34:56Z"]),
    "not a format against its pattern": ({"type": "string", "not": {"format": "date", "pattern": "^x"}}, ["", "2024-02-29"], ["x", "x1"]),
    "format and a pattern that agree": ({"type": "string", "format": "date", "pattern": "^2024"}, ["2024-02-29"], ["2023-01-01", "2024"]),
    "pattern elsewhere": ({"allOf": [{"format": "ipv4"}, {"pattern": "^\\w+-"}], "type": ["string", "null"]}, [None], ["a-b", "1.2.3.4"]),
    "unknown format": ({"type": "string", "format": "non-blank"}, ["", "x"], [1]),
    "items": ({"items": {"type": "integer"}, "minItems": 1, "maxItems": 3}, [[1], [1, 2, 3], "x"], [[], [1, 2, 3, 4], ["a"]]),
    "prefix": ({"prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False}, [[], [1], [1, "a"]], [["a"], [1, "a", 2]]),
    "old prefix": ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "null"}], "additionalItems": {"type": "string"}}, [[None, "a"], []], [[1], [None, 1]]),
    "contains": ({"contains": {"const": 1}, "minContains": 2, "maxContains": 3}, [[1, 1], [1, 0, 1, "x", 1]], [[1], [], [1, 1, 1, 1]]),
    "not contains": ({"type": "array", "not": {"contains": {"const": 1}}}, [[], [2]], [[1], [2, 1]]),
    "unique": ({"uniqueItems": True, "items": {"enum": ["a", "b", 1]}}, [[], ["a", 1, "b"]], [["a", "a"], [1, 1.0]]),
    "unique range": ({"uniqueItems": True, "items": {"type": "integer", "minimum": 1, "maximum": 4}}, [[4, 2, 1, 3]], [[1, 2, 1], [5]]),
    "required": ({"required": ["a"], "properties": {"b": {}, "a": {"type": "null"}}}, [{"a": None}, {"b": 1, "a": None}, {"a": None, "z": 1}, 1], [{}, {"b": 1}, {"a": 1}]),
    "closed": ({"properties": {"a": {}, "b": {}}, "additionalProperties": False}, [{}, {"a": 1, "b": 2}, {"b": 1}], [{"c": 1}]),
    "additional": ({"properties": {"a": {}}, "additionalProperties": {"type": "integer"}}, [{"a": "x", "b": 1, "c": 2}], [{"b": "x"}]),
    "patterns": ({"patternProperties": {"^x": {"type": "integer"}, "y$": {"minimum": 5}}, "additionalProperties": False}, [{"x": 1}, {"xy": 5}, {"ay": "s"}], [{"xy": 4}, {"b": 1}, {"x": "s"}, {"xy": "s"}]),
    "names": ({"propertyNames": {"maxLength": 2, "pattern": "^a"}}, [{"a": 1, "ab": 2}, {}], [{"abc": 1}, {"b": 1}]),
    "sizes": ({"minProperties": 1, "maxProperties": 2, "properties": {"a": {}, "b": {}}}, [{"a": 1}, {"b": 1, "z": 2}], [{}, {"a": 1, "b": 2, "c": 3}]),
    "dependent": ({"dependentRequired": {"a": ["b"]}, "properties": {"a": {}, "b": {}}}, [{"b": 1}, {"a": 1, "b": 2}, {}], [{"a": 1}, {"a": 1, "c": 1}]),
    "dependencies": ({"$schema": "http://json-schema.org/draft-07/schema#", "dependencies": {"a": {"required": ["b"]}, "c": ["d"]}}, [{"a": 1, "b": 1}, {"c": 1, "d": 1}, {}], [{"a": 1}, {"c": 1}]),
    "all of": ({"allOf": [{"properties": {"a": {"minimum": 1}}}, {"properties": {"a": {"maximum": 3}}, "required": ["a"]}]}, [{"a": 2}, 1], [{"a": 0}, {"a": 4}, {}]),
    "any of": ({"type": "object", "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}, [{"a": 1}, {"b": 1}, {"a": 1, "b": 1}], [{}, {"c": 1}]),
    "one of": ({"type": "object", "oneOf": [{"required": ["a"]}, {"required": ["b"]}, {"required": ["c"]}]}, [{"a": 1}, {"b": 1, "x": 1}], [{}, {"a": 1, "b": 1}, {"a": 1, "b": 2, "c": 3}]),
    "one of numbers": ({"oneOf": [{"type": "integer", "multipleOf": 2}, {"type": "integer", "multipleOf": 3}]}, [2, 3, 9, 10], [6, 12, 1, 0]),
    "one of strings": ({"type": "string", "oneOf": [{"pattern": "^a"}, {"maxLength": 2}]}, ["abc", "b", ""], ["a", "ab", "bcd"]),
    "discriminated": ({"oneOf": [{"properties": {"k": {"const": "x"}, "v": {"type": "integer"}}, "required": ["k"]}, {"properties": {"k": {"enum": ["y", "z"]}, "v": {"type": "string"}}, "required": ["k"]}]}, [{"k": "x", "v": 1}, {"k": "z", "v": "a"}], [{"k": "x", "v": "a"}, {"v": 1}, {"k": "q"}]),
    "not": ({"not": {"type": "object", "required": ["a"]}}, [1, {}, {"b": 1}], [{"a": 1}]),
    "not properties": ({"type": "object", "not": {"properties": {"a": {"type": "integer"}}, "additionalProperties": False}}, [{"a": "x"}, {"b": 1}], [{}, {"a": 1}]),
    "two bad names in one": ({"type": "object", "allOf": [{"not": {"propertyNames": {"pattern": "^a"}}}, {"not": {"propertyNames": {"maxLength": 1}}}]}, [{"bb": 1}, {"ab": 1, "b": 2}], [{"a": 1}, {"b": 1}, {"ab": 1}, {}]),
    "one of constants": ({"oneOf": [*({"const": i} for i in range(40)), {"enum": [3, "x"]}, {"type": "string"}]}, [0, 39, "y"], [3, "x", 40, True]),
    "if": ({"type": "object", "if": {"properties": {"k": {"const": 1}}, "required": ["k"]}, "then": {"required": ["a"]}, "else": {"required": ["b"]}, "properties": {"k": {}, "a": {}, "b": {}}}, [{"k": 1, "a": 1}, {"k": 2, "b": 1}, {"b": 1}], [{"k": 1, "b": 1}, {"k": 2, "a": 1}, {}]),
    "recursion": ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"v": {"type": "integer"}, "n": {"$ref": "#/$defs/n"}}, "required": ["v"], "additionalProperties": False}}}, [{"v": 1}, {"v": 1, "n": {"v": 2, "n": {"v": 3}}}], [{"v": 1, "n": {}}, {"n": {"v": 1}}]),
    "anchors": ({"$id": "http://x/y", "properties": {"a": {"$ref": "#it"}, "b": {"$ref": "other"}}, "$defs": {"q": {"$anchor": "it", "type": "null"}, "o": {"$id": "other", "type": "integer"}}}, [{"a": None, "b": 1}], [{"a": 1}, {"b": None}]),
    "siblings of $ref": ({"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"a": {"type": "integer"}}, "$ref": "#/definitions/a", "minimum": 5}, [1], ["x"]),
    "unevaluated": ({"type": "object", "properties": {"a": {}}, "anyOf": [{"properties": {"b": {"type": "integer"}}, "required": ["b"]}, {"properties": {"c": {}}, "required": ["c"]}], "unevaluatedProperties": False}, [{"a": 1, "b": 1}, {"b": 1, "c": 1}], [{"a": 1}, {"b": 1, "d": 1}]),
    "unevaluated items": ({"prefixItems": [{"type": "integer"}], "contains": {"type": "null"}, "unevaluatedItems": {"type": "string"}}, [[1, None, "a"], [1, None]], [[1, None, 2]]),
    "dynamic": ({"$id": "http://x/tree", "$dynamicAnchor": "node", "type": "object", "properties": {"kids": {"type": "array", "items": {"$dynamicRef": "#node"}}}, "additionalProperties": False}, [{"kids": [{"kids": []}]}], [{"kids": [1]}]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("order", ["declared", "any"])
def test_keywords(name: str, order: Any) -> None:
    schema, valid, invalid = CASES[name]
    grammar = JSONSchema(schema, property_order=order, integers="any").grammar()
    assert [value for value in valid if not accepts(grammar, compact(value))] == []
    assert [value for value in invalid if accepts(grammar, compact(value))] == []


@pytest.mark.parametrize("schema", [{"type": "integer"}, {"type": "integer", "minimum": 2}, {"enum": [2, 30]},
                                    {"type": "integer", "enum": [2.0, 30.0]}, {"anyOf": [{"const": 2.0}, {"const": 3e1}]}])  # fmt: skip
def test_integers_are_plain_unless_asked_otherwise(schema: Any) -> None:
    plain, either = JSONSchema(schema).grammar(), JSONSchema(schema, integers="any").grammar()
    assert [text for text in ("2", "30", "2.0", "30.0") if accepts(plain, text)] == ["2", "30"]
    assert [text for text in ("2", "30", "2.0", "30.0", "2.5") if accepts(either, text)] == ["2", "30", "2.0", "30.0"]


REFUSED: dict[str, tuple[Any, type[FormError], str]] = {
    "unique strings": ({"properties": {"a": {"uniqueItems": True, "items": {"type": "string"}}}}, UnsupportedSchema, "/properties/a/uniqueItems"),
    "back-reference": ({"items": {"pattern": r"(a)\1"}}, UnsupportedSchema, "/items/pattern"),
    "remote": ({"properties": {"a~/b": {"$ref": "http://example.com/x.json"}}}, UnsupportedSchema, "/properties/a~0~1b/$ref"),
    "dangling": ({"$ref": "#/$defs/nothing"}, SchemaError, "/$ref"),
    "loop": ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, SchemaError, "without reading anything"),
    "endless": ({"properties": {"a": {"$ref": "#"}}, "required": ["a"], "type": "object"}, SchemaError, "no value fulfils"),
    "impossible": ({"type": "string", "enum": [1]}, SchemaError, "no value fulfils"),
    "unknown type": ({"type": "text"}, SchemaError, "/type"),
    "not a schema": ({"properties": {"a": 1}}, SchemaError, "/properties/a"),
    "bad bound": ({"items": {"minimum": "1"}}, SchemaError, "/items/minimum"),
    "lone surrogate": ({"enum": ["\ud800"]}, SchemaError, "surrogate"),
    "deep": (json.loads('{"items":' * 400 + "{}" + "}" * 400), LimitError, "nested"),
    "text": ("{", SchemaError, "not JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refuses_by_pointer(name: str) -> None:
    schema, error, where = REFUSED[name]
    with pytest.raises(error, match=where.replace("$", r"\$")):
        JSONSchema(schema).grammar()


def test_unsupported_can_be_left_out_and_is_reported() -> None:
    spec = JSONSchema({"uniqueItems": True, "items": {"type": "integer"}}, on_unsupported="ignore")
    assert accepts(spec.grammar(), "[1,1]")
    assert [problem.pointer for problem in spec.unsupported()] == ["/uniqueItems"]


def test_declared_order_is_kept() -> None:
    schema = {"properties": {"b": {}, "a": {}}, "required": ["a"]}
    declared, any_order = JSONSchema(schema).grammar(), JSONSchema(schema, property_order="any").grammar()
    texts = ['{"b":1,"a":2,"c":3}', '{"a":2,"b":1}', '{"c":3,"a":2,"b":1}']
    assert [accepts(declared, text) for text in texts] == [True, False, False]
    assert [accepts(any_order, text) for text in texts] == [True, True, True]


@pytest.mark.parametrize(
    ("white_space", "accepted", "rejected"),
    [
        ("compact", ['{"a":[1,2]}'], ['{"a": [1,2]}']),
        ("spaced", ['{"a": [1, 2]}'], ['{"a":[1, 2]}', '{"a": [1,2]}']),
        (
            "flexible",
            ['{"a":[1,2]}', ' {"a":[1,2]}', '{"a":[1,2]}\n', '{\n  "a" : [ 1\n,2 ]\n}'],
            ['{"a":[1,2],}', '{"a":' + " " * 21 + "[1,2]}"],
        ),
    ],
)
def test_white_space(white_space: Any, accepted: list[str], rejected: list[str]) -> None:
    schema = {"properties": {"a": {"items": {"type": "integer"}}}, "required": ["a"]}
    grammar = JSONSchema(schema, white_space=white_space).grammar()
    assert [accepts(grammar, text) for text in accepted] == [True] * len(accepted)
    assert [accepts(grammar, text) for text in rejected] == [False] * len(rejected)


def test_escapes_count_as_one_character_and_lone_surrogates_are_none() -> None:
    grammar = JSONSchema({"type": "string", "maxLength": 2}).grammar()
    assert [accepts(grammar, text) for text in ['"\\u0041\\n"', '"\\ud83d\\ude00x"', '"\\/"']] == [True] * 3
    assert [accepts(grammar, text) for text in ['"\\ud83d"', '"\\ude00"', '"\\u0041bc"', '"\n"', '"\\x"']] == [
        False
    ] * 5


def test_excluded_names_cannot_be_spelled_otherwise() -> None:
    grammar = JSONSchema({"properties": {"a": False}}).grammar()
    assert not accepts(grammar, '{"\\u0061":1}')
    assert accepts(grammar, '{"b":1}')


def test_large_and_hostile_schemas_answer_in_bounded_time() -> None:
    chain: dict[str, Any] = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(100)}
    chain["d100"] = {"type": "integer"}
    assert accepts(JSONSchema({"$ref": "#/$defs/d0", "$defs": chain}).grammar(), "5")
    wide = {"properties": {f"name{i}": {"type": "integer", "description": "x" * 100} for i in range(4_000)}}
    assert accepts(JSONSchema(wide).grammar(), '{"name7":1}')
    with pytest.raises(LimitError):
        JSONSchema({"allOf": [{"anyOf": [{"required": [f"{i}{j}"]} for j in range(9)]} for i in range(9)]}).grammar()
    assert accepts(JSONSchema({"enum": ["a\x00b"], "title": "\x00"}).grammar(), '"a\\u0000b"')


def test_references_to_other_documents_that_came_along() -> None:
    resources = {
        "https://example.com/parts.json": {
            "$defs": {"count": {"$anchor": "n", "type": "integer"}, "list": {"items": {"$ref": "#n"}}},
        },
        "https://example.com/tree.json": {
            "$dynamicAnchor": "node",
            "properties": {"kids": {"type": "array", "items": {"$dynamicRef": "#node"}}},
        },
    }
    schema = {
        "$id": "https://example.com/all.json",
        "$dynamicAnchor": "node",
        "properties": {"n": {"$ref": "parts.json#n"}, "l": {"$ref": "parts.json#/$defs/list"}},
        "$ref": "tree.json",
        "unevaluatedProperties": False,
    }
    grammar = JSONSchema(schema, resources=resources, property_order="any").grammar()
    for value in ({"n": 1, "l": [1, 2]}, {"kids": [{"n": 1}, {"kids": []}]}):
        assert accepts(grammar, compact(value)), value
    for value in ({"n": "1"}, {"l": ["x"]}, {"x": 1}, {"kids": [{"x": 1}]}, {"kids": [{"kids": [{"n": "x"}]}]}):
        assert not accepts(grammar, compact(value)), value
    with pytest.raises(UnsupportedSchema, match="resources"):
        JSONSchema(schema).grammar()


@pytest.mark.parametrize(
    "facts",
    [
        {"pattern": r"^\S+\s\S+$", "allOf": [{"format": "hostname"}]},
        {"pattern": "^[a-z]{2,900}$", "allOf": [{"pattern": "^[a-z]{1,800}[0-9]{3,700}$"}]},
        {"pattern": r"\s", "maxLength": 250, "allOf": [{"format": "hostname"}]},
    ],
)
def test_what_no_long_text_fulfils_is_found_when_compiling(facts: Any) -> None:
    with pytest.raises(SchemaError, match="no value fulfils"):
        JSONSchema({"type": "string", **facts}).grammar()


@pytest.mark.parametrize(
    ("schema", "longest", "too_long"),
    [
        ({"type": "integer"}, "9" * 32, "9" * 33),
        ({"type": "number"}, "-" + "9" * 32 + "." + "0" * 32, "0." + "0" * 33),
        ({"type": "number", "minimum": 0.25, "maximum": 10}, "1." + "5" * 30, "1." + "5" * 40),
        ({"type": "integer", "multipleOf": 7}, "7" * 48, "7" * 96),
        ({"type": "number", "exclusiveMinimum": 1e40}, "2" + "0" * 40, "2" + "0" * 80),
        ({"type": "integer", "minimum": 10**60, "multipleOf": 7}, "7" * 66, "7" * 168),
    ],
)
def test_digits_come_to_an_end(schema: Any, longest: str, too_long: str) -> None:
    grammar = JSONSchema(schema).grammar()
    assert (accepts(grammar, longest), accepts(grammar, too_long)) == (True, False)
    assert accepts(JSONSchema(schema, maximum_digits=200).grammar(), too_long)

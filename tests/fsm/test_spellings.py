"""What a schema excludes is excluded in every spelling that JSON has for it, and what a draft does not assert is not
taken for a violation."""

from __future__ import annotations

import itertools
import json
from typing import Any

import jsonschema_rs
import pytest

from stemma.fsm.automaton.automaton import Automaton
from stemma.fsm.errors import SchemaError
from stemma.fsm.json_schema import JSONSchema

SHORT = {"\b": "b", "\t": "t", "\n": "n", "\f": "f", "\r": "r", '"': '"', "\\": "\\", "/": "/"}
EXCLUDING: list[Any] = [
    {"type": "string", "not": {"pattern": "."}},
    {"type": "string", "not": {"pattern": r"^[\n\f]$"}},
    {"type": "string", "not": {"pattern": r"^\t"}},
    {"type": "string", "not": {"pattern": "[^a]"}},
    {"type": "string", "not": {"pattern": r"[^\x00-\x08]"}},
    {"type": "string", "not": {"enum": ["\t", "a", "\x1f", '"', "\\"]}},
    {"type": "string", "pattern": r"^(?!\f)"},
    {"type": "string", "minLength": 1, "maxLength": 1, "not": {"pattern": r"[\t-\r]"}},
    {"if": {"pattern": r"\s"}, "then": False},
]


def spellings(character: str) -> list[str]:
    """All that JSON has for a character of the basic plane."""
    code = ord(character)
    found = [f"\\u{code:04x}", f"\\u{code:04X}"]
    found += ["\\" + SHORT[character]] if character in SHORT else []
    return found + ([character] if code >= 0x20 and character not in '"\\' else [])


def accepts(automaton: Automaton, text: str) -> bool:
    config = automaton.step_bytes(automaton.start, text.encode())
    return config > 0 and automaton.is_accepting(config)


@pytest.mark.parametrize("schema", EXCLUDING, ids=json.dumps)
def test_no_spelling_passes_by_what_is_excluded(schema: Any) -> None:
    """Of a text and of a member's name; some spelling of what is allowed is accepted."""
    validator = jsonschema_rs.Draft202012Validator(schema)
    alone = Automaton(JSONSchema(schema).grammar())
    names = Automaton(JSONSchema({"type": "object", "propertyNames": schema}).grammar())
    for character in [*map(chr, range(0x30)), "a", "\\", "\x7f", "é", "\u2028"]:
        texts = [f'"{spelling}"' for spelling in spellings(character)]
        objects = [f"{{{text}:1}}" for text in texts]
        for automaton, written in ((alone, texts), (names, objects)):
            found = [accepts(automaton, text) for text in written]
            assert any(found) == validator.is_valid(character), (character, found)


@pytest.mark.parametrize("name", ["a", "\t", "é", "/", '"', "a\n", "\x1f", "a\x0b"])
def test_no_spelling_of_a_name_passes_by_its_property(name: str) -> None:
    schema = {"type": "object", "properties": {name: {"type": "integer"}}}
    automaton = Automaton(JSONSchema(schema).grammar())
    for spelled in itertools.product(*map(spellings, name)):
        assert not accepts(automaton, f'{{"{"".join(spelled)}":"no"}}'), spelled


OLD = "http://json-schema.org/draft-0{}/schema#"


@pytest.mark.parametrize(("draft", "name"), [(7, "uuid"), (7, "duration"), (6, "iri"), (4, "json-pointer")])
def test_an_older_draft_takes_no_text_for_a_violation_of_a_format_that_it_does_not_know(draft: int, name: str) -> None:
    branches = [{"type": "string", "maxLength": 80, "format": name}, {"type": "string"}]
    old = {"$schema": OLD.format(draft), "oneOf": [*branches, {"type": "null"}]}
    assert not jsonschema_rs.validator_for(old, validate_formats=True).is_valid("+")
    automaton = Automaton(JSONSchema(old).grammar())
    assert accepts(automaton, "null")
    assert not accepts(automaton, '"+"')
    assert accepts(Automaton(JSONSchema({"oneOf": branches}).grammar()), '"+"')


def test_draft_4_knows_no_integer_with_a_fraction() -> None:
    for draft, expected in ((4, False), (6, True)):
        schema = {"$schema": OLD.format(draft), "type": "array", "items": {"type": "integer"}}
        assert jsonschema_rs.validator_for(schema).is_valid([5.0]) == expected
        automaton = Automaton(JSONSchema(schema, integers="any").grammar())
        assert accepts(automaton, "[5.0]") == expected
        assert accepts(automaton, "[5]")


FEW = {"enum": [2, "a", None]}
DIFFERENT: dict[str, Any] = {"uniqueItems": True, "items": FEW}
OF_FEW: dict[str, Any] = {"type": "array", "items": FEW}
PAIRS: dict[str, Any] = {"prefixItems": [FEW, {"enum": [2, 3]}], "items": {"enum": [3, 4]}}
ALIKE: list[Any] = [
    {"not": {"type": "array", **DIFFERENT}},
    {**OF_FEW, "not": DIFFERENT},
    {**OF_FEW, "if": DIFFERENT, "then": {"maxItems": 2}, "else": {"minItems": 3}},
    {**OF_FEW, "maxItems": 4, "contains": {"const": 2}, "maxContains": 2, "not": DIFFERENT},
    {"type": "array", "maxItems": 3, "not": {"uniqueItems": True, "allOf": [{"items": FEW}]}},
    {"type": "array", "maxItems": 3, "not": {"uniqueItems": True, "maxItems": 1}},
    {"oneOf": [{"type": "array", "items": {"type": ["string", "null"]}}, {"type": "array", **DIFFERENT}]},
    {"type": "array", **PAIRS, "not": {"uniqueItems": True, **PAIRS}},
    {"enum": [[1, 1], [1, 2], 3], "not": {"uniqueItems": True, "items": {"enum": [1, 2]}}},
]


@pytest.mark.parametrize("schema", ALIKE, ids=json.dumps)
def test_items_of_few_values_may_be_asked_not_to_differ(schema: Any) -> None:
    validator = jsonschema_rs.Draft202012Validator(schema)
    automaton = Automaton(JSONSchema(schema, property_order="any").grammar())
    values: list[Any] = [3, "a", None]
    values += [list(items) for size in range(5) for items in itertools.product([1, 2, 3, 4, "a", None], repeat=size)]
    for value in values:
        text = json.dumps(value, separators=(",", ":"))
        assert accepts(automaton, text) == validator.is_valid(value), text


def test_items_that_all_differ_and_do_not_are_none() -> None:
    few = {"uniqueItems": True, "items": {"type": "boolean"}}
    with pytest.raises(SchemaError, match="no value fulfils"):
        JSONSchema({"type": "array", **few, "not": few}).grammar()

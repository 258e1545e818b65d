"""The linter's words: each keyword of a schema is enforced, refused, malformed or an annotation, and says where."""

from typing import Any

import pytest

from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.languages.lint import lint

SCHEMA: dict[str, Any] = {
    "$schema": "http://json-schema.org/draft-07/schema#",
    "title": "A person",
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1},
        "mail": {"type": "string", "format": "email", "maxLength": 50},
        "shoe": {"type": "string", "format": "shoe-size", "maxLength": 5},
        "tags": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
        "boss": {"$ref": "#/definitions/boss", "description": "not read", "type": "string"},
        "code": {"pattern": "(a)\\1"},
        "size": {"minimum": "3"},
    },
    "dependentRequired": {"name": ["mail"]},
    "definitions": {"boss": {"const": None}, "unused": {"pattern": "(a)\\1"}},
}


@pytest.mark.parametrize(
    ("pointer", "keyword", "status"),
    [
        ("", "title", "annotated"),
        ("", "type", "enforced"),
        ("", "dependentRequired", "annotated"),  # not of draft-07
        ("/properties/name", "minLength", "enforced"),
        ("/properties/mail", "format", "enforced"),
        ("/properties/shoe", "format", "annotated"),
        ("/properties/tags", "uniqueItems", "refused"),
        ("/properties/boss", "type", "annotated"),
        ("/properties/boss", "$ref", "enforced"),
        ("/properties/code", "pattern", "refused"),
        ("/properties/size", "minimum", "malformed"),
        ("/definitions/boss", "const", "enforced"),
    ],
)
def test_findings(pointer: str, keyword: str, status: str) -> None:
    found = {(finding.pointer, finding.keyword): finding.status for finding in lint(JSONSchema(SCHEMA)).findings}
    assert found[(pointer, keyword)] == status
    assert ("/definitions/unused", "pattern") not in found


def test_warnings_and_verdict() -> None:
    report = lint(JSONSchema(SCHEMA, white_space="flexible"))
    assert not report.is_supported
    assert {warning.pointer for warning in report.warnings} == {"", "/properties/name", "/properties/tags"}
    closed = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 3}}, "additionalProperties": False}
    report = lint(JSONSchema(closed))
    assert report.is_supported
    assert report.warnings == ()


def test_formats_may_be_annotations() -> None:
    report = lint(JSONSchema({"type": "string", "format": "date"}, formats="annotated"))
    assert {finding.keyword: finding.status for finding in report.findings}["format"] == "annotated"


def test_a_format_against_its_pattern_is_pointed_out() -> None:
    schema = {"properties": {"at": {"type": "string", "format": "time", "pattern": r"^\d\d:\d\d$"}}}
    assert [warning.pointer for warning in lint(JSONSchema(schema)).warnings if "counts" in warning.message] == [
        "/properties/at"
    ]

"""The languages that `x-stemma-format` names: just what lies between the bounds, and errors for what says nothing."""

from __future__ import annotations

import base64
import datetime as dt
from fractions import Fraction

import pytest

from stemma.fsm.errors import SchemaError
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.languages.typed import ranges, times
from stemma.fsm.languages.typed.language import typed_language
from stemma.fsm.syntax.ast import Node
from stemma.fsm.syntax.recogniser import Recogniser


def matches(language: Node, text: str) -> bool:
    return Recogniser().matches(language, text)


@pytest.mark.parametrize("bounds", [(-5, 17), (0, 100), (7, 1234), (-200, -30), (99, 1001), (5, 5), (6, 5)])
def test_whole_numbers_between_bounds(bounds: tuple[int, int]) -> None:
    language = ranges.whole(*bounds)
    accepted = [value for value in range(-300, 1300) if matches(language, str(value))]
    assert accepted == list(range(bounds[0], bounds[1] + 1))
    assert not matches(language, "-0")
    assert not matches(language, "007")


def test_decimals_between_bounds_one_of_them_strict() -> None:
    language = ranges.decimals(Fraction(-3, 2), Fraction("2.25"), (False, True), 2)
    for value in range(-400, 400):
        text = f"{value / 100:.2f}"
        assert matches(language, text) == (-150 <= value < 225), text


def test_dates_between_bounds() -> None:
    first, last = dt.date(2023, 11, 5), dt.date(2025, 3, 2)
    language = times.date(first, last)
    for day in range(0, 1096, 3):
        date = dt.date(2023, 1, 1) + dt.timedelta(day)
        assert matches(language, date.isoformat()) == (first <= date <= last), date
    assert matches(language, "2024-02-29")
    assert not matches(language, "2024-02-30")
    assert not matches(typed_language("python-date"), "0000-01-01")
    assert not matches(typed_language("python-date"), "1900-02-29")


def test_times_between_bounds() -> None:
    language = times.clock(dt.time(8, 30, 15), dt.time(17))
    for second in range(0, 86_400, 97):
        time = (dt.datetime(2000, 1, 1) + dt.timedelta(seconds=second)).time()
        assert matches(language, time.isoformat()) == (dt.time(8, 30, 15) <= time <= dt.time(17)), time
    assert matches(language, "16:59:59.999999")
    assert not matches(language, "17:00:00.1")
    assert not matches(language, "12:00:00.1234567")


@pytest.mark.parametrize("size", range(8))
def test_base64_of_so_many_bytes(size: int) -> None:
    said = base64.b64encode(bytes(range(200, 200 + size))).decode()
    assert matches(typed_language(f"python-base64;min={size};max={size}"), said)
    assert not matches(typed_language(f"python-base64;min={size + 1}"), said)


NAMES = [
    3,
    "date",
    "python-nothing",
    "python-date;ge=yesterday",
    "python-date;colour=red",
    "python-integer;ge=1e999999999",
    "python-decimal;ge=1e999999999;places=2",
    "python-decimal;ge=" + "9" * 3_000,
    "python-base64;min=" + "9" * 60,
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: str(name)[:40])
def test_a_name_that_says_nothing_is_an_error_with_its_place(name: object) -> None:
    with pytest.raises(SchemaError, match="/properties/a/x-stemma-format"):
        JSONSchema({"properties": {"a": {"type": "string", "x-stemma-format": name}}}).grammar()


def test_a_language_without_texts_is_no_value() -> None:
    with pytest.raises(SchemaError, match="no value"):
        JSONSchema({"type": "string", "x-stemma-format": "python-date;ge=2024-01-02;le=2024-01-01"}).grammar()


def test_json_in_a_text_is_spelled_as_a_text() -> None:
    grammar = JSONSchema({"type": "string", "x-stemma-content": {"enum": ['a"b', 1]}}).grammar()
    recogniser = Recogniser(grammar.rule)
    assert recogniser.matches(grammar.start, r'"\"a\\\"b\""')
    assert recogniser.matches(grammar.start, '"1"')
    assert not recogniser.matches(grammar.start, '"2"')


def test_a_dialect_is_one_of_three() -> None:
    schema = {"type": "string", "pattern": "^a$", "x-stemma-regex": "perl"}
    with pytest.raises(SchemaError, match="/x-stemma-regex"):
        JSONSchema(schema).grammar()

"""JSON values: equality as JSON Schema means it, and their compact text.

1 and 1.0 are one number, true is not 1, the order of keys is nothing.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable
from fractions import Fraction
from typing import Any

from stemma.fsm.errors import SchemaError

MAXIMUM_EXPONENT = 5_000
QUOTED = json.JSONEncoder(ensure_ascii=False).encode


def identity(value: Any) -> Hashable:
    """Equal for two JSON values exactly when JSON Schema takes them for equal."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return (value,)
    if isinstance(value, (int, float)):
        return exact(value, "")
    if isinstance(value, list):
        return ("list", *map(identity, value))
    if isinstance(value, dict):
        return ("dict", frozenset((key, identity(item)) for key, item in value.items()))
    return value  # type: ignore[no-any-return]


def exact(value: Any, pointer: str) -> Fraction:
    """A number as the decimal it is written as: 0.1 is a tenth."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SchemaError(f"must be a number, not {json.dumps(value)[:80]}", pointer)
    if isinstance(value, int):
        return Fraction(value)
    if value != value or value in (float("inf"), float("-inf")):
        raise SchemaError("must be a finite number", pointer)
    return Fraction(repr(value))


def distinct(values: Iterable[Any]) -> tuple[Any, ...]:
    """The values without repetition, in order."""
    backwards = list(values)[::-1]
    return tuple({identity(value): value for value in backwards}.values())[::-1]


def json_text(value: str) -> str:
    """A string as compact JSON writes it, with quotes."""
    return QUOTED(value)


def has_surrogate(value: str) -> bool:
    return not value.isascii() and any(0xD800 <= ord(character) <= 0xDFFF for character in value)

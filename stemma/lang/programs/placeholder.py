"""A value of a type, when nothing is known but the type: what a dry run works with. Nothing is validated."""

from __future__ import annotations

import dataclasses
import enum
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union

from pydantic import BaseModel

from stemma.lang.values.partial import constructed
from stemma.runtime.errors import InvalidRequest

SIMPLE: Mapping[Any, Any] = types.MappingProxyType(
    {int: 1, float: 1.0, bool: True, type(None): None, bytes: b"", None: None}
)

MAX_DEPTH = 8
"""Levels of nested types; a type that contains itself ends there with None or empty lists."""


def placeholder(form: Any, name: str, depth: int = 0) -> Any:
    """A value of this type; a text is the name in angle brackets. Raises InvalidRequest if there is no telling."""
    if depth > MAX_DEPTH:
        return None
    if form is str or form is Any or form is object:
        return f"⟨{name}⟩"
    if form in SIMPLE:
        return SIMPLE[form]
    origin, arguments = typing.get_origin(form), typing.get_args(form)
    if origin is typing.Annotated:
        return placeholder(arguments[0], name, depth)
    if origin is Literal:
        return arguments[0]
    if origin in (Union, types.UnionType):
        return placeholder(arguments[0] if depth < MAX_DEPTH // 2 else arguments[-1], name, depth + 1)
    if origin is not None:
        return _collection(origin, arguments, name, depth)
    if isinstance(form, type):
        return _instance(form, name, depth)
    raise InvalidRequest(f"nothing is known of {form!r}: give plan a value for {name}", name)


def _collection(origin: Any, arguments: tuple[Any, ...], name: str, depth: int) -> Any:
    if origin is tuple and arguments[-1:] != (Ellipsis,):
        return tuple(placeholder(each, f"{name}.{index}", depth + 1) for index, each in enumerate(arguments))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {}
    items = [placeholder(arguments[0], f"{name}.{index}", depth + 1) for index in range(2 if depth < 3 else 0)]
    if isinstance(origin, type) and issubclass(origin, set | frozenset | tuple):
        return origin(items)
    return items


def _instance(form: type, name: str, depth: int) -> Any:
    if issubclass(form, enum.Enum):
        return next(iter(form))
    if issubclass(form, BaseModel):
        fields = {key: field.annotation for key, field in form.model_fields.items()}
        return constructed(form, _fields(fields, name, depth))
    if dataclasses.is_dataclass(form):
        made = object.__new__(form)
        for key, value in _fields(typing.get_type_hints(form), name, depth).items():
            object.__setattr__(made, key, value)
        return made
    if typing.is_typeddict(form):
        return _fields(typing.get_type_hints(form), name, depth)
    if issubclass(form, Mapping):
        return {}
    if issubclass(form, Sequence):
        return []
    raise InvalidRequest(f"nothing is known of {form.__name__}: give plan a value for {name}", name)


def _fields(hints: Mapping[str, Any], name: str, depth: int) -> dict[str, Any]:
    return {key: placeholder(hint, f"{name}.{key}", depth + 1) for key, hint in hints.items()}

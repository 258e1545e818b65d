"""Whether JSON is what another API's package says an answer is: a walk over the types that its client reads it into.

    assert faults(answer, openai.types.chat.ChatCompletion, ADDED) == []

Stricter than those clients, which take what comes: no field is missing that must be there, none is of another type
(a number in quotes, true for 1), every enum's value is known, and no field is there that the type does not have but
those that are named as added.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import typing_extensions
from pydantic import BaseModel
from pydantic.fields import FieldInfo

PLAIN: Mapping[Any, tuple[type, ...]] = {str: (str,), bool: (bool,), int: (int,), float: (int, float)}
UNIONS = (typing.Union, types.UnionType)
LISTS = (list, Sequence, Iterable)
MAPPINGS = (dict, Mapping)

Added = Mapping[str, Iterable[str]]
"""Fields of our own by the name of the type that they are added to."""


class Field(NamedTuple):
    """A field as it is called in JSON."""

    kind: Any
    is_required: bool


def faults(value: Any, kind: Any, added: Added = types.MappingProxyType({}), at: str = "$") -> list[str]:
    """What is wrong with JSON values that a client reads as `kind`, by their places in it; nothing, if all is well."""
    return list(_faults(value, kind, added, at))


def _faults(value: Any, kind: Any, added: Added, at: str) -> Iterator[str]:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, typing_extensions.TypeAliasType):
        yield from _faults(value, kind.__value__, added, at)
    elif origin in (typing.Annotated, typing.Required, typing.NotRequired, typing_extensions.Required):
        yield from _faults(value, arguments[0], added, at)
    elif kind in (Any, object) or isinstance(kind, typing.TypeVar):
        return
    elif origin in UNIONS:
        yield from _nearest(value, arguments, added, at)
    elif origin in (typing.Literal, typing_extensions.Literal):
        if not any(value == known and type(value) is type(known) for known in arguments):
            yield f"{at}: {value!r} is none of {', '.join(map(repr, arguments))}"
    elif kind in (None, type(None)):
        if value is not None:
            yield f"{at}: {_told(value)} is not null"
    elif (origin or kind) in LISTS:
        yield from _list_faults(value, arguments, added, at)
    elif (origin or kind) in MAPPINGS:
        yield from _mapping_faults(value, arguments, added, at)
    elif isinstance(kind, type) and (issubclass(kind, BaseModel) or typing_extensions.is_typeddict(kind)):
        yield from _object_faults(value, kind, added, at)
    elif isinstance(origin, type) and issubclass(origin, BaseModel):
        yield from _object_faults(value, origin, added, at)
    else:
        yield from _plain_faults(value, kind, at)


def _plain_faults(value: Any, kind: Any, at: str) -> Iterator[str]:
    if kind is datetime:
        try:
            datetime.fromisoformat(value)
        except (TypeError, ValueError):
            yield f"{at}: {_told(value)} is no time"
        return
    assert kind in PLAIN, f"{kind!r} at {at}: shapes.py does not know such a type"
    if not isinstance(value, PLAIN[kind]) or (isinstance(value, bool) and kind is not bool):
        yield f"{at}: {_told(value)} is not of type {kind.__name__}"


def _nearest(value: Any, kinds: Sequence[Any], added: Added, at: str) -> list[str]:
    """The faults of the member of a union that has the fewest, among those that are meant if any is."""
    if value is None and type(None) in kinds:
        return []
    kinds = [kind for kind in kinds if kind is not type(None)]
    meant = [kind for kind in kinds if _is_meant(value, kind)] or kinds
    return min((faults(value, kind, added, at) for kind in meant), key=len)


def _is_meant(value: Any, kind: Any) -> bool:
    """Whether an object says by all its literal fields that it is of this type."""
    if not isinstance(value, dict) or not isinstance(kind, type):
        return False
    literals = {name: field.kind for name, field in _fields(kind) if typing.get_origin(field.kind) is typing.Literal}
    return bool(literals) and all(value.get(name) in typing.get_args(kind) for name, kind in literals.items())


def _list_faults(value: Any, arguments: Sequence[Any], added: Added, at: str) -> Iterator[str]:
    if not isinstance(value, list):
        yield f"{at}: {_told(value)} is no list"
        return
    for number, item in enumerate(value):
        yield from _faults(item, arguments[0] if arguments else Any, added, f"{at}[{number}]")


def _mapping_faults(value: Any, arguments: Sequence[Any], added: Added, at: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{at}: {_told(value)} is no object"
        return
    for name, item in value.items():
        yield from _faults(item, arguments[1] if arguments else Any, added, f"{at}.{name}")


def _object_faults(value: Any, kind: type, added: Added, at: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{at}: {_told(value)} is no {kind.__name__}"
        return
    fields = dict(_fields(kind))
    for name, field in fields.items():
        if name in value:
            yield from _faults(value[name], field.kind, added, f"{at}.{name}")
        elif field.is_required:
            yield f"{at}.{name} is missing, which a {kind.__name__} has"
    own = {name for base in kind.__mro__ for name in added.get(base.__name__, ())}
    for name in value.keys() - fields.keys() - own:
        yield f"{at}.{name} is not known of a {kind.__name__}"


def _fields(kind: type) -> Iterator[tuple[str, Field]]:
    """By their names in JSON."""
    if issubclass(kind, BaseModel):
        for name, info in kind.model_fields.items():
            yield _alias(name, info), Field(info.annotation, info.is_required())
    elif typing_extensions.is_typeddict(kind):
        for name, hint in typing_extensions.get_type_hints(kind, include_extras=True).items():
            origin = typing.get_origin(hint)  # asked first: where annotations are text, the type itself does not know
            yield name, Field(hint, origin is not typing.NotRequired and name in kind.__required_keys__)


def _alias(name: str, info: FieldInfo) -> str:
    return info.alias or name


def _told(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."

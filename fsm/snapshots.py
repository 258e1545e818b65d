"""What can be said of a JSON text that is still being written: its closed members, validated, and its open one.

Reads the text up to where it is; never guesses what follows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, get_args, get_origin

from pydantic import BaseModel, TypeAdapter
from pydantic_core import from_json
from typing_extensions import get_type_hints, is_typeddict

T = TypeVar("T")


@dataclass(frozen=True)
class Snapshot(Generic[T]):
    """A text so far. `closed`: complete members by name or index, validated; `open`: the one being written."""

    text: str
    value: T | None = None
    is_complete: bool = False
    closed: dict[str | int, Any] = field(default_factory=dict)
    open_name: str | int | None = None
    open: Any = None

    def get(self, name: str | int, default: Any = None) -> Any:
        """A member as far as it is known: closed ones validated, the open one raw or a snapshot of its own."""
        if name in self.closed:
            return self.closed[name]
        return self.open if name == self.open_name and name is not None else default


class Part(NamedTuple):
    """A member or an item of a container, from its first character on."""

    name: str | int
    text: str
    is_closed: bool


def snapshot(kind: Any, text: str) -> Snapshot[Any]:
    """`text` as the beginning of JSON for `kind`; raises `ValidationError` where a closed member is not valid."""
    stripped = text.strip()
    parts = list(container_parts(stripped))
    if stripped and is_whole(stripped):
        value = TypeAdapter(kind).validate_json(stripped)
        closed: dict[str | int, Any] = {part.name: _validated(kind, part) for part in parts}
        return Snapshot(text, value, True, closed)
    closed = {part.name: _validated(kind, part) for part in parts if part.is_closed}
    if not parts or parts[-1].is_closed:
        raw = None if stripped[:1] in ("{", "[", "") else from_json(stripped, allow_partial="trailing-strings")
        return Snapshot(text, None, False, closed, None, raw)
    last = parts[-1]
    member = member_type(kind, last.name)
    inner: Any = None
    if last.text[:1] in ("{", "["):
        inner = snapshot(member, last.text)
    elif last.text.startswith('"'):
        inner = from_json(last.text, allow_partial="trailing-strings")
    return Snapshot(text, None, False, closed, last.name, inner)


def _validated(kind: Any, part: Part) -> Any:
    return TypeAdapter(member_type(kind, part.name)).validate_json(part.text)


def member_type(kind: Any, name: str | int) -> Any:
    """The type of a member by its name in JSON, or of an item; `Any` where the type does not tell."""
    if get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if isinstance(name, int):
        arguments = get_args(kind)
        if get_origin(kind) is tuple and len(arguments) > name and Ellipsis not in arguments:
            return arguments[name]
        return arguments[0] if get_origin(kind) in (list, set, frozenset, tuple) and arguments else Any
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for field_name, info in kind.model_fields.items():
            if name in (field_name, info.alias, info.validation_alias):
                return Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
        return Any
    if dataclasses.is_dataclass(kind) or is_typeddict(kind):
        return get_type_hints(kind, include_extras=True).get(name, Any)
    return get_args(kind)[1] if get_origin(kind) is dict and len(get_args(kind)) == 2 else Any


def is_whole(text: str) -> bool:
    """Whether a JSON text is complete; a number never is while it could go on."""
    try:
        from_json(text)
    except ValueError:
        return False
    return text[-1] in '}]"el'  # true, false and null end in e or l


def container_parts(text: str) -> Iterator[Part]:
    """The members of an object or the items of an array, as far as they have been written."""
    if text[:1] not in ("{", "["):
        return
    is_object, name, index = text[0] == "{", None, 0
    at = _past_space(text, 1)
    while at < len(text) and text[at] not in "}]":
        if is_object:
            end = _value_end(text, at)
            if end is None or not text.startswith(":", colon := _past_space(text, end)):
                return
            name, at = str(from_json(text[at:end])), _past_space(text, colon + 1)
        end = _value_end(text, at)
        label = name if name is not None else index
        if end is None:
            if at < len(text):
                yield Part(label, text[at:], False)
            return
        following = _past_space(text, end)
        closed = following < len(text) or text[at] in '"{['
        yield Part(label, text[at:end], closed)
        if following >= len(text) or text[following] != ",":
            return
        at, index = _past_space(text, following + 1), index + 1


def _past_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _value_end(text: str, at: int) -> int | None:
    """Behind the value that starts at `at`, or None where it goes on beyond the text; a number ends where it is."""
    depth, in_string = 0, False
    start = at
    while at < len(text):
        character = text[at]
        if in_string:
            if character == "\\":
                at += 1
            elif character == '"':
                in_string = False
        elif character == '"':
            in_string = True
        elif character in "{[":
            depth += 1
        elif character in "}]":
            depth -= 1
        elif depth == 0 and character in ",: \t\r\n":
            return at
        if depth < 0:
            return at
        at += 1
        if depth == 0 and not in_string and text[start] in '"{[' and at <= len(text):
            return at
    if in_string or depth or at > len(text) or start >= len(text):
        return None
    word = text[start:]
    return at if word in ("true", "false", "null") else None

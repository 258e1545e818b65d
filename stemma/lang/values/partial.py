"""A value while it is being said: what is there of it, which parts of it are closed, and which is still open.

    {"name": "Ada", "tags": ["a", "b          closed: name, tags.0    open: tags.1

Closed parts are validated values of their types; of the open one there is what was said so far.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Generic, NamedTuple, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json

from stemma.lang.values.hearing import Heard
from stemma.lang.values.tools import Called
from stemma.runtime.engine.forms import Form

T_co = TypeVar("T_co", covariant=True)
Path = tuple[str | int, ...]


class Part(NamedTuple, Generic[T_co]):
    """A piece of an output under way.

    text: what was added. so_far: all of the text up to here.
    value: what is there of the value, fields that have not begun left out; None before its first piece. A text is
    the text so far; of a model there is an instance, whose closed fields are validated.
    open: the path of the innermost part that may still change, such as ("tags", 1); None if nothing may.
    thoughts: what was added to what the model thinks before it answers; such a part adds no text.
    called: in a chat with tools, a call that was made; nor does such a part.
    """

    text: str
    so_far: str
    value: T_co | None
    open: Path | None
    thoughts: str = ""
    called: Called | None = None

    def is_closed(self, *path: str | int) -> bool:
        """Whether the part of the value at this path is there and final."""
        if self.open is not None and self.open[: len(path)] == path:
            return False
        here: Any = self.value
        for key in path:
            try:
                here = here[key] if hasattr(here, "__getitem__") else getattr(here, str(key))
            except (LookupError, AttributeError):
                return False
        return True


@dataclass(slots=True)
class _Frame:
    """An object or a list that is not closed. key: of the member that was begun last. in_value: whether it is open."""

    is_list: bool
    key: str | int | None = None
    in_value: bool = False


@dataclass(slots=True)
class JSONScanner:
    """Follows JSON that is known to be right, and knows what is open in it."""

    frames: list[_Frame] = field(default_factory=list)
    is_done: bool = False
    _string: list[str] | None = None  # characters of the string that is being read
    _escaped: bool = False

    def feed(self, text: str) -> None:
        """More of the text."""
        for char in text:
            if self._string is not None:
                self._in_string(char)
            elif char == '"':
                self._string = []
                self._begin()
            elif char in "{[":
                self._begin()
                self.frames.append(_Frame(char == "["))
            elif char in "}]":
                self._end()
                self.frames.pop()
                self._end()
            elif char == ",":
                self._end()
                if not self.frames[-1].is_list:
                    self.frames[-1].key = None
            elif char not in ": \n\r\t":
                self._begin()

    @property
    def open(self) -> Path | None:
        """The path of what may still change; None if the whole value is there."""
        if self.is_done:
            return None
        return tuple(frame.key for frame in self.frames if frame.in_value and frame.key is not None)

    def _in_string(self, char: str) -> None:
        assert self._string is not None
        if self._escaped:
            self._escaped = False
            self._string.append(char)
        elif char == "\\":
            self._escaped = True
            self._string.append(char)
        elif char == '"':
            said, self._string = "".join(self._string), None
            frame = self.frames[-1] if self.frames else None
            if frame is not None and not frame.is_list and frame.key is None:
                frame.key = from_json(f'"{said}"')
            else:
                self._end()
        else:
            self._string.append(char)

    def _begin(self) -> None:
        """A value begins, or goes on (a number's next digit); in an object that awaits a name, that begins."""
        if not self.frames or self.frames[-1].in_value:
            return
        frame = self.frames[-1]
        if frame.is_list:
            frame.key = 0 if frame.key is None else typing.cast("int", frame.key) + 1
            frame.in_value = True
        elif frame.key is not None:
            frame.in_value = True

    def _end(self) -> None:
        """The innermost value is closed."""
        if self.frames:
            self.frames[-1].in_value = False
        else:
            self.is_done = True


class Parts:
    """Makes the parts of one output."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._scanner = JSONScanner()
        self._so_far = ""

    def add(self, text: str) -> Part[Any]:
        """The part that this text adds."""
        self._so_far += text
        if self._form.is_json:
            self._scanner.feed(text)
            return Part(text, self._so_far, self._json_value(), self._scanner.open)
        return Part(text, self._so_far, self._so_far if self._form.is_text else None, ())

    def heard(self, more: Heard) -> Iterator[Part[Any]]:
        """The parts of what was heard: thoughts, then words."""
        if more.thoughts:
            yield Part("", self._so_far, None, (), more.thoughts)
        if more.words:
            yield self.add(more.words)

    def called(self, made: Called) -> Part[Any]:
        """The part of a call. What is said behind it is another answer, from its beginning."""
        self._scanner, self._so_far = JSONScanner(), ""
        return Part("", "", None, (), called=made)

    def _json_value(self) -> Any:
        try:
            data = from_json(self._so_far, allow_partial="trailing-strings")
        except ValueError:  # nothing that can be read yet, such as a lone minus
            return None
        return built(self._form.type, data, self._scanner.open)


def built(form: Any, data: Any, open_path: Path | None) -> Any:
    """`data` as a value of `form` as far as it is closed; all of it, if nothing is open."""
    if open_path is None:
        return _validated(form, data)
    origin, arguments = typing.get_origin(form), typing.get_args(form)
    if origin is typing.Annotated:
        return built(arguments[0], data, open_path)
    if origin is list and isinstance(data, list):
        return [built(arguments[0], item, _below(open_path, index)) for index, item in enumerate(data)]
    if not isinstance(data, dict) or not isinstance(form, type):
        return data
    if issubclass(form, BaseModel):
        names = {field.alias or name: (name, field.annotation) for name, field in form.model_fields.items()}
        known = {names[key][0]: (names[key][1], key) for key in data if key in names}
        return constructed(form, _members(known, data, open_path))
    if dataclasses.is_dataclass(form):
        made = object.__new__(form)
        hints = typing.get_type_hints(form, include_extras=True)
        for name, value in _members({key: (hints[key], key) for key in data if key in hints}, data, open_path).items():
            object.__setattr__(made, name, value)
        return made
    if typing.is_typeddict(form):
        hints = typing.get_type_hints(form, include_extras=True)
        return _members({key: (hints[key], key) for key in data if key in hints}, data, open_path)
    return data


def constructed(form: type[BaseModel], values: dict[str, Any]) -> BaseModel:
    """A model with these values unchecked, also where a field is called as the class is in `model_construct`."""
    made = form.model_construct(**{name: value for name, value in values.items() if name != "cls"})
    if "cls" in values:
        made.__dict__["cls"] = values["cls"]
        made.model_fields_set.add("cls")
    return made


def _members(known: Mapping[str, tuple[Any, str]], data: dict[str, Any], open_path: Path) -> dict[str, Any]:
    return {name: built(form, data[key], _below(open_path, key)) for name, (form, key) in known.items()}


def _below(open_path: Path, key: str | int) -> Path | None:
    """What is open inside the member `key`; None if that is closed."""
    return open_path[1:] if open_path and open_path[0] == key else None


def _validated(form: Any, data: Any) -> Any:
    """The value; where the type has a validator that says no, the data as they are: the end of the output tells."""
    try:
        return _adapter(form).validate_python(data)
    except (ValidationError, TypeError):
        return data


@lru_cache(maxsize=256)
def _adapter(form: Any) -> TypeAdapter[Any]:
    return TypeAdapter(form)

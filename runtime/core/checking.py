"""Values from outside against the types that are written for them: the value, in plain Python, or InvalidRequest.

Numpy's numbers are numbers; True and False are none. A text is never read as a number, nor a number cut to fit. A value
may stand alone where a list of such values is meant.
"""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Mapping, Sequence, Set
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np

from stemma.runtime.errors import InvalidRequest

Reader = Callable[[Any], Any]


class _Unfit(Exception):
    """A value is not of the type."""


def checked(value: Any, kind: Any, param: str) -> Any:
    """The value as one of this type. Raises InvalidRequest, whose `param` is this one."""
    try:
        return _reader(kind)(value)
    except Exception as error:  # _Unfit, or whatever looking into an object of the caller's raises
        raise InvalidRequest(f"{param} must be {_name(kind)}; it is {describe(value)}", param) from error


def check_fields(made: Any) -> None:
    """Check the fields of a frozen dataclass under construction by their annotations, and put plain values in place."""
    for name, kind in _hints(made.__class__).items():
        given = getattr(made, name)
        value = checked(given, kind, name)
        if value is not given:
            object.__setattr__(made, name, value)


def check_function(value: object, param: str) -> None:
    """Raises InvalidRequest for what cannot be called."""
    if not callable(value):
        raise InvalidRequest(f"{param} must be a function; it is {describe(value)}", param)


def check_list(value: object, param: str) -> None:
    """Raises InvalidRequest for what is no list, tuple or array; what is in it is not looked at."""
    if isinstance(value, str | bytes) or not isinstance(value, Sequence | np.ndarray):
        raise InvalidRequest(f"{param} must be a list; it is {describe(value)}", param)


def is_whole(text: str) -> bool:
    """Whether a text has whole characters only, and no half of a surrogate pair, which UTF-8 cannot write."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def describe(value: Any) -> str:
    """What a value is, for a message: short, and whatever its own `repr` does."""
    try:
        return reprlib.repr(value)
    except Exception:  # such as an integer of more digits than Python prints
        return f"a value of type {type(value).__name__}"


@lru_cache
def _hints(owner: Any) -> dict[str, Any]:
    return get_type_hints(owner)


@lru_cache
def _reader(kind: Any) -> Reader:
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return _any_of([_reader(each) for each in args])
    if origin is Literal:
        return _one_of(args)
    if origin is Mapping:
        return _mapping(_reader(args[0]), _reader(args[1]))
    if origin is Sequence:
        return _many(args[0], _reader(args[0]), list)
    if origin is tuple:
        return _many(args[0], _reader(args[0]), tuple)
    return _instance(kind)


def _bool(value: Any) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise _Unfit
    return bool(value)


def _int(value: Any) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool):
        raise _Unfit
    return int(value)


def _float(value: Any) -> float:
    if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
        raise _Unfit
    try:
        return float(value)
    except OverflowError:
        raise _Unfit from None


def _str(value: Any) -> str:
    if not isinstance(value, str) or not is_whole(value):
        raise _Unfit
    return str.__str__(value)


def _path(value: Any) -> Path:
    if not isinstance(value, str | os.PathLike):
        raise _Unfit
    return Path(value)


def _none(value: Any) -> None:
    if value is not None:
        raise _Unfit


_PLAIN: Mapping[Any, Reader] = MappingProxyType(
    {bool: _bool, int: _int, float: _float, str: _str, Path: _path, NoneType: _none}
)


def _any_of(readers: Sequence[Reader]) -> Reader:
    def read(value: Any) -> Any:
        for reader in readers:
            try:
                return reader(value)
            except _Unfit:
                continue
        raise _Unfit

    return read


def _one_of(values: tuple[Any, ...]) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, str) or value not in values:
            raise _Unfit
        return _str(value)

    return read


def _mapping(key: Reader, item: Reader) -> Reader:
    def read(value: Any) -> dict[Any, Any]:
        if not isinstance(value, Mapping):
            raise _Unfit
        return {key(each): item(value[each]) for each in value}

    return read


def _many(kind: Any, item: Reader, made: Callable[[list[Any]], Any]) -> Reader:
    def read(value: Any) -> Any:
        if isinstance(value, str | int | np.integer):
            return made([item(value)])
        if isinstance(value, bytes | bytearray) or not isinstance(value, Sequence | Set | np.ndarray):
            raise _Unfit
        return made([item(each) for each in value])

    return read


def _instance(kind: Any) -> Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, kind):
            raise _Unfit
        return value

    return read


_NAMES: Mapping[Any, str] = MappingProxyType(
    {
        bool: "True or False",
        int: "a whole number",
        float: "a number",
        str: "a text of whole characters",
        Path: "a path",
        NoneType: "None",
    }
)


def _name(kind: Any) -> str:
    """What a type is called in a message."""
    if kind in _NAMES:
        return _NAMES[kind]
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(_name(each) for each in args)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, args))
    if origin is Mapping:
        return f"a mapping, each key {_name(args[0])} and each value {_name(args[1])}"
    if origin in (Sequence, tuple):
        return f"a list, each of which is {_name(args[0])}"
    return f"a {kind.__name__}"

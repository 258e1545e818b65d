"""Bytes of a body to a typed request. Whatever is wrong with them is a 400 that names the field.

Fields that a struct does not have go by the policy of `stemma.server.wire.fields`. They are found by comparing what
came with what was made of it, so unions need no second reading.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from stemma.server.http.errors import ApiError, bad_request
from stemma.server.wire.fields import Only, Taken, Wire, rules_of

T = TypeVar("T")
PATH = re.compile(r" - at `([^`]*)`$")
MISSING_FIELD = re.compile(r"^Object missing required field `([^`]*)`")
INDEX = re.compile(r"\[\d+\]")


@dataclass(slots=True)
class BodyReader:
    """Reads one body, and remembers what had no effect.

    is_strict: a field that nobody knows is an error. unused: the names of fields that were taken and have no effect,
    each once, in the order in which they came.
    """

    is_strict: bool = False
    unused: dict[str, None] = field(default_factory=dict)

    def decode(self, body: bytes, kind: type[T]) -> T:
        """Raises ApiError."""
        try:
            value = msgspec.json.decode(body or b"{}")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise bad_request(f"the body is no JSON: {error}", None) from error
        except RecursionError as error:
            raise bad_request("the body's JSON is nested too deeply", None) from error
        return self.convert(value, kind)

    def convert(self, value: Any, kind: type[T], at: str = "") -> T:
        """JSON values as a type. at: where in the body they stand. Raises ApiError."""
        try:
            made = msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            raise _describe(str(error), at) from error
        except RecursionError as error:
            raise bad_request("the body's JSON is nested too deeply", None) from error
        self._compare(value, made, at)
        return made

    def _compare(self, value: Any, made: Any, at: str) -> None:
        """Look at all fields of what came that are not in what was made of it."""
        if isinstance(made, Wire):
            tag = made.__struct_config__.tag_field
            own = made.__struct_fields__
            for name, given in value.items():
                path = f"{at}.{name}" if at else name
                if name in own:
                    self._compare(given, getattr(made, name), path)
                elif name != tag and given is not None:
                    self._judge(type(made), name, given, path)
        elif isinstance(made, list) and made and not isinstance(made[0], int | float):
            for given, item in zip(value, made, strict=True):
                if isinstance(item, Wire):
                    self._compare(given, item, f"{at}[]")

    def _judge(self, kind: type[Wire], name: str, value: Any, path: str) -> None:
        rule = rules_of(kind).get(name)
        match rule:
            case Only(values, instead):
                if value not in values:
                    raise _refused(path, rule, instead)
            case Taken():
                self.unused[INDEX.sub("[]", path)] = None
            case None if self.is_strict:
                raise bad_request(f"{path} is not known; leave it out", path, "unknown_parameter")
            case None:
                self.unused[INDEX.sub("[]", path)] = None


def learn_types(kind: type[Wire] = Wire) -> None:
    """Have msgspec learn all types of requests now, in one thread.

    It learns a type when it first reads by it; another thread that reads by the same type meanwhile finds half of it,
    and the process dies. So that no two first requests meet, an application does this before it takes any.
    """
    for each in kind.__subclasses__():
        msgspec.json.Decoder(each)
        learn_types(each)


def _refused(path: str, rule: Only, instead: str) -> ApiError:
    values = " or ".join(msgspec.json.encode(value).decode() for value in rule.values)
    what = f"{path} may only be {values}" if values else f"{path} is not supported"
    return bad_request(f"{what}: {instead}", path, "unsupported_parameter")


def _describe(message: str, at: str) -> ApiError:
    place = PATH.search(message)
    path = place[1].removeprefix("$").removeprefix(".").replace("[...]", "[]") if place else ""
    path = ".".join(filter(None, (at, path))).replace(".[", "[")
    reason = message[: place.start()] if place else message
    if missing := MISSING_FIELD.match(reason):
        param = ".".join(filter(None, (path, missing[1])))
        return bad_request(f"{param} is missing", param, "missing_required_parameter")
    return bad_request(f"{path or 'the body'}: {reason}", path or None, "invalid_value")

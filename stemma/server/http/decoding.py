"""Bytes of a body to a typed request. Whatever is wrong with them is a 400 that names the field."""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec

from stemma.server.http.errors import bad_request

T = TypeVar("T")
PATH = re.compile(r" - at `([^`]*)`$")
UNKNOWN_FIELD = re.compile(r"^Object contains unknown field `([^`]*)`")
MISSING_FIELD = re.compile(r"^Object missing required field `([^`]*)`")


def decode(body: bytes, kind: type[T]) -> T:
    """Raises ApiError."""
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise _describe(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"the body is no JSON: {error}", None) from error
    except RecursionError as error:
        raise bad_request("the body's JSON is nested too deeply", None) from error


def _describe(message: str) -> Exception:
    place = PATH.search(message)
    path = place[1].removeprefix("$").removeprefix(".").replace("[...]", "[]") if place else ""
    reason = message[: place.start()] if place else message
    if unknown := UNKNOWN_FIELD.match(reason):
        param = ".".join(filter(None, (path, unknown[1])))
        return bad_request(f"{param} is not supported; leave it out", param, "unsupported_parameter")
    if missing := MISSING_FIELD.match(reason):
        param = ".".join(filter(None, (path, missing[1])))
        return bad_request(f"{param} is missing", param, "missing_required_parameter")
    return bad_request(f"{path or 'the body'}: {reason}", path or None, "invalid_value")

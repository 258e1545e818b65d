"""Functions that stand in the core schemas of pydantic's own types: what texts they take, or that no grammar knows.

Functions of users are not here: they are run on the whole output, and refuse it with InvalidOutput.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.types import Base64Encoder, Base64UrlEncoder

from stemma.fsm.errors import FormError
from stemma.fsm.languages.typed.constraints import function_of
from stemma.fsm.languages.typed.language import KEYWORD, named
from stemma.fsm.languages.typed.scalars import JSON

KINDS = frozenset(("function-after", "function-before", "function-wrap", "function-plain"))

A_PATH = "whether something lies at a path is not for a grammar to know; use pathlib.Path"
UNENFORCED = {
    "PathType.validate_file": A_PATH,
    "PathType.validate_directory": A_PATH,
    "PathType.validate_socket": A_PATH,
    "PathType.validate_new": A_PATH,
    "PaymentCardNumber.validate": "the check digit of a card's number is not enforced; use str with a pattern",
    "pattern_bytes_validator": "JSON has no bytes for a pattern; use re.Pattern[str]",
    "import_string": "what can be imported is not for a grammar to know; use a Literal of the names",
}
LANGUAGES = {
    "ipv4": "ipv4", "ipv6": "ipv6", "ipvanyaddress": "ip", "ipv4network": "ipv4-network",
    "ipv6network": "ipv6-network", "ipvanynetwork": "ip-network", "ipv4interface": "ipv4-interface",
    "ipv6interface": "ipv6-interface", "ipvanyinterface": "ip-interface", "email": "email", "name-email": "name-email",
    "regex": "regex", "color": "colour", "zoneinfo": "timezone",
}  # fmt: skip
"""Formats of pydantic's JSON schemas whose core schemas are a function, and the languages that the functions take."""


def name_of(function: object) -> str:
    """The name with that of its class; nothing for what has none, such as a partial function."""
    return str(getattr(function, "__qualname__", ""))


def known(core: Mapping[str, Any], bytes_as: str) -> JSON | None:
    """The schema of what one of pydantic's functions takes; None for any other function."""
    function = function_of(core)
    if not str(getattr(function, "__module__", "")).startswith("pydantic."):
        return None
    name = name_of(function)
    if name in UNENFORCED:
        raise FormError(UNENFORCED[name])
    if name == "ByteSize._validate":
        return {"type": "integer", "minimum": 0}
    if name in ("EncodedStr.decode_str", "EncodedBytes.decode"):
        return _encoded(function.__self__.encoder, core["schema"], bytes_as)  # type: ignore[attr-defined]
    return None


def _encoded(encoder: Any, inner: Mapping[str, Any], bytes_as: str) -> JSON | None:
    """Base64 with lengths of its own; None for a user's encoder."""
    formats = {Base64Encoder: "base64", Base64UrlEncoder: "base64url"}
    if encoder not in formats or inner["type"] not in ("str", "bytes"):
        return None
    if inner["type"] == "bytes" and bytes_as != "utf8":
        raise FormError(f"bytes that are encoded twice, in {formats[encoder]} and {bytes_as}, are not enforced")
    kind = formats[encoder] + ("-text" if inner["type"] == "str" else "")
    found: JSON = {"type": "string", "format": formats[encoder], KEYWORD: named(kind)}
    lengths = {"minLength": inner.get("min_length"), "maxLength": inner.get("max_length")}
    return found | {keyword: value for keyword, value in lengths.items() if value is not None}


def meant_by(schema: JSON) -> JSON:
    """A schema whose format names a type of Python, with the language of that type."""
    language = LANGUAGES.get(schema.get("format", ""))
    if schema.get("type") != "string" or language is None or KEYWORD in schema:
        return schema
    return {**schema, KEYWORD: named(language)}


def adds_constraint(step: Mapping[str, Any]) -> bool:
    """Whether a step of a chain is a constraint of texts that pydantic puts behind another type."""
    return step["type"] == "function-wrap" and name_of(function_of(step)).startswith("apply_known_metadata.")

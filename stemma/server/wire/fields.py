"""What becomes of the fields of a request that its struct does not have: one policy for every API.

null            is "not given", whoever's the field is
Taken           it cannot change the text: taken, and named in the answer's headers and in the log
Only            some values say what happens anyhow; any other would change the answer: 400, with what to do instead
nobody's        taken and named; a 400 where the server is strict
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import msgspec


@dataclass(frozen=True, slots=True)
class Taken:
    """A field that has no effect here, and whose value cannot change the text. why: for the table in the docs."""

    why: str


@dataclass(frozen=True, slots=True)
class Only:
    """A field of which only these values are taken: they say what happens anyhow. instead: what to do."""

    values: tuple[Any, ...]
    instead: str


Rule = Taken | Only


class Wire(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The base of what comes in. rules: of fields that are known, and that the struct does not have."""

    rules: ClassVar[Mapping[str, Rule]] = {}


class Refused(Wire):
    """A thing that clients know and no request may have here: wherever it stands, it is a 400. instead: what to do."""

    instead: ClassVar[str] = ""

    def __post_init__(self) -> None:
        raise ValueError(self.instead)


@cache
def rules_of(kind: type[Wire]) -> Mapping[str, Rule]:
    """The rules of a struct and of those that it is made of; its own count first."""
    merged: dict[str, Rule] = {}
    for base in reversed(kind.__mro__):
        merged |= base.__dict__.get("rules", {})
    return {name: rule for name, rule in merged.items() if name not in kind.__struct_fields__}

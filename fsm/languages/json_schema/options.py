"""How a schema becomes text: the order of keys, the white space, and what to do with what cannot be enforced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PropertyOrder = Literal["declared", "any"]
WhiteSpace = Literal["compact", "spaced", "flexible"]
IntegerText = Literal["plain", "any"]


@dataclass(frozen=True, slots=True)
class SchemaOptions:
    """`declared`: properties as declared, then all others; `any`: any order.

    `compact`: no white space; `spaced`: as `json.dumps` writes by default; `flexible`: up to `maximum_space`
    characters of white space wherever JSON allows it. `formats`: whether a known `format` is enforced or only noted.
    `plain`: integers have no fraction, as programs write and expect them; `any`: they may also end in `.0`.
    `maximum_digits`: how many digits of a number may run on before the point, and behind it, besides those by which
    its bounds are told apart, so that a small model comes to an end.
    """

    property_order: PropertyOrder = "declared"
    white_space: WhiteSpace = "compact"
    maximum_space: int = 20
    formats: Literal["enforced", "annotated"] = "enforced"
    integers: IntegerText = "plain"
    on_unsupported: Literal["refuse", "ignore"] = "refuse"
    maximum_digits: int = 32

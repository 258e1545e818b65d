"""Python types as forms: `form_of(T)` says which texts to generate and gives the validated `T` back.

pydantic models, dataclasses, TypedDicts, unions, lists and scalars become JSON; `str`, and a `Literal` or `Enum` of
strings, are generated bare, without quotes. What pydantic would refuse is never generated, or the type is refused with
a FormError: `typed/` asks pydantic's core schemas. Validators written in Python are run afterwards.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic, TypeVar, get_args, get_origin
from typing import Literal as OneOf

from pydantic import PydanticUserError, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

from stemma.fsm.errors import FormError
from stemma.fsm.languages.choices import Choices
from stemma.fsm.languages.json_schema import JSONSchema
from stemma.fsm.languages.structural_tags import FreeText
from stemma.fsm.languages.typed.schema import schema_of
from stemma.fsm.syntax.ast import Grammar, GrammarSpec

T = TypeVar("T")


@dataclass(frozen=True)
class Form(Generic[T]):
    """What to generate, and how its text becomes a value."""

    spec: GrammarSpec | Grammar
    validate: Callable[[str], T]
    """The value of a complete text; pydantic's `ValidationError` where a validator of the type's own refuses it."""

    def grammar(self) -> Grammar:
        return self.spec if isinstance(self.spec, Grammar) else self.spec.grammar()


def form_of(kind: Any) -> Form[Any]:
    """The form of a type, or of a grammar specification such as `Regex` (whose value is its text)."""
    if isinstance(kind, JSONSchema):
        return Form(kind, json.loads)
    if isinstance(kind, Grammar) or (hasattr(kind, "grammar") and not isinstance(kind, type)):
        return _bare(kind, str)
    if kind is str:
        return _bare(FreeText(), str)
    values = _bare_values(kind)
    if values is not None:
        return _bare(Choices(values), values.__getitem__)
    return _json(kind)


def _bare(spec: GrammarSpec | Grammar, value_of: Callable[[str], Any]) -> Form[Any]:
    return Form(spec, value_of)


def _bare_values(kind: Any) -> dict[str, Any] | None:
    """The values of a `Literal` or an `Enum` whose texts are all strings."""
    values: dict[Any, Any] | None = None
    if get_origin(kind) is OneOf:
        values = {value: value for value in get_args(kind)}
    elif isinstance(kind, type) and issubclass(kind, Enum):
        values = {member.value: member for member in kind}
    return values if values and all(type(text) is str or isinstance(text, str) for text in values) else None


def _json(kind: Any) -> Form[Any]:
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(kind)
        schema = schema_of(adapter)
    except (PydanticUserError, PydanticInvalidForJsonSchema, OverflowError) as error:
        raise FormError(f"{kind!r} has no JSON form: {error}") from error
    return Form(JSONSchema(schema), adapter.validate_json)

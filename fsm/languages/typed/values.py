"""Enums and Literals: which of their values JSON can say, found by asking pydantic to read each of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from pydantic import ValidationError
from pydantic_core import SchemaValidator, core_schema, to_jsonable_python

from stemma.fsm.errors import FormError
from stemma.fsm.languages.typed.scalars import JSON


def of_enum(core: Mapping[str, Any]) -> JSON:
    """What pydantic's schema of an Enum does not say. Raises FormError for a member that JSON cannot say."""
    own = {key: value for key, value in core.items() if key not in ("metadata", "serialization", "ref")}
    return _checked(own, core["members"])


def of_literal(core: Mapping[str, Any]) -> JSON:
    own = {"type": "literal", "expected": core["expected"]}
    return _checked(own, core["expected"])


def _checked(core: Any, members: Sequence[Any]) -> JSON:
    """Under `x-stemma-names`, the texts that stand for values as names of members, where they are no texts."""
    validator, of_names = SchemaValidator(core), SchemaValidator(core_schema.dict_schema(core))
    names = []
    values = [member.value if isinstance(member, Enum) else member for member in members]
    for member, value in zip(members, values, strict=True):
        jsonable = to_jsonable_python(value)
        if not _reads(validator, jsonable):
            raise FormError(f"{member!r} cannot be read from JSON")
        name = jsonable if isinstance(jsonable, str) else json.dumps(jsonable)
        if _reads(of_names, {name: None}):
            names.append(name)
    return {} if all(isinstance(value, str) for value in values) else {"x-stemma-names": names}


def _reads(validator: SchemaValidator, value: Any) -> bool:
    try:
        validator.validate_json(json.dumps(value))
    except (ValidationError, ValueError):
        return False
    return True

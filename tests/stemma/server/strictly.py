"""Answers held against the types of OpenAI's own package, as a strict reader would: pydantic checks what its client
does not, required fields and known values of enums."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, TypeAdapter


def strictly(kind: type[BaseModel] | TypeAdapter[Any], value: Any) -> Any:
    """The value as this type. Raises ValidationError where a field is missing or has another type."""
    adapter = kind if isinstance(kind, TypeAdapter) else TypeAdapter(kind)
    return adapter.validate_python(value)

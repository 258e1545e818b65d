"""Values as Python writes them, and back to JSON. What a model wrote is never run: only literals are read."""

from __future__ import annotations

import ast
import json
from typing import Any

CONSTANTS = {"true": True, "false": False, "null": None}


def python_text(value: Any) -> str:
    """A value as Python prints it."""
    return value if isinstance(value, str) else repr(value)


def as_json(raw: str, *, may_be_text: bool) -> str:
    """The JSON text of a value that is written as JSON or as Python's literal; else, it is a text."""
    try:
        value = json.loads(raw)
        return json.dumps(raw, ensure_ascii=False) if isinstance(value, str) and may_be_text else raw
    except (ValueError, RecursionError):
        pass
    try:
        value = literal(ast.parse(raw.strip(), mode="eval").body)
        return json.dumps(raw if isinstance(value, str) else value, ensure_ascii=False)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return json.dumps(raw, ensure_ascii=False)


def literal(node: ast.expr) -> Any:
    """The value of a literal, in which JSON's names for constants may stand. Raises ValueError for anything else."""
    match node:
        case ast.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [literal(item) for item in items]
        case ast.Dict(keys=keys, values=values) if all(keys):
            return {str(literal(key)): literal(value) for key, value in zip(keys, values, strict=True) if key}
        case _:
            return ast.literal_eval(node)

"""Values as Python writes them, and back to JSON. What a model wrote is never run: only literals are read."""

from __future__ import annotations

import ast as python
import json
from collections.abc import Iterable, Mapping
from typing import Any

from stemma.fsm.syntax import ast, characters
from stemma.fsm.syntax.nodes import both, choice, concat, repeat, text
from stemma.runtime.tongues.functions import resolved
from stemma.runtime.tongues.raw_text import raw_text

PLAIN = ast.Characters(characters.difference(characters.SCALARS, ((0, 31), (39, 39), (92, 92), (127, 127))))
UNQUOTED = ast.Characters(characters.difference(PLAIN.ranges, ((34, 34),)))
CHARACTER = choice([PLAIN, concat([text("\\"), choice(map(text, "\\'nt"))])])
LANGUAGE = frozenset(("pattern", "format", "minLength", "maxLength", "anyOf", "oneOf"))
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
        value = literal(python.parse(raw.strip(), mode="eval").body)
        return json.dumps(raw if isinstance(value, str) else value, ensure_ascii=False)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return json.dumps(raw, ensure_ascii=False)


def literal(node: python.expr) -> Any:
    """The value of a literal, in which JSON's names for constants may stand. Raises ValueError for anything else."""
    match node:
        case python.Name(id=name) if name in CONSTANTS:
            return CONSTANTS[name]
        case python.List(elts=items) | python.Tuple(elts=items):
            return [literal(item) for item in items]
        case python.Dict(keys=keys, values=values) if all(keys):
            return {str(literal(key)): literal(value) for key, value in zip(keys, values, strict=True) if key}
        case _:
            return python.literal_eval(node)


class PythonNotation:
    """Values as Python prints them, for grammars."""

    comma = ", "

    def key(self, name: str) -> str:
        return f"{name!r}: "

    def ordered(self, names: Iterable[str]) -> list[str]:
        return list(names)

    def literal(self, value: Any) -> ast.Node:
        return text(repr(value))

    def string(self, schema: Mapping[str, Any]) -> ast.Node:
        """With escapes; a text of a pattern, a format or a bound has none, so that it is what these speak of."""
        own = resolved(schema, schema)
        if not LANGUAGE.isdisjoint(own):
            return concat([text("'"), both(raw_text(schema), repeat(PLAIN, 0, None)), text("'")])
        rest = repeat(choice([UNQUOTED, concat([text("\\"), choice(map(text, "\\nt"))])]), 0, None)
        with_apostrophe = concat([text('"'), rest, text("'"), repeat(choice([rest, text("'")]), 0, None), text('"')])
        return choice([concat([text("'"), repeat(CHARACTER, 0, None), text("'")]), with_apostrophe])

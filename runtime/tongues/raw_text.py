"""A text argument as it stands between marks, without quotes and escapes: its language is that of the decoded text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stemma.fsm.errors import FormError
from stemma.fsm.languages.json_schema.formats import FORMATS, format_language
from stemma.fsm.languages.regex.regex import search_language
from stemma.fsm.syntax import ast
from stemma.fsm.syntax.nodes import both, choice, of_length, text
from stemma.runtime.tongues.functions import definitions, resolved, types_of
from stemma.runtime.tongues.marks import free_text


def raw_text(schema: Mapping[str, Any], *closers: str) -> ast.Node:
    """The texts of a schema in which none of the closers stands. Raises FormError where it allows none."""
    own = resolved(schema, schema)
    parts = own.get("anyOf", own.get("oneOf"))
    if parts and "type" not in own:
        texts = ({**part, **definitions(schema)} for part in parts if isinstance(part, Mapping))
        return choice(raw_text(part, *closers) for part in texts if "string" in types_of(part))
    values = [own["const"]] if "const" in own else own.get("enum")
    if values is not None:
        kept = [value for value in values if isinstance(value, str) and not any(each in value for each in closers)]
        if not kept:
            raise FormError("none of a text argument's values can stand in this model's calls: a mark is in each")
        return choice(map(text, kept))
    language = free_text(*closers)
    if "pattern" in own:
        language = both(language, search_language(own["pattern"]))
    if own.get("format") in FORMATS:
        language = both(language, format_language(own["format"]))
    return of_length(language, own.get("minLength", 0), own.get("maxLength"))

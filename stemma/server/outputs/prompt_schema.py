"""The JSON Schema that a chat tells its model in words.

Many clients ask for `json_object` and write the schema into a prompt (instructor's JSON mode, pydantic-ai's prompted
output, LangChain's and LlamaIndex' output parsers). What such a chat wants is an object of that schema, and it is still
"some JSON object". A schema counts only where the words before it demand that it be followed; the last one counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from stemma.server.prompts.tool_text import content_text
from stemma.server.wire.chat import Message

DEMAND = re.compile(
    r"(?:\b(?:match\w*|follow\w*|conform\w*|adher\w*|compl(?:y|ies)|compatible|according|output)\b[^{}]{0,80}?schema"
    r"|schema to follow)[^{}]{0,80}?(?=\{)",
    re.IGNORECASE,
)
MAX_CHARACTERS = 64 << 10
"""Characters of a message that is searched: a longer one is a document."""

MAX_PLACES = 8
"""Places of a message at which a schema is looked for."""


def prompt_schema(messages: Sequence[Message]) -> dict[str, Any] | None:
    """The schema of the last message that demands one, or None."""
    for message in reversed(messages):
        text = content_text(message.content)
        if message.role in ("system", "developer", "user") and len(text) <= MAX_CHARACTERS:
            places = [found.end() for found in DEMAND.finditer(text)][-MAX_PLACES:]
            schemas = (_schema_at(text, place) for place in reversed(places))
            if (schema := next(filter(None, schemas), None)) is not None:
                return schema
    return None


def _schema_at(text: str, place: int) -> dict[str, Any] | None:
    """The object schema that is written here, if one is."""
    try:
        value, _ = json.JSONDecoder().raw_decode(text, place)
    except (ValueError, RecursionError):
        return None
    declared = value.get("properties") if isinstance(value, dict) else None
    is_schema = isinstance(declared, dict) and all(isinstance(part, dict | bool) for part in declared.values())
    return value if is_schema and value.get("type", "object") == "object" else None

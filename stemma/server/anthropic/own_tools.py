"""Tools that Anthropic's models know by a type alone. Those that the caller runs are told to the model with a schema;
those that Anthropic runs, or whose results are pictures, cannot be had."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

VERSION = re.compile(r"_\d{8}$")


class OwnTool(NamedTuple):
    """What the model is told of it."""

    description: str
    schema: dict[str, Any]


def _schema(required: list[str], **properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _text(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


LINE = {
    "type": "integer",
    "minimum": 0,
    "description": "The line behind which the text is inserted; 0 is the beginning",
}
RANGE = {
    "type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2,
    "description": "The first and the last line to view; -1 is the end",
}  # fmt: skip

BASH = OwnTool(
    "Run a command in a bash session that goes on between calls, or restart the session",
    _schema([], command=_text("The command to run"), restart={"type": "boolean", "description": "Restart instead"}),
)


def _files(commands: list[str], what: str, **more: dict[str, Any]) -> OwnTool:
    properties = {
        "command": {"type": "string", "enum": commands, "description": "What to do"},
        "path": _text("Of the file or folder"),
        "file_text": _text("For create: the content of the file"),
        "old_str": _text("For str_replace: the text to replace, which is there once"),
        "new_str": _text("For str_replace: the text to put there"),
        "insert_line": LINE,
        "insert_text": _text("For insert: the text to insert"),
        "view_range": RANGE,
        **more,
    }
    return OwnTool(what, _schema(["command"] if more else ["command", "path"], **properties))


EDITING = ["view", "create", "str_replace", "insert"]
EDITOR = _files(EDITING, "View, create and edit files")
EDITOR_WITH_UNDO = _files([*EDITING, "undo_edit"], "View, create and edit files")
MEMORY = _files(
    [*EDITING, "delete", "rename"],
    "View, create and edit the files of a memory that is kept between conversations, below /memories",
    old_path=_text("For rename: where it is"),
    new_path=_text("For rename: where it shall be"),
)

RUN_BY_CALLER = {"bash": BASH, "memory": MEMORY}
PICTURES = ("computer", "computer_toolset", "browser_toolset")
RUN_BY_ANTHROPIC = ("web_search", "web_fetch", "code_execution", "advisor", "mcp_toolset", "tool_search_tool")


def own_tool(kind: str) -> OwnTool:
    """The tool of a type. Raises ValueError for one that cannot be had here."""
    family = VERSION.sub("", kind)
    if family == "text_editor":
        return EDITOR if kind >= "text_editor_20250429" else EDITOR_WITH_UNDO
    if family in RUN_BY_CALLER:
        return RUN_BY_CALLER[family]
    if family in PICTURES:
        raise ValueError(f"{kind} needs a model that sees: there is only text")
    if family.startswith(RUN_BY_ANTHROPIC):
        raise ValueError(f"{kind} runs at Anthropic: offer a tool of your own, with an input_schema, that does it")
    raise ValueError(f"there is no tool of type {kind}: offer one of your own, with an input_schema")

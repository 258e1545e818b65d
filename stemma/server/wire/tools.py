"""Tools as a chat offers them, calls of them, and which of them an answer may call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta

from stemma.server.wire.common import FunctionSpec
from stemma.server.wire.fields import Rule, Taken, Wire
from stemma.server.wire.known import COMING_BACK

ToolName = Annotated[str, Meta(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
INPUT = "input"
"""The one argument of a custom tool, as models see it."""


class FunctionCall(Wire):
    """A call that the model made; `arguments` is JSON text."""

    name: str
    arguments: str


class CustomCall(Wire):
    """A call of a custom tool; `input` is the text that the model wrote."""

    name: str
    input: str


class ToolCall(Wire):
    """One of an assistant message's calls."""

    rules: ClassVar[Mapping[str, Rule]] = {**COMING_BACK, "index": Taken("calls have the order in which they come")}

    id: str
    type: Literal["function", "custom"] | None = None
    function: FunctionCall | None = None
    custom: CustomCall | None = None

    def __post_init__(self) -> None:
        _check_one_of(self, self.type)

    @property
    def told(self) -> FunctionCall:
        """As models write it."""
        if self.custom is None:
            assert self.function is not None
            return self.function
        arguments = msgspec.json.encode({INPUT: self.custom.input}).decode()
        return FunctionCall(name=self.custom.name, arguments=arguments)

    @property
    def said(self) -> str:
        """What the client was given of it: JSON text, or the text of a custom tool's input."""
        return self.told.arguments if self.custom is None else self.custom.input


class GrammarText(Wire):
    """A grammar of texts."""

    syntax: Literal["lark", "regex"]
    definition: str


class CustomFormat(Wire):
    """What the input of a custom tool may be: any text, or texts of a grammar."""

    type: Literal["text", "grammar"]
    grammar: GrammarText | None = None

    def __post_init__(self) -> None:
        if (self.type == "grammar") != (self.grammar is not None):
            raise ValueError("a format of type grammar, and no other, has a grammar")


class CustomSpec(Wire):
    """A tool that is given a text."""

    name: ToolName
    description: str | None = None
    format: CustomFormat | None = None

    @property
    def grammar(self) -> GrammarText | None:
        """What the text is bound by."""
        return None if self.format is None else self.format.grammar


class Tool(Wire):
    """A tool that is on offer: a function with arguments, or one that is given a text."""

    rules: ClassVar[Mapping[str, Rule]] = {"cache_control": COMING_BACK["cache_control"]}

    type: Literal["function", "custom"] | None = None
    function: FunctionSpec | None = None
    custom: CustomSpec | None = None

    def __post_init__(self) -> None:
        _check_one_of(self, self.type)

    @property
    def name(self) -> str:
        """What calls of it begin with."""
        return self.told.name

    @property
    def told(self) -> FunctionSpec:
        """As models are told of it: what is given a text is a function with one argument."""
        if self.custom is None:
            assert self.function is not None
            return self.function
        argument: dict[str, Any] = {"type": "string"}
        if self.custom.grammar is not None:
            syntax, definition = self.custom.grammar.syntax, self.custom.grammar.definition
            argument["description"] = f"Text of this {syntax} grammar:\n{definition}"
        parameters = {"type": "object", "properties": {INPUT: argument}, "required": [INPUT],
                      "additionalProperties": False}  # fmt: skip
        return FunctionSpec(name=self.custom.name, description=self.custom.description, parameters=parameters)


class NamedFunction(Wire):
    """A function by name."""

    name: str


class AllowedTool(Wire):
    """One of those that may be called, as chats name it (by `function` or `custom`) or as responses do (by `name`)."""

    type: str | None = None
    function: NamedFunction | None = None
    custom: NamedFunction | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        if self.called is None:
            raise ValueError("an allowed tool is one of type function or custom, with its name")

    @property
    def called(self) -> str | None:
        """Its name."""
        named = self.function or self.custom
        return self.name if named is None else named.name


class AllowedTools(Wire):
    """These of the tools may be called; required: one must be."""

    mode: Literal["auto", "required"]
    tools: Annotated[list[AllowedTool], Meta(min_length=1)]


class NamedToolChoice(Wire):
    """This tool must be called, or these may be."""

    type: Literal["function", "custom", "allowed_tools"] | None = None
    function: NamedFunction | None = None
    custom: NamedFunction | None = None
    allowed_tools: AllowedTools | None = None

    def __post_init__(self) -> None:
        _check_one_of(self, self.type, "allowed_tools")

    @property
    def name(self) -> str | None:
        """Of the tool that must be called, if it is one."""
        named = self.function or self.custom
        return None if named is None else named.name


ToolChoice = Literal["none", "auto", "required"] | NamedToolChoice


def _check_one_of(value: Any, kind: str | None, *more: str) -> None:
    """Raises ValueError unless a value has what its type says, and nothing of another."""
    given = [name for name in ("function", "custom", *more) if getattr(value, name) is not None]
    if len(given) != 1 or kind not in (None, given[0]):
        kind = kind or "function"
        raise ValueError(f"what is of type {kind} has a field of that name, and none of another type")

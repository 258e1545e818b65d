"""What form an output must have, from the several ways in which clients ask for one. Compiling it is the engine's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from stemma.server.errors import bad_request
from stemma.server.wire.chat import ChatRequest, NamedToolChoice, Tool
from stemma.server.wire.common import GenerationRequest, TextFormat


class ToolUse(NamedTuple):
    """Which functions may be called. offered: told to the model. max_calls: None is no limit."""

    offered: Sequence[Tool] = ()
    callable: Sequence[Tool] = ()
    is_required: bool = False
    max_calls: int | None = None

    @property
    def names(self) -> list[str]:
        """The functions that may be called."""
        return [tool.function.name for tool in self.callable]


def tool_use(body: ChatRequest) -> ToolUse:
    """What `tools`, `tool_choice` and `parallel_tool_calls` say together. Raises ApiError if they contradict."""
    tools = body.tools or []
    names = [tool.function.name for tool in tools]
    if len(set(names)) < len(names):
        raise bad_request("two tools have the same name", "tools")
    if not tools:
        if body.tool_choice not in (None, "none", "auto"):
            raise bad_request("tool_choice asks for a call, but there are no tools", "tool_choice")
        if body.parallel_tool_calls is not None and body.tools is None:
            raise bad_request("parallel_tool_calls is for requests with tools", "parallel_tool_calls")
        return ToolUse()
    max_calls = 1 if body.parallel_tool_calls is False else None
    match body.tool_choice:
        case "none":
            return ToolUse()
        case NamedToolChoice(function=function):
            chosen = [tool for tool in tools if tool.function.name == function.name]
            if not chosen:
                raise bad_request(f"there is no tool {function.name!r}; there are {names}", "tool_choice")
            return ToolUse(tools, chosen, True, 1)
        case "required":
            raise bad_request("tool_choice can be auto or none", "tool_choice", "unsupported_parameter")
        case _:
            return ToolUse(tools, tools, False, max_calls)


def check_one_form(body: GenerationRequest) -> None:
    """Raises ApiError if more than one form is asked for."""
    for name in ("response_format", "regex", "grammar"):
        if not isinstance(getattr(body, name), TextFormat | None):
            raise bad_request(f"{name} is not supported", name, "unsupported_parameter")
    formats = [body.response_format] if not isinstance(body.response_format, TextFormat | None) else []
    if sum(form is not None for form in (body.regex, body.grammar, *formats)) > 1:
        raise bad_request("give one of response_format, regex and grammar", "response_format")

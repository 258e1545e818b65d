"""What an output is constrained to, in all the ways in which clients ask. Compiling it is the engine's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec

from stemma.fsm.choices import Choices
from stemma.fsm.ebnf import EBNF
from stemma.fsm.errors import FormError, LimitError
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.lark import Lark
from stemma.fsm.regex import Regex
from stemma.runtime.engine.grammars import GrammarSpec
from stemma.runtime.tongues import answer_grammar, functions
from stemma.runtime.tongues.answer_grammar import MAX_CALLS, AnswerGrammar, Otherwise
from stemma.runtime.tongues.closed_schema import closed
from stemma.runtime.tongues.functions import Function
from stemma.runtime.tongues.tongue import Standing, Tongue
from stemma.server.http.errors import bad_request
from stemma.server.outputs.prompt_schema import prompt_schema
from stemma.server.wire.chat import ChatRequest
from stemma.server.wire.common import GenerationRequest, JsonObjectFormat, JsonSchemaFormat, StructuredOutputs
from stemma.server.wire.tools import AllowedTools, GrammarText, NamedToolChoice, Tool

ANY_OBJECT = JSONSchema({"type": "object"})


class OutputConstraint(NamedTuple):
    """What an output must match, its size in bytes as it came, and the field that asked for it.

    otherwise: used if `spec` cannot be compiled; None if nothing else will do.
    """

    spec: GrammarSpec
    num_bytes: int
    param: str
    otherwise: GrammarSpec | None = None


class ToolUse(NamedTuple):
    """Which functions may be called. offered: told to the model. max_calls: of one answer."""

    offered: Sequence[Tool] = ()
    callable: Sequence[Tool] = ()
    is_required: bool = False
    max_calls: int = MAX_CALLS

    @property
    def names(self) -> list[str]:
        """The functions that may be called."""
        return [tool.name for tool in self.callable]

    @property
    def custom(self) -> frozenset[str]:
        """Those of them that are given a text."""
        return frozenset(tool.name for tool in self.callable if tool.custom is not None)


def tool_use(body: ChatRequest) -> ToolUse:
    """What `tools`, `tool_choice` and `parallel_tool_calls` say together. Raises ApiError if they contradict.

    Calls that must be made are one call, unless several are asked for: who forces a call mostly wants one value, and a
    small model that may go on does.
    """
    tools = body.tools or []
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise bad_request("two tools have the same name", "tools")
    if not tools:
        if body.tool_choice not in (None, "none", "auto"):
            raise bad_request("tool_choice asks for a call, but there are no tools", "tool_choice")
        return ToolUse()
    max_calls = 1 if body.parallel_tool_calls is False else MAX_CALLS
    num_forced = MAX_CALLS if body.parallel_tool_calls else 1
    match body.tool_choice:
        case "none":
            return ToolUse()
        case NamedToolChoice(allowed_tools=AllowedTools() as allowed):
            chosen = _named(tools, [str(each.called) for each in allowed.tools])
            is_required = allowed.mode == "required"
            return ToolUse(tools, chosen, is_required, num_forced if is_required else max_calls)
        case NamedToolChoice(name=str() as name):
            return ToolUse(tools, _named(tools, [name]), True, 1)
        case "required":
            return ToolUse(tools, tools, True, num_forced)
        case _:
            return ToolUse(tools, tools, False, max_calls)


def _named(tools: Sequence[Tool], names: Sequence[str]) -> list[Tool]:
    """The tools of these names. Raises ApiError if there is none of one."""
    there = [tool.name for tool in tools]
    for name in names:
        if name not in there:
            raise bad_request(f"there is no tool {name!r}; there are {there}", "tool_choice")
    return [tool for tool in tools if tool.name in names]


def chat_constraint(body: ChatRequest, tools: ToolUse, tongue: Tongue, standing: Standing) -> OutputConstraint | None:
    """The constraint of a chat's answer, behind the model's thoughts: the form of its final text, calls, or either.

    standing: where the prompt leaves the model. Raises ApiError.
    """
    final = text_constraint(body)
    if not tools.callable:
        constraint = _prompted_constraint(body) or final
        return None if constraint is None else behind_thoughts(constraint, tongue, standing)
    return or_calls(final, tools, tongue, standing)


def or_calls(final: OutputConstraint | None, tools: ToolUse, tongue: Tongue, standing: Standing) -> OutputConstraint:
    """Calls; or, unless these are required, what `final` binds, if anything does. Raises ApiError."""
    size = len(msgspec.json.encode(tools.callable)) + (final.num_bytes if final else 0)
    otherwise: GrammarSpec | Otherwise = "nothing" if tools.is_required else final.spec if final else "text"
    callable_ones = tuple(map(function_of, tools.callable))
    return OutputConstraint(AnswerGrammar(tongue, callable_ones, tools.max_calls, otherwise, standing), size, "tools")


def behind_thoughts(constraint: OutputConstraint, tongue: Tongue, standing: Standing) -> OutputConstraint:
    """A form that begins where the answer does."""
    within = answer_grammar.behind_thoughts
    otherwise = None if constraint.otherwise is None else within(constraint.otherwise, tongue, standing)
    return constraint._replace(spec=within(constraint.spec, tongue, standing), otherwise=otherwise)


def _prompted_constraint(body: ChatRequest) -> OutputConstraint | None:
    """For `json_object`: the schema that the messages tell, where any object will do if it cannot be compiled."""
    match body.response_format:
        case JsonObjectFormat(schema=None) if (schema := prompt_schema(body.messages)) is not None:
            pass
        case _:
            return None
    return schema_constraint(schema, "response_format")._replace(otherwise=ANY_OBJECT)


def text_constraint(body: GenerationRequest) -> OutputConstraint | None:
    """The constraint of a text without calls. Raises ApiError if more than one is asked for."""
    constraints = list(_constraints(body))
    if len(constraints) > 1:
        raise bad_request(f"give one of {constraints[0].param} and {constraints[1].param}", constraints[1].param)
    return constraints[0] if constraints else None


def _constraints(body: GenerationRequest) -> Iterator[OutputConstraint]:
    """All that is asked for, under OpenAI's, our own, vLLM's and SGLang's names."""
    vllm = body.structured_outputs or StructuredOutputs()
    for param, pattern in (
        ("regex", body.regex),
        ("guided_regex", body.guided_regex),
        ("structured_outputs.regex", vllm.regex),
    ):
        if pattern is not None:
            yield OutputConstraint(Regex(pattern), len(pattern), param)
    for param, source in (
        ("grammar", body.grammar),
        ("guided_grammar", body.guided_grammar),
        ("structured_outputs.grammar", vllm.grammar),
    ):
        if source is not None:
            yield OutputConstraint(grammar_text(source), len(source), param)
    if body.ebnf is not None:
        yield OutputConstraint(EBNF(body.ebnf), len(body.ebnf), "ebnf")
    for param, schema in (("guided_json", body.guided_json), ("structured_outputs.json", vllm.json)):
        if schema is not None:
            yield schema_constraint(schema, param)
    for param, values in (("guided_choice", body.guided_choice), ("structured_outputs.choice", vllm.choice)):
        if values is not None:
            yield OutputConstraint(Choices(values), sum(map(len, values)), param)
    if vllm.json_object:
        yield OutputConstraint(ANY_OBJECT, 0, "structured_outputs.json_object")
    if (constraint := _response_format(body)) is not None:
        yield constraint


def schema_constraint(schema: str | dict[str, Any], param: str) -> OutputConstraint:
    """A schema as JSON values or as their text. Raises ApiError if the text is no schema."""
    size = len(schema) if isinstance(schema, str) else len(msgspec.json.encode(schema))
    try:
        read = msgspec.json.decode(schema) if isinstance(schema, str) else schema
    except msgspec.DecodeError as error:
        raise bad_request(f"{param} is no JSON: {error}", param) from error
    if not isinstance(read, dict | bool):
        raise bad_request(f"{param} is no JSON Schema: it is neither an object nor a boolean", param)
    return OutputConstraint(JSONSchema(read if isinstance(read, bool) else closed(read)), size, param)


def grammar_text(text: str) -> EBNF | Lark:
    """A grammar in either language: only EBNF defines its rules with `::=`."""
    return EBNF(text) if "::=" in text else Lark(text)


def _response_format(body: GenerationRequest) -> OutputConstraint | None:
    match body.response_format:
        case JsonObjectFormat(schema=dict() as schema):
            return schema_constraint(schema, "response_format.schema")
        case JsonObjectFormat():
            return OutputConstraint(ANY_OBJECT, 0, "response_format")
        case JsonSchemaFormat(json_schema=spec):
            if spec.schema is None:
                raise bad_request("json_schema has no schema", "response_format.json_schema.schema")
            if isinstance(spec.schema, bool):
                return OutputConstraint(JSONSchema(spec.schema), 0, "response_format")
            return schema_constraint(spec.schema, "response_format")
        case _:
            return None


def function_of(tool: Tool) -> Function:
    """A tool with the schema of its arguments. A schema that cannot be enforced is an error where the tool is strict;
    else only the names of its arguments bind. Raises ApiError."""
    try:
        function = functions.function_of(tool.name, tool.told.parameters or {})
        if tool.custom is not None:
            return with_input(function, tool.custom.grammar)
    except LimitError:
        raise
    except FormError as error:
        raise bad_request(str(error), "tools") from error
    if tool.told.strict or functions.enforceable(function) is None:
        return function
    return functions.widened(function)


def with_input(function: Function, grammar: GrammarText | None) -> Function:
    """A function with one argument, a text, whose texts are those of a grammar. Raises FormError."""
    if grammar is None:
        return function
    spec = Lark(grammar.definition) if grammar.syntax == "lark" else Regex(grammar.definition)
    spec.grammar()
    return replace(function, text=spec)

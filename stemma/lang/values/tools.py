"""Tools: functions that a model may call, made of Python functions or described by a JSON Schema; calls of them.

Nothing here knows how a model writes calls.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, NotRequired, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from pydantic_core import PydanticSerializationError, to_json
from typing_extensions import TypedDict

from stemma.fsm.errors import FormError
from stemma.fsm.json_schema import JSONSchema
from stemma.fsm.languages.forms import form_of
from stemma.lang.loops import awaited, run_blocking
from stemma.runtime.core.checking import describe
from stemma.runtime.errors import InvalidOutput, InvalidRequest, StateError
from stemma.runtime.tongues.functions import Function, function_of

T_co = TypeVar("T_co", covariant=True)
NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}")
MANY = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)


@dataclass(frozen=True, eq=False)
class Tool:
    """A function that a model may call.

    schema: JSON Schema of its arguments, which are an object. run: what a call does, given the arguments by name; it
    may be asynchronous; None where whoever asks does what calls say. form: what a call must match; None for the schema.
    Raises InvalidRequest for a schema that cannot be used.
    """

    name: str
    description: str
    schema: Mapping[str, Any]
    run: Callable[..., Any] | None = field(default=None, repr=False)
    form: JSONSchema | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise InvalidRequest(
                f"a tool's name is 1 to 128 letters, digits, '_', '.', '-': {self.name!r:.80}", "tools"
            )
        _ = self.function

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Tool:
        """A Python function: its name, its docstring, and the types of its parameters, which `Annotated[int,
        Field(description="...")]` describes. Raises InvalidRequest for a parameter without a type, or like `*args`."""
        name = function.__name__
        kind = with_config(ConfigDict(extra="forbid"))(TypedDict(name, _members(function)))  # type: ignore[operator]
        try:
            form = form_of(kind)
        except FormError as error:
            raise InvalidRequest(f"the parameters of {name} cannot be told to a model: {error}", "tools") from error
        assert isinstance(form.spec, JSONSchema)

        def run(**arguments: Any) -> Any:
            try:
                values = form.validate(json.dumps(arguments))
            except ValidationError as error:
                raise InvalidOutput(f"the arguments of {name} are no values of their types: {error}", name) from error
            return function(**values)

        schema = _without_titles(TypeAdapter(kind).json_schema())
        return cls(name, inspect.getdoc(function) or "", schema, run, form.spec)

    @property
    def function(self) -> Function:
        """What calls of it must match."""
        if self.form is not None:
            return Function(self.name, self.form)
        try:
            return function_of(self.name, self.schema)
        except FormError as error:
            raise InvalidRequest(str(error), "tools") from error

    @property
    def told(self) -> dict[str, Any]:
        """As templates and models read it."""
        about = {"name": self.name, "description": self.description, "parameters": dict(self.schema)}
        return {"type": "function", "function": about}


@dataclass(frozen=True)
class ToolCall:
    """What a model asks for. arguments: as JSON has them."""

    id: str
    name: str
    arguments: Mapping[str, Any]
    tool: Tool = field(repr=False, compare=False)

    async def run(self) -> Any:
        """Do it. Blocking functions run in a thread. Raises what the function raises; StateError if there is none."""
        result = await asyncio.to_thread(self._function, **self.arguments)
        return await result if inspect.isawaitable(result) else result

    def run_sync(self) -> Any:
        """`run` from plain Python, in this thread."""
        result = self._function(**self.arguments)
        return run_blocking(awaited(result)) if inspect.isawaitable(result) else result

    @property
    def _function(self) -> Callable[..., Any]:
        if self.tool.run is None:
            raise StateError(f"{self.name} has no function to run: give what it results in to result()")
        return self.tool.run

    def __str__(self) -> str:
        return f"{self.name}({', '.join(f'{name}={value!r}' for name, value in self.arguments.items())})"


class Called(NamedTuple):
    """A call that was made. result: what the model is told. error: what its function raised, if it did."""

    call: ToolCall
    result: str
    error: Exception | None = None


class Said(NamedTuple, Generic[T_co]):
    """An answer that may call. text: its words, those before calls too. value: None where it calls."""

    text: str
    calls: tuple[ToolCall, ...]
    value: T_co | None


def tools_of(given: Sequence[Tool | Callable[..., Any]]) -> tuple[Tool, ...]:
    """Raises InvalidRequest for what is no tool, and for two of a name."""
    for each in given:
        if not (isinstance(each, Tool) or callable(each)):
            raise InvalidRequest(f"a tool is a function, or a stemma.Tool; this is {describe(each)}", "tools")
    tools = tuple(each if isinstance(each, Tool) else Tool.of(each) for each in given)
    names = [tool.name for tool in tools]
    if len(set(names)) < len(names):
        raise InvalidRequest(f"two tools have the same name; there are {names}", "tools")
    return tools


def result_text(result: Any) -> str:
    """What a model is told of a result: a text as it is, any other value as JSON. Raises InvalidRequest.

    Halves of characters, such as names of files may have in Python, become question marks.
    """
    if isinstance(result, str):
        return result.encode(errors="replace").decode()
    try:
        return to_json(result).decode()
    except (PydanticSerializationError, ValueError) as error:
        raise InvalidRequest(f"a result is a text, or a value that JSON has: {error}", "result") from error


def _members(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        parameters = inspect.signature(function, eval_str=True).parameters
    except (ValueError, TypeError, NameError) as error:
        raise InvalidRequest(f"the parameters of {describe(function)} cannot be read: {error}", "tools") from error
    for name, each in parameters.items():
        if each.kind in MANY:
            raise InvalidRequest(
                f"{function.__name__} takes {each}: a model gives arguments one by one, by name", "tools"
            )
        if each.annotation is each.empty:
            raise InvalidRequest(f"give {name} of {function.__name__} a type: the model is told it", "tools")
    return {
        name: each.annotation if each.default is each.empty else NotRequired[each.annotation]
        for name, each in parameters.items()
    }


def _without_titles(schema: Any) -> Any:
    """A schema without the titles that pydantic makes of names."""
    if isinstance(schema, list):
        return [_without_titles(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = {}
    for key, value in schema.items():
        if key in ("properties", "$defs") and isinstance(value, dict):
            made[key] = {name: _without_titles(part) for name, part in value.items()}
        elif key != "title":
            made[key] = value if key in ("default", "const", "enum", "examples") else _without_titles(value)
    return made

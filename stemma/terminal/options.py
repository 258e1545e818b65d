"""Options of commands, made from dataclasses: each field is an option of its name, its type and its default.

What an option is for stands in the dataclass's docstring: `name: text` a field, whose further lines are indented. A
field that holds several values is an option in the singular, which may be given several times.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Collection, Mapping
from functools import wraps
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

HELP = re.compile(r"^(\w+): (.+(?:\n +.+)*)$", re.MULTILINE)
Command = Callable[..., None]


@dataclasses.dataclass(frozen=True, slots=True)
class ToolOptions:
    """What a chat may call.

    tools: a Python file whose functions the model may call.
    mcp: a JSON file with the servers of the Model Context Protocol whose tools the model may call.
    max_rounds: answers with calls, before one without.
    yes: make calls without asking.
    """

    tools: Path | None = None
    mcp: Path | None = None
    max_rounds: int = 8
    yes: bool = False


def takes(
    *configs: type[Any], without: Collection[str] = (), also: Mapping[str, str] = MappingProxyType({})
) -> Callable[[Command], Command]:
    """For a command with `**options`: they are the fields of these dataclasses.

    without: the fields that the command makes of parameters of its own. also: another flag of a field.
    """

    def decorated(command: Command) -> Command:
        parameters = inspect.signature(command, eval_str=True).parameters
        own = [each for each in parameters.values() if each.kind is not inspect.Parameter.VAR_KEYWORD]
        fields = [each for config in configs for each in _options(config, also) if each.name not in without]

        @wraps(command)
        def run(**given: Any) -> None:
            command(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})

        made = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in (*own, *fields)]
        run.__dict__.pop("__wrapped__")  # typer is to read what follows, not the command
        run.__dict__["__signature__"] = inspect.Signature(made)
        run.__annotations__ = {each.name: each.annotation for each in made}
        return run

    return decorated


def fields_of(config: type[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the options that this dataclass has."""
    names = {field.name for field in dataclasses.fields(config)}
    return {name: value for name, value in options.items() if name in names}


def _options(config: type[Any], also: Mapping[str, str]) -> list[inspect.Parameter]:
    told = HELP.findall(inspect.cleandoc(config.__doc__ or ""))
    help_texts = {name: " ".join(text.split()) for name, text in told}
    hints = get_type_hints(config)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=_option(field.name, hints[field.name], help_texts[field.name], also.get(field.name)),
        )
        for field in dataclasses.fields(config)
        if field.name in help_texts
    ]


def _option(name: str, kind: Any, help_text: str, also: str | None) -> Any:
    flag = "--" + name.replace("_", "-")
    if kind is bool:
        flag = f"{flag}/--no{flag[1:]}"
    elif get_origin(kind) is tuple:
        each = get_args(kind)[0]
        each = str if get_origin(each) is Literal else each  # typer knows lists of texts; the dataclass checks them
        kind, flag = list[each], flag.removesuffix("s")  # type: ignore[valid-type]
    elif kind == str | Path | None:  # typer knows one type
        kind = Path | None
    return Annotated[kind, typer.Option(*filter(None, (flag, also)), help=help_text[:1].upper() + help_text[1:])]

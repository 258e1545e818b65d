"""Tools for `stemma chat`: functions of a Python file, tools of servers; calls are shown, and whoever sits there allows
them."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from stemma.lang.mcp.servers import McpServers
from stemma.lang.values.tools import Called, Tool, ToolCall
from stemma.runtime.errors import InvalidRequest

MAX_SHOWN = 400
"""Characters of a result that are shown."""


@contextmanager
def offered(file: Path | None, servers: Path | None) -> Iterator[list[Tool | Callable[..., Any]]]:
    """All of them; servers run while it lasts. Raises InvalidRequest or McpError."""
    tools = read_tools(file) if file is not None else []
    if servers is None:
        yield tools
        return
    with McpServers(servers) as running:
        yield [*tools, *running.tools]


def read_tools(path: Path) -> list[Tool | Callable[..., Any]]:
    """A file's list `tools`, if it has one, else its public functions and each `stemma.Tool`. Raises InvalidRequest."""
    spec = importlib.util.spec_from_file_location(f"tools_{path.stem}", path)
    if spec is None or spec.loader is None or not path.is_file():
        raise InvalidRequest(f"{path} is no Python file: give one with functions for the model to call", "tools")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's file raises
        raise InvalidRequest(f"{path} cannot be run: {type(error).__name__}: {error}", "tools") from error
    if isinstance(listed := vars(module).get("tools"), list):
        return listed
    public = [value for name, value in vars(module).items() if not name.startswith("_")]
    found: list[Tool | Callable[..., Any]] = [
        value
        for value in public
        if isinstance(value, Tool) or (inspect.isfunction(value) and value.__module__ == spec.name)
    ]
    if not found:
        raise InvalidRequest(f"{path} has no public function for the model to call", "tools")
    return found


class Approval:
    """Shows calls and asks whether to make them. always: makes them without asking."""

    def __init__(self, console: Console, always: bool) -> None:
        self._console = console
        self._always = always

    def __call__(self, call: ToolCall) -> bool:
        self._console.print(Text(f"→ {call}", style="cyan"))
        if self._always:
            return True
        try:
            answer = self._console.input("  call it? (y)es, (a)lways, (n)o: ").strip().lower()
        except EOFError:
            return False
        self._always = answer in ("a", "always")
        return self._always or answer in ("y", "yes")

    def show(self, called: Called) -> None:
        """What a call resulted in, as the model is told."""
        short = called.result if len(called.result) <= MAX_SHOWN else f"{called.result[:MAX_SHOWN]}…"
        self._console.print(Text(f"← {short}", style="red" if called.error else "dim"))

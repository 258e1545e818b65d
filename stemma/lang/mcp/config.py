"""Which servers there are, as the files say it that people have: `{"mcpServers": {NAME: {"command": ...}}}`.

Each is a program that speaks over its standard input and output, or a URL. `${NAME}` and `${NAME:-default}` in its
texts are variables of the environment, which is where secrets are kept. What else a file says is for other programs.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stemma.runtime.core.checking import describe
from stemma.runtime.errors import InvalidRequest

SECTIONS = ("mcpServers", "servers")
"""What files call the part that lists the servers: most of them, and VS Code's."""

VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_]\w*)(?::-([^}]*))?\}")
HTTP = {"http": "http", "streamable-http": "http", "streamableHttp": "http", "streamable_http": "http", "sse": "sse"}


@dataclass(frozen=True, slots=True)
class ProgramSpec:
    """A program to be started."""

    command: str
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None


@dataclass(frozen=True, slots=True)
class UrlSpec:
    """A server that runs already. headers: of each request to it."""

    url: str
    type: Literal["http", "sse"] = "http"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LiveSpec:
    """Whatever else the SDK's client connects to, such as a server of this process."""

    server: Any


ServerSpec = ProgramSpec | UrlSpec | LiveSpec


def read_servers(given: str | Path | Mapping[str, Any]) -> dict[str, ServerSpec]:
    """The servers of a file, or of what would be in one. Raises InvalidRequest, which names the server."""
    told = _read_file(Path(given)) if isinstance(given, str | Path) else given
    listed = next((told[name] for name in SECTIONS if isinstance(told.get(name), Mapping)), told)
    servers = {
        str(name): _server(str(name), each)
        for name, each in listed.items()
        if not (isinstance(each, Mapping) and (each.get("disabled") is True or each.get("enabled") is False))
    }
    if not servers:
        raise InvalidRequest("no server is listed: say it as {'mcpServers': {NAME: {'command': ...}}}", "mcp")
    return servers


def _read_file(path: Path) -> Mapping[str, Any]:
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{path} cannot be read as JSON: {error}", "mcp") from error
    if not isinstance(told, dict):
        raise InvalidRequest(f"{path} is no JSON object: say {{'mcpServers': {{NAME: {{'command': ...}}}}}}", "mcp")
    return told


def _server(name: str, given: Any) -> ServerSpec:
    if not isinstance(given, Mapping):
        if isinstance(given, str | list | int | float | None):
            raise _wrong(name, "is no object", given)
        return LiveSpec(given)
    kind = given.get("type", given.get("transport"))
    if "command" in given and kind in (None, "stdio"):
        args, cwd = given.get("args", []), given.get("cwd")
        if not isinstance(args, list | tuple):
            raise _wrong(f"{name}.args", "is no list", args)
        return ProgramSpec(
            _text(f"{name}.command", given["command"]),
            tuple(_text(f"{name}.args", each) for each in args),
            _texts(f"{name}.env", given.get("env")),
            None if cwd is None else _text(f"{name}.cwd", cwd),
        )
    if "url" not in given or (kind is not None and kind not in HTTP):
        raise _wrong(name, "has neither a command (type stdio) nor a url (type http or sse)", dict(given))
    url = _text(f"{name}.url", given["url"])
    is_sse = HTTP[kind] == "sse" if kind is not None else url.rstrip("/").endswith("/sse")
    return UrlSpec(url, "sse" if is_sse else "http", _texts(f"{name}.headers", given.get("headers")))


def _texts(place: str, given: Any) -> dict[str, str]:
    if not isinstance(given, Mapping | None):
        raise _wrong(place, "is no object", given)
    return {str(name): _text(f"{place}.{name}", value) for name, value in (given or {}).items()}


def _text(place: str, given: Any) -> str:
    if not isinstance(given, str):
        raise _wrong(place, "is no text", given)

    def value(found: re.Match[str]) -> str:
        name, default = found.groups()
        told = os.environ.get(name, default)
        if told is None:
            raise InvalidRequest(f"{place} names ${{{name}}}, which the environment does not have: set it", "mcp")
        return told

    return VARIABLE.sub(value, given)


def _wrong(place: str, what: str, given: Any) -> InvalidRequest:
    return InvalidRequest(f"the server {place} {what}: {describe(given)}", "mcp")

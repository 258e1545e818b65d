"""`stemma serve --config FILE`: a TOML file with the command's options by their names. The command line goes before it.

    model = "model.gguf"
    kv_tokens = 100_000
    api_keys_file = "keys.txt"

    [loras]
    sql = "adapters/sql"

    [[shared_prompts]]
    name = "rules"
    system = "..."

Options may also stand in tables [engine] and [server]. Every name and every type is checked; paths are as on the
command line.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from stemma.runtime.core.checking import checked, describe
from stemma.runtime.core.config import EngineConfig
from stemma.runtime.errors import InvalidRequest
from stemma.server.config import ApiKey, ServerConfig, SharedPrompt, made_of, parse_api_keys, unknown_name

OF_THE_COMMAND: Mapping[str, Any] = {"model": str, "draft": str, "adapters": tuple[str, ...], "api_keys_file": Path}
"""Options of the command that are no field of a dataclass, by their types; the tables are read for themselves."""
TABLES = ("loras", "api_keys", "shared_prompts", "engine", "server")


@dataclass(frozen=True, slots=True)
class ServeFile:
    """What a file says. options: by the command's names, as on a command line; keys and prompts apart."""

    options: dict[str, Any]
    api_keys: tuple[ApiKey, ...] = ()
    shared_prompts: tuple[SharedPrompt, ...] = ()


def read_serve_file(path: Path) -> ServeFile:
    """Raises InvalidRequest for what is no such file, for a name that is no option, and for a value of another type."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}", "config") from error
    except ValueError as error:
        raise InvalidRequest(f"{path} is no TOML: {error}", "config") from error
    options: dict[str, Any] = {}
    for where, kinds, table in _tables(path, found):
        for name, value in table.items():
            if name not in kinds:
                raise unknown_name(name, [*kinds, *TABLES], where)
            if name in options:
                raise InvalidRequest(f"{where}: {name} is said twice", name)
            options[name] = _value(value, kinds[name], name, where)
    if loras := found.get("loras"):
        checked(loras, Mapping[str, str], f"{path}: loras")
        options["loras"] = [f"{name}={source}" for name, source in loras.items()]
    prompts = made_of(SharedPrompt, found.get("shared_prompts", []), "shared_prompts", str(path))
    return ServeFile(options, _keys(found.get("api_keys", []), str(path)), prompts)


def _tables(path: Path, found: Mapping[str, Any]) -> list[tuple[str, dict[str, Any], Mapping[str, Any]]]:
    """Each part of a file with the options that it may have, and their types."""
    engine, server = get_type_hints(EngineConfig), get_type_hints(ServerConfig)
    server = {name: kind for name, kind in server.items() if name not in TABLES}
    top = {name: value for name, value in found.items() if name not in TABLES}
    parts: list[tuple[str, dict[str, Any], Any]] = [(str(path), {**engine, **server, **OF_THE_COMMAND}, top)]
    for name, kinds in (("engine", engine), ("server", server)):
        part = found.get(name, {})
        if not isinstance(part, dict):
            raise InvalidRequest(f"{path}: {name} is a table, [{name}]; it is {describe(part)}", name)
        parts.append((f"{path}, [{name}]", kinds, part))
    return parts


def _value(value: Any, kind: Any, name: str, where: str) -> Any:
    """A value as the command line has it. Raises InvalidRequest for one of another type."""
    try:
        read = checked(value, kind, name)
    except InvalidRequest as error:
        raise InvalidRequest(f"{where}: {error}", name) from error
    return [str(each) for each in read] if isinstance(read, tuple) else read


def _keys(found: Any, where: str) -> tuple[ApiKey, ...]:
    if isinstance(found, list) and all(isinstance(each, str) for each in found):
        return parse_api_keys(found)
    return made_of(ApiKey, found, "api_keys", where)

"""What commands that serve are told beside the fields of their dataclasses, and the server's options made of all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, cast

import typer

from stemma.runtime.errors import InvalidRequest
from stemma.server.config import ServerConfig
from stemma.terminal.config_file import ServeFile, read_serve_file
from stemma.terminal.options import fields_of


def _from_file(context: typer.Context, path: Path | None) -> ServeFile:
    """What a file says is what the options say that are not given."""
    file = read_serve_file(path) if path is not None else ServeFile({})
    context.default_map = {**(context.default_map or {}), **file.options}
    return file


ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", is_eager=True, callback=_from_file, help="A TOML file with these options by their names."),
]
ApiKeys = Annotated[
    list[str] | None, typer.Option("--api-key", help="NAME:KEY of a tenant; may be given several times.")
]
ApiKeysFile = Annotated[Path | None, typer.Option(help="Lines of `name key` or `name key admin`.")]
SharedPrompts = Annotated[Path | None, typer.Option(help="Beginnings of prompts that all keys share: JSON, or TOML.")]
OWN_OPTIONS = ("api_keys", "shared_prompts")
"""Fields of ServerConfig that are made of these."""
OTHER_FLAGS = {
    "vllm_metric_names": "--vllm-metrics",
    "sglang_metric_names": "--sglang-metrics",
    "strict_fields": "--strict",
}


def server_config(
    options: dict[str, Any], config: object, api_key: list[str] | None, api_keys_file: Path | None,
    shared_prompts: Path | None,
) -> ServerConfig:  # fmt: skip
    """The server's options. config: what `ConfigFile` gave. Raises InvalidRequest."""
    from stemma.server import parse_api_keys, read_shared_prompts

    file = cast(ServeFile, config)  # what the option's callback made of the path
    keys = parse_api_keys(api_key or [], api_keys_file) + (() if api_key else file.api_keys)
    shared = read_shared_prompts(shared_prompts) if shared_prompts is not None else file.shared_prompts
    return ServerConfig(**fields_of(ServerConfig, options), api_keys=keys, shared_prompts=shared)


def by_name(given: list[str]) -> dict[str, str]:
    """Raises InvalidRequest for what is not NAME=SOURCE, and for a name that comes twice."""
    pairs = [text.partition("=") for text in given]
    named = {name: source for name, _, source in pairs}
    if not all(source for _, _, source in pairs) or len(named) < len(pairs):
        raise InvalidRequest("an adapter is given as NAME=SOURCE, each with a name of its own", "lora")
    return named

"""`stemma scale`: replicas of the server under Ray Serve, on this machine or a cluster that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from stemma.commands.given import Adapters, Draft, Loras, Model
from stemma.commands.served import (
    OTHER_FLAGS,
    OWN_OPTIONS,
    ApiKeys,
    ApiKeysFile,
    ConfigFile,
    SharedPrompts,
    by_name,
    server_config,
)
from stemma.runtime.core.config import EngineConfig
from stemma.runtime.errors import InvalidRequest
from stemma.scale.spec import OF_ONE_SERVER, ScaleConfig, Spec
from stemma.server.config import ServerConfig
from stemma.terminal.options import fields_of, takes


@takes(ScaleConfig, ServerConfig, EngineConfig, without=(*OWN_OPTIONS, *OF_ONE_SERVER), also=OTHER_FLAGS)
def scale(
    config: ConfigFile = None,
    model: Model = None,
    adapters: Adapters = None,
    loras: Loras = None,
    draft: Draft = None,
    api_key: ApiKeys = None,
    api_keys_file: ApiKeysFile = None,
    shared_prompts: SharedPrompts = None,
    address: Annotated[
        str | None,
        typer.Option(help="A Ray cluster; left out, the one that this machine is part of, else Ray is started here."),
    ] = None,
    write: Annotated[
        Path | None, typer.Option(help="Write the same as a file for `serve deploy`, and run nothing.")
    ] = None,
    **options: Any,
) -> None:
    """Serve a model by several replicas under Ray Serve; each request goes to where its prompt is cached."""
    try:
        from stemma.scale.ray.run import run, write_config
    except ImportError as error:
        raise InvalidRequest("replicas need Ray: pip install 'stemma-llm[scale]'", "replicas") from error

    spec = Spec(
        model, tuple(adapters or ()), by_name(loras or []), draft,
        engine=EngineConfig(**fields_of(EngineConfig, options)),
        server=server_config(options, config, api_key, api_keys_file, shared_prompts),
        scale=ScaleConfig(**fields_of(ScaleConfig, options)),
    )  # fmt: skip
    if write is not None:
        write_config(spec, write)
        print(write)
        return
    console = Console(stderr=True)
    run(spec, address, lambda url: console.print(f"{spec.scale.count} replicas at {url}/v1; Ctrl-C stops"))

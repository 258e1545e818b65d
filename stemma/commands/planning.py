"""`stemma plan`: what a model needs of a machine, before it is loaded."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from stemma.commands.given import Draft, Json, Model
from stemma.runtime.core.config import EngineConfig
from stemma.runtime.errors import InvalidRequest
from stemma.terminal.options import fields_of, takes

if TYPE_CHECKING:
    from stemma.runtime.model.checkpoint import Checkpoint

GIB = 1 << 30
MAX_GIB = 1 << 20


@takes(EngineConfig)
def plan(
    model: Model = None,
    context: Annotated[
        int | None, typer.Option(help="Tokens of prompt and completion of each sequence; the model's if left out.")
    ] = None,
    concurrency: Annotated[int, typer.Option(help="Sequences side by side.")] = 8,
    machine_memory: Annotated[
        float | None, typer.Option(help="GiB of the machine that is planned for; this one's if left out.")
    ] = None,
    machine_bandwidth: Annotated[
        float | None, typer.Option(help="GB/s at which it reads weights; measured here if left out.")
    ] = None,
    machine_compute: Annotated[
        float | None, typer.Option(help="Billions of operations a second of its products; measured here if left out.")
    ] = None,
    draft: Draft = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """KV bytes a token, what fits this machine, and what bounds prefill and decode: before anything is loaded."""
    from stemma.runtime.engine.resources import context_of, make_ops, on_a_device
    from stemma.runtime.model.files.naming import name_of
    from stemma.runtime.model.load import read_checkpoint
    from stemma.runtime.model.pull import default_model
    from stemma.runtime.planning import given_rates, make_plan
    from stemma.terminal.plan import show
    from stemma.terminal.progress import progress

    config = on_a_device(EngineConfig(**fields_of(EngineConfig, options)))
    if machine_memory is not None and not 0 < machine_memory <= MAX_GIB:
        raise InvalidRequest(f"machine_memory must be more than 0 and at most {MAX_GIB:,} GiB", "machine_memory")
    ops = make_ops(config)
    with progress() as report:
        source = model or default_model(report)
        checkpoint = named(read_checkpoint(source, config.context_length), name_of(source))
        beside = None if draft is None else named(read_checkpoint(draft), name_of(draft))
    rates = given_rates(ops, checkpoint.stored.type, a_second(machine_bandwidth), a_second(machine_compute))
    asked = context_of(config, checkpoint.config) if context is None else context
    memory = None if machine_memory is None else int(machine_memory * GIB)
    made = make_plan(
        checkpoint, ops, config, rates, context=asked, concurrency=concurrency, memory=memory, draft=beside
    )  # fmt: skip
    if as_json:
        print(json.dumps(made.as_json()))
    else:
        Console().print(show(made))


def named(checkpoint: Checkpoint, name: str) -> Checkpoint:
    """The same by another name than its own."""
    return replace(checkpoint, config=replace(checkpoint.config, name=name))


def a_second(billions: float | None) -> float | None:
    """What is given in billions."""
    return None if billions is None else billions * 1e9

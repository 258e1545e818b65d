"""`stemma schema`: schemas as the runtime sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from stemma.commands.given import Json

schema_commands = typer.Typer(no_args_is_help=True, help="Schemas as the runtime sees them.")


@schema_commands.command("lint")
def schema_lint(
    schema: Annotated[str, typer.Argument(help="A JSON file with a schema, or module:Type.")],
    model: Annotated[str | None, typer.Option(help="Whose vocabulary to use; SmolLM2-135M if left out.")] = None,
    as_json: Json = False,
) -> None:
    """Keyword by keyword: enforced, refused or an annotation; warnings; states, compile time, forced tokens."""
    from stemma.fsm.languages.lint import lint
    from stemma.terminal import schema as look

    spec = look.read_schema(schema)
    report = lint(spec)
    costs = look.measure(spec, look.vocabulary_of(model)) if report.is_supported else None
    if as_json:
        print(json.dumps(look.as_json(report, costs)))
    else:
        Console().print(look.show(report, costs))
    if not report.is_supported:
        raise typer.Exit(1)


@schema_commands.command("draw")
def schema_draw(
    schema: Annotated[str, typer.Argument(help="A JSON file with a schema, or module:Type.")],
    out: Annotated[Path, typer.Option(help="The SVG file to write.")],
    plain: Annotated[bool, typer.Option("--plain", help="Byte by byte, before chains become jump edges.")] = False,
    max_nodes: Annotated[int, typer.Option(help="Draw no more states than these.")] = 60,
) -> None:
    """Draw a schema's automaton as SVG: compressed, or byte by byte."""
    from stemma.fsm.automaton.draw import draw_automaton
    from stemma.terminal.schema import read_schema

    grammar = read_schema(schema).grammar()
    out.write_text(draw_automaton(grammar, compressed=not plain, max_nodes=max_nodes), encoding="utf-8")
    print(out)

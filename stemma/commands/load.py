"""`stemma bench`: load a running server, ours or another of OpenAI's API."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from stemma.bench.options import LoadOptions
from stemma.bench.workloads import Shape
from stemma.commands.given import HERE, Json, Key, Url
from stemma.runtime.errors import InvalidRequest
from stemma.terminal.options import fields_of, takes

INTERRUPTED = 130
"""The exit status of who was ended by Ctrl-C: 128 and the signal's number."""


@takes(Shape, LoadOptions)
def bench(
    url: Url = HERE,
    key: Key = None,
    png: Annotated[Path | None, typer.Option(help="Write a chart there (extra bench).")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the figures of all runs there, as JSON.")] = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Latencies, goodput and hit rate of a running server, under a workload or a trace, at one pace or several."""
    import asyncio

    try:
        from stemma.bench.draw import check, draw
        from stemma.bench.report import Target, summary
        from stemma.bench.run import Measured, measure_all
    except ImportError as error:
        raise InvalidRequest("a server is loaded through httpx: pip install 'stemma-llm[bench]'", "url") from error
    from stemma.terminal.bench import show
    from stemma.terminal.progress import progress

    for name, path in (("out", out), ("png", png)):  # known before a long run, not behind it
        if path is not None and not path.parent.is_dir():
            raise InvalidRequest(f"there is no folder {path.parent}", name)
    if png is not None:
        check(png)
    shape, asked = Shape(**fields_of(Shape, options)), LoadOptions(**fields_of(LoadOptions, options))
    target = Target(*(None if limit is None else limit / 1000 for limit in (asked.ttft_ms, asked.tpot_ms)))
    runs: list[Measured] = []
    with progress() as report, _until_interrupted() as interrupted:
        asyncio.run(
            measure_all(url, key, shape, asked, runs.append, lambda pace, ended, total: report(pace, ended / total))
        )  # fmt: skip
    summaries = [summary(run, target) for run in runs]
    figures = json.dumps({"url": url, "interrupted": bool(interrupted), "runs": [each.as_json() for each in summaries]})
    if as_json:
        print(figures)
    elif runs:
        Console().print(show(summaries, target))
    if out is not None:
        out.write_text(figures, encoding="utf-8")
    if png is not None and runs:
        draw(png, list(zip(runs, summaries, strict=True)), target)
    if interrupted:
        Console(stderr=True).print("[yellow]interrupted[/]: what had ended by then is told, and nothing of the rest")
        raise typer.Exit(INTERRUPTED)


@contextmanager
def _until_interrupted() -> Iterator[list[KeyboardInterrupt]]:
    """Ctrl-C ends the block, not the program; it is in the list then."""
    interrupted: list[KeyboardInterrupt] = []
    try:
        yield interrupted
    except KeyboardInterrupt as error:
        interrupted.append(error)

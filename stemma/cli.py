"""The command `stemma`. Each command is a few lines around what the layers below offer."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from stemma.commands.cache import cache_commands
from stemma.commands.doctor import doctor
from stemma.commands.given import (
    Adapters,
    Draft,
    FirstWithin,
    Json,
    Loras,
    MaxTokens,
    Model,
    Seed,
    Temperature,
    make_engine,
)
from stemma.commands.load import bench
from stemma.commands.planning import plan
from stemma.commands.scale import scale
from stemma.commands.schema import schema_commands
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
from stemma.runtime.errors import IncompleteOutput, InvalidRequest, StemmaError, ToolLimit
from stemma.server.config import ServerConfig
from stemma.terminal.options import ToolOptions, fields_of, takes

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="A radix-tree prefix-caching runtime for language models.",
    pretty_exceptions_enable=False,
)
app.add_typer(schema_commands, name="schema")
app.add_typer(cache_commands, name="cache")
app.command("plan")(plan)
app.command("bench")(bench)
app.command("doctor")(doctor)
app.command("scale")(scale)


@app.command()
def pull() -> None:
    """Fetch the default model, SmolLM2-135M-Instruct (93 MB), into the user's cache directory."""
    from stemma.runtime.model.pull import default_model
    from stemma.terminal.progress import progress

    with progress() as report:
        path = default_model(report)
    print(path)


@app.command()
@takes(EngineConfig)
def generate(
    prompt: str,
    model: Model = None,
    adapters: Adapters = None,
    max_tokens: MaxTokens = 128,
    temperature: Temperature = None,
    seed: Seed = None,
    ttft_ms: FirstWithin = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Complete a prompt; the text is streamed, the figures follow on standard error."""
    with make_engine(model, adapters, options) as llm:
        asked = _asked(temperature=temperature, ttft_ms=ttft_ms)
        generation = llm.submit(prompt, max_tokens=max_tokens, seed=seed, **asked)
        if not as_json:
            for delta in generation:
                print(delta.text, end="", flush=True)
            print()
        completion = generation.result()
        if as_json:
            print(json.dumps(_completion_json(completion, llm.loaded.name)))
        else:
            Console(stderr=True).print(_figures(completion), style="dim")


@app.command()
@takes(EngineConfig, ToolOptions)
def chat(
    model: Model = None,
    adapters: Adapters = None,
    system: Annotated[str | None, typer.Option(help="The system prompt.")] = None,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = None,
    ttft_ms: FirstWithin = None,
    as_json: Json = False,
    **options: Any,
) -> None:
    """Talk to a model, one line a turn; /undo takes a turn back, /tree shows the cache, an empty line ends it.

    With --tools it may call functions, with --mcp tools of servers: each call is shown, and made if you allow it.
    """
    from stemma.lang.chats.chat import Chat
    from stemma.terminal.tools import Approval, offered
    from stemma.terminal.tree import draw, of_engine

    console = Console(stderr=True)
    asked = ToolOptions(**fields_of(ToolOptions, options))
    if (asked.tools or asked.mcp) is not None and not (asked.yes or sys.stdin.isatty()):
        raise InvalidRequest("nobody can be asked whether to make calls: give --yes, or run it in a terminal", "tools")
    approve = Approval(console, asked.yes)
    with (
        offered(asked.tools, asked.mcp) as tools,
        make_engine(model, adapters, fields_of(EngineConfig, options)) as llm,
    ):
        session = Chat(
            llm, system, tools=tools, max_rounds=asked.max_rounds, approve=approve, max_tokens=max_tokens,
            **_asked(temperature=temperature, ttft_ms=ttft_ms),
        )  # fmt: skip
        while line := _read_line(console):
            if line == "/undo":
                session.undo()
            elif line == "/tree":
                console.print(draw(of_engine(llm.tree(), llm.loaded.tokenizer.decode)))
            else:
                _tell(session.send(line), as_json, console, approve, llm.loaded.name)


@app.command()
@takes(EngineConfig)
def demo(model: Model = None, adapters: Adapters = None, as_json: Json = False, **options: Any) -> None:
    """A batch over a shared prefix, a chat, samples: with the cache and without it; then the tree it leaves."""
    from stemma.terminal import demo as show

    with make_engine(model, adapters, options) as llm:
        cached, plain = show.run(llm, Console(stderr=True))
        if as_json:
            print(json.dumps(show.report(cached, plain, llm)))
        else:
            Console().print(show.show(cached, plain, llm))


@app.command()
@takes(
    ServerConfig,
    EngineConfig,
    without=OWN_OPTIONS,
    also=OTHER_FLAGS,
)
def serve(
    config: ConfigFile = None,
    model: Model = None,
    adapters: Adapters = None,
    loras: Loras = None,
    draft: Draft = None,
    api_key: ApiKeys = None,
    api_keys_file: ApiKeysFile = None,
    shared_prompts: SharedPrompts = None,
    **options: Any,
) -> None:
    """Serve a model over HTTP, to OpenAI's clients and others; the live cache is at /tree."""
    from stemma.server import serve

    served_as = server_config(options, config, api_key, api_keys_file, shared_prompts)
    with make_engine(model, adapters, fields_of(EngineConfig, options), by_name(loras or []), draft) as engine:
        name, scheme = served_as.model_name or engine.loaded.name, "https" if served_as.ssl_certfile else "http"
        Console(stderr=True).print(
            f"{escape(name)} at {scheme}://{served_as.host}:{served_as.port}/v1, the live cache at /tree; Ctrl-C stops"
        )
        serve(engine, served_as)


def main() -> None:
    """Run the command line; Stemma's own errors are one line on standard error and exit status 1."""
    try:
        app()
    except StemmaError as error:
        Console(stderr=True).print(f"[bold red]{type(error).__name__}[/bold red]: {escape(str(error))}", soft_wrap=True)
        sys.exit(1)


def _tell(reply: Any, as_json: bool, console: Console, approve: Any, model: str) -> None:
    """Show a reply as it comes, or all of it as a line of JSON."""
    try:
        if as_json:
            reply.result()
            calls = [
                {"name": made.call.name, "arguments": dict(made.call.arguments), "result": made.result}
                for made in reply.calls
            ]
            beside = {name: value for name, value in (("thoughts", reply.thoughts), ("calls", calls)) if value}
            print(json.dumps(_completion_json(reply.completion, model) | beside), flush=True)
            return
        for part in reply:
            console.print(part.thoughts, end="", style="dim", markup=False, highlight=False)
            print(part.text, end="", flush=True)
            if part.called is not None:
                approve.show(part.called)
        print()
        console.print(_figures(reply.completion), style="dim")
    except (ToolLimit, IncompleteOutput) as error:
        console.print(f"{type(error).__name__}: {error}; the turn is taken back", style="red", markup=False)


def _asked(**options: Any) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _read_line(console: Console) -> str:
    try:
        return input("> " if sys.stdin.isatty() else "").strip()
    except (EOFError, KeyboardInterrupt):
        return ""


def _completion_json(completion: Any, model: str) -> dict[str, Any]:
    return {
        "model": model,
        "text": completion.text,
        "tokens": list(completion.tokens),
        "finish_reason": completion.finish_reason,
        "usage": completion.usage._asdict(),
        "ttft_seconds": round(completion.timing.ttft, 4),
        "total_seconds": round(completion.timing.total, 4),
        "decode_tokens_per_second": _decode_speed(completion),
    }


def _decode_speed(completion: Any) -> float | None:
    seconds = completion.timing.total - completion.timing.ttft
    return round((len(completion.tokens) - 1) / seconds, 1) if len(completion.tokens) > 1 and seconds > 0 else None


def _figures(completion: Any) -> str:
    usage = completion.usage
    speed = _decode_speed(completion)
    return (
        f"{usage.cached_tokens} cached, "
        + (f"{usage.replayed_tokens} replayed, " if usage.replayed_tokens else "")
        + f"{usage.prefilled_tokens} prefilled, {usage.decoded_tokens} decoded, "
        f"{usage.jumped_tokens} jumped · first token {completion.timing.ttft * 1000:.0f} ms"
        + (f" · {speed} tokens/s" if speed else "")
    )

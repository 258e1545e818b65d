"""The command `stemma`. Each command is a few lines around what the layers below offer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console
from rich.markup import escape

from stemma.runtime.core.config import EngineConfig
from stemma.runtime.errors import IncompleteOutput, InvalidRequest, StemmaError, ToolLimit
from stemma.server.config import ServerConfig
from stemma.terminal.config_file import ServeFile, read_serve_file
from stemma.terminal.options import ToolOptions, fields_of, takes

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="A radix-tree prefix-caching runtime for language models.",
    pretty_exceptions_enable=False,
)
schema_commands = typer.Typer(no_args_is_help=True, help="Schemas as the runtime sees them.")
app.add_typer(schema_commands, name="schema")
cache_commands = typer.Typer(no_args_is_help=True, help="The prefix cache of a running server.")
app.add_typer(cache_commands, name="cache")

Model = Annotated[
    str | None, typer.Option(help="A .gguf file, a Hugging Face folder or hub id; SmolLM2-135M if left out.")
]
Adapters = Annotated[
    list[str] | None,
    typer.Option("--adapter", help="A LoRA to merge: a PEFT folder, .gguf file or hub id; may be given several times."),
]
Loras = Annotated[
    list[str] | None,
    typer.Option("--lora", help="NAME=SOURCE of a LoRA that requests name as their model; may be given several times."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
MaxTokens = Annotated[int, typer.Option(help="The most tokens to generate.")]
Temperature = Annotated[
    float | None, typer.Option(help="0 is greedy; left out, what the model's files recommend, else greedy.")
]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same tokens.")]
Url = Annotated[str, typer.Option(help="Where the server is.")]
Key = Annotated[str | None, typer.Option(help="An API key, if the server wants one.")]
Salt = Annotated[str | None, typer.Option(help="The cache_salt of the requests in question.")]
SavedAs = Annotated[str, typer.Argument(help="What the saved cache is called.")]
HERE = "http://127.0.0.1:8000"


def _from_file(context: typer.Context, path: Path | None) -> ServeFile:
    """What a file says is what the options say that are not given."""
    file = read_serve_file(path) if path is not None else ServeFile({})
    context.default_map = {**(context.default_map or {}), **file.options}
    return file


ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", is_eager=True, callback=_from_file, help="A TOML file with these options by their names."),
]


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
    as_json: Json = False,
    **options: Any,
) -> None:
    """Complete a prompt; the text is streamed, the figures follow on standard error."""
    with _engine(model, adapters, options) as llm:
        generation = llm.submit(prompt, max_tokens=max_tokens, seed=seed, **_asked(temperature=temperature))
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
    with offered(asked.tools, asked.mcp) as tools, _engine(model, adapters, fields_of(EngineConfig, options)) as llm:
        session = Chat(
            llm, system, tools=tools, max_rounds=asked.max_rounds, approve=approve, max_tokens=max_tokens,
            **_asked(temperature=temperature),
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

    with _engine(model, adapters, options) as llm:
        cached, plain = show.run(llm, Console(stderr=True))
        if as_json:
            print(json.dumps(show.report(cached, plain, llm)))
        else:
            Console().print(show.show(cached, plain, llm))


@app.command()
@takes(
    ServerConfig,
    EngineConfig,
    without=("api_keys", "shared_prompts"),
    also={
        "vllm_metric_names": "--vllm-metrics",
        "sglang_metric_names": "--sglang-metrics",
        "strict_fields": "--strict",
    },
)
def serve(
    config: ConfigFile = None,
    model: Model = None,
    adapters: Adapters = None,
    loras: Loras = None,
    api_key: Annotated[list[str] | None, typer.Option(help="NAME:KEY of a tenant; may be given several times.")] = None,
    api_keys_file: Annotated[Path | None, typer.Option(help="Lines of `name key` or `name key admin`.")] = None,
    shared_prompts: Annotated[
        Path | None, typer.Option(help="Beginnings of prompts that all keys share: JSON, or TOML.")
    ] = None,
    **options: Any,
) -> None:
    """Serve a model over HTTP, to OpenAI's clients and others; the live cache is at /tree."""
    from stemma.server import parse_api_keys, read_shared_prompts, serve

    file = cast(ServeFile, config)  # what the option's callback made of the path
    keys = parse_api_keys(api_key or [], api_keys_file) + (() if api_key else file.api_keys)
    shared = read_shared_prompts(shared_prompts) if shared_prompts is not None else file.shared_prompts
    served_as = ServerConfig(**fields_of(ServerConfig, options), api_keys=keys, shared_prompts=shared)
    with _engine(model, adapters, fields_of(EngineConfig, options), _by_name(loras or [])) as engine:
        name, scheme = served_as.model_name or engine.loaded.name, "https" if served_as.ssl_certfile else "http"
        Console(stderr=True).print(
            f"{escape(name)} at {scheme}://{served_as.host}:{served_as.port}/v1, the live cache at /tree; Ctrl-C stops"
        )
        serve(engine, served_as)


@cache_commands.command("tree")
def cache_tree(url: Url = HERE, key: Key = None, as_json: Json = False) -> None:
    """The radix tree: what is cached, how often it was hit, who holds it."""
    from stemma.terminal.remote import ask
    from stemma.terminal.tree import draw, of_report

    report = ask(url, "/cache/tree", key)
    if as_json:
        print(json.dumps(report))
    else:
        Console().print(draw(of_report(report)))


@cache_commands.command("explain")
def cache_explain(
    prompt: str, url: Url = HERE, key: Key = None, cache_salt: Salt = None, as_json: Json = False
) -> None:
    """How much of a prompt is cached, where the cache stops matching it, and why."""
    from stemma.terminal.remote import ask, show_explanation

    said = ask(url, "/cache/explain", key, _prefix(prompt, cache_salt))
    if as_json:
        print(json.dumps(said))
    else:
        Console().print(show_explanation(said))


@cache_commands.command("warm")
def cache_warm(prompt: str, url: Url = HERE, key: Key = None, cache_salt: Salt = None) -> None:
    """Have a prompt's KV computed now, so that the next request finds it."""
    from stemma.terminal.remote import ask

    print(json.dumps(ask(url, "/cache/warm", key, _prefix(prompt, cache_salt))))


@cache_commands.command("pin")
def cache_pin(
    prompt: str,
    ttl: Annotated[float, typer.Option(help="Seconds until the pin lets go.")] = 300.0,
    url: Url = HERE,
    key: Key = None,
    cache_salt: Salt = None,
) -> None:
    """Have a prompt's KV computed and kept for a while, whatever else comes."""
    from stemma.terminal.remote import ask

    print(json.dumps(ask(url, "/cache/pin", key, {**_prefix(prompt, cache_salt), "ttl": ttl})))


@cache_commands.command("save")
def cache_save(name: SavedAs = "cache", url: Url = HERE, key: Key = None) -> None:
    """Have a server write its cache, with the KV, to a file in its --cache-folder."""
    from stemma.terminal.remote import ask

    print(json.dumps(ask(url, "/cache/save", key, {"name": name})))


@cache_commands.command("load")
def cache_load(name: SavedAs = "cache", url: Url = HERE, key: Key = None) -> None:
    """Have a server put a saved cache back into its free blocks."""
    from stemma.terminal.remote import ask

    print(json.dumps(ask(url, "/cache/load", key, {"name": name})))


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


def main() -> None:
    """Run the command line; Stemma's own errors are one line on standard error and exit status 1."""
    try:
        app()
    except StemmaError as error:
        Console(stderr=True).print(f"[bold red]{type(error).__name__}[/bold red]: {escape(str(error))}")
        sys.exit(1)


def _engine(
    model: str | None, adapters: list[str] | None, options: dict[str, Any], loras: dict[str, str] | None = None
) -> Any:
    from stemma.runtime.engine import Engine
    from stemma.terminal.progress import progress

    with progress() as report:
        return Engine(model, adapters=adapters or (), loras=loras or {}, progress=report, **options)


def _by_name(given: list[str]) -> dict[str, str]:
    """Raises InvalidRequest for what is not NAME=SOURCE, and for a name that comes twice."""
    pairs = [text.partition("=") for text in given]
    named = {name: source for name, _, source in pairs}
    if not all(source for _, _, source in pairs) or len(named) < len(pairs):
        raise InvalidRequest("an adapter is given as NAME=SOURCE, each with a name of its own", "lora")
    return named


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


def _prefix(prompt: str, cache_salt: str | None) -> dict[str, str]:
    return {"prompt": prompt} | ({} if cache_salt is None else {"cache_salt": cache_salt})


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

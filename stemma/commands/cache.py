"""`stemma cache`: the prefix cache of a running server."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from stemma.commands.given import HERE, Json, Key, Salt, SavedAs, Url

cache_commands = typer.Typer(no_args_is_help=True, help="The prefix cache of a running server.")


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


def _prefix(prompt: str, cache_salt: str | None) -> dict[str, str]:
    return {"prompt": prompt} | ({} if cache_salt is None else {"cache_salt": cache_salt})

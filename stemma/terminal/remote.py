"""The cache of a running server, for `stemma cache`: one request, one answer. Knows the server's paths, no more."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from rich.console import Group
from rich.text import Text

from stemma.runtime.errors import StemmaError

TIMEOUT = 60.0
"""Seconds that an answer may take."""


class ServerUnreachable(StemmaError):
    """There is no server at the address, or it refuses the request."""


def ask(url: str, path: str, key: str | None, body: dict[str, Any] | None = None) -> Any:
    """GET a path, or POST a body to it, and return the JSON answer. Raises ServerUnreachable."""
    try:
        return json.loads(ask_text(url, path, key, body))
    except ValueError as error:
        raise ServerUnreachable(f"{url}{path} does not answer in JSON: {error}") from error


def ask_text(url: str, path: str, key: str | None, body: dict[str, Any] | None = None) -> str:
    """The same, as it is."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(url.rstrip("/") + path, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
            text: bytes = answer.read()
            return text.decode()
    except urllib.error.HTTPError as error:
        raise ServerUnreachable(f"{url} refuses: {error.code} {error.read().decode(errors='replace')}") from error
    except (OSError, ValueError) as error:
        raise ServerUnreachable(f"no server answers at {url} ({error}); start one with `stemma serve`") from error


def why_replayed(hit_len: int, match_len: int) -> str:
    """Of a model with windows or states."""
    return (
        f"{match_len} tokens match, and there is no mark between {hit_len} and {match_len}: "
        f"{match_len - hit_len} are computed again"
    )


def show_explanation(said: dict[str, Any]) -> Group:
    """How much of a prompt is cached, with the text around the place where the cache stops matching."""
    share = said["hit_len"] / max(said["num_tokens"], 1)
    head = Text(f"{said['hit_len']} of {said['num_tokens']} tokens are cached ({share:.0%}): ")
    head.append(said["explanation"], style="bold")
    place = Text("... ").append(said["matched_text"], style="green").append("│").append(said["next_text"], style="red")
    lines = [head, place] if said["match_len"] < said["num_tokens"] else [head]
    if said["match_len"] > said["hit_len"]:
        lines.append(Text(f"{why_replayed(said['hit_len'], said['match_len'])}", style="dim"))
    if said["expected"]:
        texts = ", ".join(repr(item["text"]) for item in said["expected"])
        lines.append(Text(f"the cache goes on with {texts}", style="dim"))
    if change := said.get("changed_turn"):
        lines.append(Text(f"turn {change['turn']} ({change['role']}): {change['reason']}", style="dim"))
    return Group(*lines)

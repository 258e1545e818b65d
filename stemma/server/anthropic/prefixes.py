"""`cache_control`: the prefixes that a request asks to be kept, found among its tokens, and kept as pins.

tools | system | turn | turn ... | block     | rest
               ^ 1h                          ^ 5m        of each time, the longest counts: it has the shorter ones in it
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from stemma.runtime.errors import EngineClosed, PromptTooLong
from stemma.server.anthropic.blocks import CacheControl
from stemma.server.anthropic.translation import Turn, messages_of, system_text
from stemma.server.anthropic.wire import CountTokensRequest, MessagesRequest
from stemma.server.generation.chats import ChatTurn, template_values
from stemma.server.generation.pins import Hint, hint
from stemma.server.http.errors import ApiError, bad_request
from stemma.server.prompts.beginnings import common_beginning
from stemma.server.wire.chat import Message

SECONDS = {"5m": 300.0, "1h": 3600.0}
MAX_BREAKPOINTS = 4


class Breakpoint(NamedTuple):
    """Where a prefix ends: behind a block of a turn; at turn -1, behind tools and system prompt."""

    turn: int
    block: int
    seconds: float


def breakpoints(body: CountTokensRequest, turns: Sequence[Turn]) -> list[Breakpoint]:
    """Those that the request has, in their order. Raises ApiError if there are too many."""
    found = [_at(-1, 0, tool.cache_control) for tool in body.tools or ()]
    if isinstance(body.system, list):
        found += [_at(-1, 0, block.cache_control) for block in body.system]
    for number, turn in enumerate(turns):
        found += [_at(number, place, _control(block)) for place, block in enumerate(turn.blocks)]
    if body.cache_control is not None and turns:
        found.append(_at(len(turns) - 1, len(turns[-1].blocks) - 1, body.cache_control))
    made = [one for one in found if one is not None]
    if len(made) > MAX_BREAKPOINTS:
        raise bad_request(
            f"a request may have {MAX_BREAKPOINTS} blocks with cache_control; this has {len(made)}", "cache_control"
        )
    return made


def _control(block: Any) -> CacheControl | None:
    return getattr(block, "cache_control", None)


def _at(turn: int, block: int, control: CacheControl | None) -> Breakpoint | None:
    return None if control is None else Breakpoint(turn, block, SECONDS[control.ttl or "5m"])


@dataclass(frozen=True, slots=True)
class Kept:
    """A prefix that will be kept: its length in tokens, and the hint for it."""

    num_tokens: int
    hint: Hint


def kept_prefixes(
    body: MessagesRequest, turns: Sequence[Turn], asked: Sequence[Breakpoint], turn: ChatTurn
) -> list[Kept]:
    """For each time, the longest prefix that there is room to keep; the shortest of all first. Takes a while, as the
    chat's beginnings are encoded."""
    made: dict[float, Kept] = {}
    if not turn.service.engine.config.prefix_cache:
        return []
    for one in reversed(asked):
        if one.seconds in made:
            continue
        num_tokens = _length(one, body, turns, turn)
        wanted = hint(turn.options, turn.prompt.tokens[:num_tokens], one.seconds)
        with suppress(EngineClosed):
            if num_tokens and turn.service.pins.has_room(turn.service.engine, wanted):
                made[one.seconds] = Kept(num_tokens, wanted)
    return sorted(made.values(), key=lambda kept: kept.num_tokens)


def _length(one: Breakpoint, body: CountTokensRequest, turns: Sequence[Turn], turn: ChatTurn) -> int:
    """Tokens of the prompt up to a breakpoint."""
    prompt = turn.prompt.tokens
    if one.turn == len(turns) - 1 and one.block == len(turns[-1].blocks) - 1:
        return len(prompt)
    if one.turn < 0:
        beginning = [*messages_of(system_text(body), []), Message(role="user", content=".")]
    else:
        last = Turn(turns[one.turn].role, turns[one.turn].blocks[: one.block + 1])
        beginning = messages_of(system_text(body), [*turns[: one.turn], last])
    prompter, values = turn.service.prompter, template_values(turn.body)
    with suppress(ApiError, PromptTooLong):  # a template that takes no chat of this beginning
        said = prompter.prompt(beginning, turn.tools.offered, turn.options["namespace"], values, "closed").tokens
        return len(common_beginning([said, prompt]))
    return 0

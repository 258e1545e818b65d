"""What a server is asked, as sessions: turns that follow each other, most often one. Texts are made of common words, in
the numbers that come to the tokens asked for; the server's own usage says how many they were."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from stemma.runtime.errors import InvalidRequest

Kind = Literal["random", "prefix", "chat"]
KINDS: tuple[Kind, ...] = get_args(Kind)

COMMON = """the of and to in is was for on that with as it by at from his are be this had not or but have an they which
one you were her all she there would their we him been has when who will more no if out so said what up its
about into than them can only other new some could time these two may then do first any my now such like our
over man me even most made after also did many before must through back years where much your way well down
should because each just those people how too little state good very make world still own see men work long get
here between both life being under never day same another know while last might us great old year off come since
against go came right used take three"""
WORDS = tuple(COMMON.split())


class Turn(NamedTuple):
    """text: what the user says. max_tokens: of the answer."""

    text: str
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Session:
    """One user's turns. system: what stands before all of them. at: seconds from the start, where a trace says so."""

    turns: Sequence[Turn]
    system: str = ""
    at: float | None = None


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a made workload.

    workload: random (nothing shared), prefix (families with a common beginning), chat (turns behind a system prompt).
    prompt_tokens: tokens that are new in each prompt, or each turn.
    output_tokens: tokens of each answer.
    spread: sizes vary by this share of themselves either way, uniformly.
    prefix_tokens: tokens of a common beginning.
    families: common beginnings of the workload prefix.
    turns: turns of each chat.
    seed: the same asks the same.
    """

    workload: Kind = "random"
    prompt_tokens: int = 512
    output_tokens: int = 128
    spread: float = 0.0
    prefix_tokens: int = 1024
    families: int = 4
    turns: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.workload not in KINDS:
            raise InvalidRequest(f"workload must be one of {', '.join(KINDS)}; it is {self.workload!r}", "workload")
        for name in ("prompt_tokens", "output_tokens", "prefix_tokens", "families", "turns"):
            if getattr(self, name) < 1:
                raise InvalidRequest(f"{name} must be at least 1", name)
        if not 0 <= self.spread < 1:
            raise InvalidRequest("spread must be at least 0 and below 1", "spread")


def make_sessions(shape: Shape, count: int, tokens_a_word: float) -> list[Session]:
    """So many sessions, the same for the same seed."""
    chance = random.Random(f"sessions of {shape.seed}")  # of numbers it would take the absolute value
    texts = Texts(chance, tokens_a_word)
    num_beginnings = {"random": 0, "prefix": shape.families, "chat": 1}[shape.workload]
    beginnings = [texts.of(shape.prefix_tokens) for _ in range(num_beginnings)] or [""]
    num_turns = shape.turns if shape.workload == "chat" else 1

    def size(tokens: int) -> int:
        return max(1, round(tokens * chance.uniform(1 - shape.spread, 1 + shape.spread)))

    return [
        Session(
            [Turn(texts.of(size(shape.prompt_tokens)), size(shape.output_tokens)) for _ in range(num_turns)],
            beginnings[at % len(beginnings)],
        )
        for at in range(count)
    ]


class Texts:
    """Texts of about so many tokens. tokens_a_word: of the server's tokenizer."""

    def __init__(self, chance: random.Random, tokens_a_word: float) -> None:
        self._chance = chance
        self._tokens_a_word = tokens_a_word

    def of(self, num_tokens: int) -> str:
        return " ".join(self._chance.choices(WORDS, k=max(1, round(num_tokens / self._tokens_a_word))))

"""The programs of SGLang's paper (Zheng et al. 2024, section 6) in this language, with made-up texts: programs.py."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, Field

import stemma

NOUNS = """river stone garden window market winter bridge letter forest candle harbour engine mirror valley orchard
ladder copper thunder meadow blanket captain kettle shadow pepper island button saddle lantern pocket velvet carpet"""
WORDS = NOUNS.split()
ACTS = "carries follows repairs watches paints remembers borrows measures answers hides opens weighs"
VERBS = ACTS.split()


class Shape(NamedTuple):
    """A program and its inputs. inputs: made anew for each seed, so that no round finds another's prompts cached."""

    name: str
    program: Any
    inputs: Callable[[random.Random], list[Any]]


def prose(chance: random.Random, num_words: int) -> str:
    """Sentences of made-up facts."""
    words: list[str] = []
    while len(words) < num_words:
        words += ["The", chance.choice(WORDS), chance.choice(VERBS), "the", chance.choice(WORDS) + "."]
    return " ".join(words[:num_words])


def question(chance: random.Random) -> str:
    options = "\n".join(f"{letter}. {prose(chance, 5)}" for letter in "ABCD")
    return f"Question: what does the {chance.choice(WORDS)} do?\n{options}\nAnswer:"


def shots(chance: random.Random, count: int) -> str:
    return "\n\n".join(f"{question(chance)} {chance.choice('ABCD')}" for _ in range(count)) + "\n\n"


@stemma.program
async def few_shot(s: stemma.State, given: tuple[str, str]) -> str:
    beginning, asked = given
    return await s.text(beginning + asked).gen(Literal[" A", " B", " C", " D"])


@stemma.program
async def select(s: stemma.State, given: tuple[str, str, list[str]]) -> str:
    beginning, asked, endings = given
    return await s.text(beginning + asked).select(endings)


@stemma.program
async def react(s: stemma.State, given: tuple[str, str, list[str]]) -> str:
    examples, asked, observations = given
    s.text(f"{examples}Question: {asked}\n")
    for step, observation in enumerate(observations):
        s.text(f"Thought {step}:")
        await s.gen(max_tokens=16, ignore_eos=True)
        s.text(f"\nAction {step}:")
        await s.gen(max_tokens=8, ignore_eos=True)
        s.text(f"\nObservation {step}: {observation}\n")
    return await s.text("Answer:").gen(max_tokens=8, ignore_eos=True)


@stemma.program
async def agents(s: stemma.State, given: tuple[str, list[str]]) -> str:
    persona, events = given
    s.text(f"{persona}\nWhat happened today, and what is done about it:\n")

    async def react_to(b: stemma.State, event: str) -> str:
        return await b.text(f"- {event} So").gen(max_tokens=16, ignore_eos=True)

    done = await s.fork(events, react_to)
    return await s.text("Plan: " + " ".join(done)).gen(max_tokens=16, ignore_eos=True)


@stemma.program
async def tree_of_thought(s: stemma.State, given: tuple[str, str]) -> str:
    examples, asked = given
    s.text(f"{examples}Problem: {asked}\n")

    async def think(b: stemma.State, number: int) -> tuple[stemma.State, int]:
        await b.text(f"Thought {number}:").gen(max_tokens=16, ignore_eos=True)
        valued = b.copy()
        value = await valued.text("\nHow good is it, from 1 to 5?").gen(Literal[" 1", " 2", " 3", " 4", " 5"])
        return b.copy(), int(value)

    best = s
    for _ in range(3):
        thought = await best.fork(range(3), think)
        best = max(thought, key=lambda pair: pair[1])[0]
    return await best.text("\nAnswer:").gen(max_tokens=8, ignore_eos=True)


@stemma.program
async def skeleton(s: stemma.State, given: tuple[str, str]) -> str:
    examples, asked = given
    s.text(f"{examples}Write about: {asked}\nThe skeleton has three points.\n")
    await s.gen(max_tokens=24, ignore_eos=True)

    async def expand(b: stemma.State, number: int) -> str:
        return await b.text(f"\nPoint {number}, in full:").gen(max_tokens=24, ignore_eos=True)

    return "\n".join(await s.fork(range(3), expand))


@stemma.program
async def judge(s: stemma.State, essay: str) -> str:
    s.system("You are a strict judge of essays. You are brief.").user(f"Essay:\n{essay}")

    async def one(b: stemma.State, dimension: str) -> str:
        return await b.user(f"Judge its {dimension}.").gen(max_tokens=12, ignore_eos=True)

    remarks = await s.fork(["clarity", "evidence", "style", "structure", "depth", "tone"], one)
    return await s.user("Sum up: " + " ".join(remarks)).gen(max_tokens=12, ignore_eos=True)


class Record(BaseModel):
    name: str = Field(max_length=20)
    kind: Literal["person", "place", "thing"]
    count: int = Field(ge=0, le=99)
    is_old: bool


@stemma.program
async def json_record(s: stemma.State, given: tuple[str, str]) -> Record:
    rules, text = given
    return await s.system(rules).user(text).gen(Record, max_tokens=60)


@stemma.program
async def chat(s: stemma.State, given: tuple[str, list[str], int]) -> str:
    system, turns, length = given
    s.system(system)
    said = ""
    for turn in turns:
        said = await s.user(turn).gen(max_tokens=length, ignore_eos=True)
    return said


@stemma.program
async def rag(s: stemma.State, given: tuple[str, str]) -> str:
    passages, asked = given
    s.system(f"Answer from these passages alone.\n{passages}")
    return await s.user(asked).gen(max_tokens=12, ignore_eos=True)


def _shots_and_questions(chance: random.Random, num_shots: int, count: int) -> list[tuple[str, str]]:
    beginning = shots(chance, num_shots)
    return [(beginning, question(chance)) for _ in range(count)]


def _endings(chance: random.Random) -> list[str]:
    return [f" {prose(chance, 9)}{number}" for number in range(4)]


def _chats(chance: random.Random, sessions: int, length: int) -> list[Any]:
    system = prose(chance, 150)
    return [(system, [prose(chance, 24) for _ in range(4)], length) for _ in range(sessions)]


def _questions_to_passages(chance: random.Random) -> list[Any]:
    made = [(passages, prose(chance, 10)) for passages in [prose(chance, 500) for _ in range(3)] for _ in range(5)]
    chance.shuffle(made)  # as they come in
    return made


def _with_examples(chance: random.Random, num_words: int, count: int) -> list[Any]:
    examples = prose(chance, num_words) + "\n"
    return [(examples, prose(chance, 20)) for _ in range(count)]


def _agents(chance: random.Random) -> list[Any]:
    village = prose(chance, 180)
    return [(f"{village} {prose(chance, 40)}", [prose(chance, 10) for _ in range(3)]) for _ in range(8)]


def _reacts(chance: random.Random) -> list[Any]:
    examples = prose(chance, 400) + "\n"
    return [(examples, prose(chance, 12), [prose(chance, 30) for _ in range(3)]) for _ in range(8)]


def _selects(chance: random.Random) -> list[Any]:
    return [(*pair, _endings(chance)) for pair in _shots_and_questions(chance, 10, 10)]


SHAPES = (
    Shape("few-shot", few_shot, lambda chance: _shots_and_questions(chance, 12, 20)),
    Shape("select of 4", select, _selects),
    Shape("ReAct agents", react, _reacts),
    Shape("generative agents", agents, _agents),
    Shape("tree of thought", tree_of_thought, lambda chance: _with_examples(chance, 300, 4)),
    Shape("skeleton of thought", skeleton, lambda chance: _with_examples(chance, 150, 6)),
    Shape("judge, 6 branches", judge, lambda chance: [prose(chance, 220) for _ in range(5)]),
    Shape("JSON", json_record, lambda chance: _with_examples(chance, 150, 12)),
    Shape("chat, short answers", chat, lambda chance: _chats(chance, 8, 8)),
    Shape("chat, long answers", chat, lambda chance: _chats(chance, 4, 64)),
    Shape("RAG", rag, _questions_to_passages),
)

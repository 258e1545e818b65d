"""What type checkers infer of the face: never run, only checked (test_examples.py)."""

from __future__ import annotations

import enum
from typing import Literal, assert_type

from pydantic import BaseModel

import stemma
from stemma.lang.chats.reply import Reply
from stemma.lang.programs.map import Mapped
from stemma.lang.programs.run import Run
from stemma.lang.values.partial import Part
from stemma.runtime.engine import Completion
from stemma.runtime.engine.forms import Answer


class Person(BaseModel):
    name: str


class Colour(enum.Enum):
    RED = "red"


@stemma.program
async def judge(s: stemma.State, essay: str, strict: bool = False) -> Person:
    return await s.user(essay).gen(Person)


@stemma.program
async def length(s: stemma.State, text: str) -> int:
    return len(text)


async def states(s: stemma.State) -> None:
    assert_type(await s.gen(), str)
    assert_type(await s.gen(max_tokens=3), str)
    assert_type(await s.gen(Person), Person)
    assert_type(await s.gen(Literal["a", "b"]), Literal["a", "b"])
    assert_type(await s.gen(int | None), int | None)
    assert_type(await s.gen(list[Person]), list[Person])
    assert_type(await s.gen(Colour), Colour)
    assert_type(await s.gen(bool), bool)
    assert_type(await s.gen(stemma.Regex("a+")), str)
    assert_type(await s.gen(stemma.Grammar('root ::= "a"')), str)
    assert_type(s.gen(Person), stemma.Gen[Person])
    assert_type(s.gen(int).result(), int)
    assert_type(await s.select(["a", "b"]), str)
    grade: Literal["A", "B"] = await s.select(["A", "B"])
    assert_type(grade, Literal["A", "B"])
    async for part in s.gen(Person):
        assert_type(part, Part[Person])
        assert_type(part.value, Person | None)

    async def one(b: stemma.State, item: int) -> Person:
        return await b.text(str(item)).gen(Person)

    assert_type(await s.fork([1, 2], one), list[Person])
    assert_type(await judge(s, "x", strict=True), Person)
    assert_type(s.user("x").assistant(), stemma.State)


async def programs(llm: stemma.Engine) -> None:
    assert_type(await judge.run(llm, "x", strict=True), Run[Person])
    assert_type(judge.run_sync(llm, essay="x").value, Person)
    assert_type(length.map(llm, ["x"]), Mapped[int])
    assert_type(await length.map(llm, ["x"]), list[Run[int]])
    assert_type(length.map(llm, ["x"]).result()[0].value, int)
    assert_type(judge.map(llm, [judge.call("x", strict=True)]), Mapped[Person])
    async for run in length.map(llm, ["x"]):
        assert_type(run, Run[int])


def mistakes(llm: stemma.Engine) -> None:
    judge.run_sync(llm, 7)  # type: ignore[arg-type]
    judge.run_sync(llm, "x", strikt=True)  # type: ignore[call-arg]
    length.map(llm, [7])  # type: ignore[list-item]
    judge.call(essay=7)  # type: ignore[arg-type]


def calls(llm: stemma.Engine) -> None:
    assert_type(llm.generate("x"), Completion)
    assert_type(llm.generate(["x"]), list[Completion])
    assert_type(llm.generate("x", form=Person), Answer[Person])
    assert_type(llm.generate("x", form=Person).value, Person)
    assert_type(llm.generate(["x"], form=Literal["y", "n"]), list[Answer[Literal["y", "n"]]])


async def chats(llm: stemma.Engine) -> None:
    chat = stemma.Chat(llm, system="x")
    assert_type(await chat.send("x"), str)
    assert_type(chat.send("x", Person).result(), Person)
    assert_type(chat.edit(0, "x"), Reply[str])
    assert_type(chat.fork(), stemma.Chat)


async def remote() -> None:
    with stemma.connect("http://127.0.0.1:8000") as there:
        assert_type(await stemma.State(there).user("x").gen(Person), Person)
        assert_type(there.generate("x", form=Person).value, Person)
        assert_type(there.generate(["x"]), list[Completion])
        assert_type((await judge.run(there, "x")).value, Person)
        assert_type(stemma.Chat(there).send("x").result(), str)

"""Values of types: from states, chats and engines, for a model that says random things. Whatever it says, they hold."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter, field_validator
from typing_extensions import TypedDict

from stemma.fsm.regex import Regex
from stemma.lang.chats.chat import Chat
from stemma.lang.programs.program import program
from stemma.lang.states.state import State
from stemma.runtime.engine.forms import form_of
from stemma.runtime.errors import BranchError, IncompleteOutput, InvalidOutput, InvalidRequest


class Grade(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Person(BaseModel):
    name: str = Field(max_length=6)
    age: int = Field(ge=0, le=150)
    grade: Grade


@dataclass
class Point:
    x: Annotated[int, Field(ge=0, le=9)]
    y: Annotated[int, Field(ge=0, le=9)]


class Size(TypedDict):
    width: Annotated[int, Field(ge=0, le=99)]


FORMS = [
    Person,
    Point,
    Size,
    Grade,
    Literal["yes", "no", "perhaps"],
    Literal[1, 2, "three"],
    bool,
    Annotated[int, Field(ge=0, le=99)],
    Annotated[list[bool], Field(max_length=3)],
    Point | Grade,
    None,
]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("seed", [1, 2])
def test_every_output_is_a_value_of_its_type(llm, form, seed):
    gen = State(llm).user("hi").gen(form, max_tokens=400, temperature=2.0, seed=seed)
    TypeAdapter(form).validate_python(gen.result())
    assert gen.completion.finish_reason == "stop"


def test_a_choice_is_said_as_it_stands(llm):
    gen = State(llm).user("hi").gen(Literal["yes", "no"])
    assert gen.result() == gen.completion.text in ("yes", "no")
    grade = State(llm).user("hi").gen(Grade)
    assert isinstance(grade.result(), Grade)
    assert grade.completion.text == grade.result().value
    number = State(llm).user("hi").gen(Literal[1, 2])
    assert number.result() in (1, 2)


def test_a_regex_gives_its_text(llm):
    assert State(llm).user("hi").gen(Regex("[a-c]{3}")).result().strip("abc") == ""


def test_an_output_cut_short_says_so(llm):
    s = State(llm).user("hi")
    gen = s.gen(Regex("[a-z]{50}"), max_tokens=10)
    with pytest.raises(IncompleteOutput, match="max_tokens") as cut:
        gen.result()
    assert len(cut.value.text) == 10


def test_a_type_that_json_cannot_hold_is_refused(llm):
    s = State(llm).user("hi")
    with pytest.raises(InvalidRequest):
        s.gen(type("Odd", (), {}))
    assert s.gen(bool).result() in (True, False)


def test_a_validator_that_says_no_is_heard(llm):
    class Never(BaseModel):
        flag: bool

        @field_validator("flag")
        @classmethod
        def refuse(cls, value: bool) -> bool:
            raise ValueError("never")

    with pytest.raises(InvalidOutput, match="never"):
        State(llm).user("hi").gen(Never).result()


async def test_a_value_in_a_program_and_an_error_in_a_branch(llm):
    @program
    async def ask(s: State) -> list[bool]:
        async def one(b: State, item: int) -> bool:
            return await b.user(f"{item}?").gen(bool)

        return await s.fork([1, 2, 3], one)

    run = await ask.run(llm)
    assert all(isinstance(value, bool) for value in run.value)
    assert run.usage.completion_tokens == run.usage.decoded_tokens + run.usage.jumped_tokens

    @program
    async def cut(s: State) -> list[str]:
        async def one(b: State, item: int) -> str:
            return await b.user(f"{item}?").gen(Regex("[a-z]{50}"), max_tokens=item)

        return await s.fork([3, 60], one)

    with pytest.raises(BranchError, match=r"one\[3\].*max_tokens"):
        await cut.run(llm)


def test_a_plan_of_a_program_with_forms():
    @program
    async def ask(s: State) -> str:
        person = await s.user("who?").gen(Person)
        assert isinstance(person, Person)
        assert await s.gen(Regex("a+"))
        word = await s.user("and?").gen(Literal["x", "y"])
        assert word == "x"
        return person.name + await s.user("so?").select(["a", "b"], by="mask")

    assert ask.plan().num_requests == 4


def test_an_answer_of_a_form_joins_its_chat(llm):
    with Chat(llm, "be brief") as chat:
        value = chat.send("yes or no?", Literal["yes", "no"]).result()
        assert chat.turns[0].answer == value
        assert isinstance(chat.send("true?", bool).result(), bool)


def test_select_by_mask_takes_one_of_the_options(llm):
    s = State(llm).user("which?")
    gen = s.select(["alpha", "beta"], by="mask")
    assert gen.result() in ("alpha", "beta")
    assert gen.scores == {}
    assert str(s) == gen.result()


def test_a_form_and_a_grammar_together_are_refused(llm):
    with pytest.raises(InvalidRequest, match="not both"):
        State(llm).user("x").gen(bool, grammar=Regex("a"))
    with pytest.raises(InvalidRequest, match="not both"):
        llm.generate("x", form=bool, grammar=Regex("a"))


# generate ----------------------------------------------------------------
def test_generate_with_a_form(llm):
    answer = llm.generate("who?", form=Person, max_tokens=400)
    assert answer.value == Person.model_validate_json(answer.text)
    assert answer.usage.completion_tokens == len(answer.completion.tokens)


def test_generate_many_with_a_form(llm):
    answers = llm.generate(["a", "b", "c"], form=Literal["yes", "no"])
    assert [answer.value for answer in answers] == [answer.text for answer in answers]
    assert [llm.generate(prompt, form=Literal["yes", "no"]).value for prompt in "abc"] == [a.value for a in answers]


def test_forms_of_equal_types_are_made_once():
    assert form_of(Person) is form_of(Person)
    assert form_of(list[int]) is form_of(list[int])


def test_a_form_of_a_type_that_cannot_be_hashed():
    form = form_of(Annotated[int, {"not": "hashable"}])
    assert form.value("7") == 7

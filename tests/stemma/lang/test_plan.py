"""Plans: the tree of prompts, sizes, and each lint where it should be and nowhere else."""

from __future__ import annotations

import enum
import itertools
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, TypedDict

import pytest
from pydantic import BaseModel

from stemma.lang.programs.placeholder import placeholder
from stemma.lang.programs.program import program
from stemma.lang.states.state import State
from stemma.runtime.errors import BranchError, InvalidRequest

RULES = "Judge strictly. Give reasons for each remark, never praise, and be brief in everything you write. " * 3
DIMENSIONS = ["clarity", "rigour", "style"]


def rules(plan) -> list[str]:
    return [lint.rule for lint in plan.lints]


@program
async def judge(s: State, essay: str) -> str:
    s.system(RULES).user(f"Essay: {essay}")

    async def one(b: State, dimension: str) -> str:
        return await b.user(f"Judge its {dimension}.").gen()

    texts = await s.fork(DIMENSIONS, one)
    return await s.user(" ".join(texts)).select(["A", "B"])


def test_a_plan_of_a_good_program():
    plan = judge.plan(essay=str)
    assert plan.lints == []
    assert plan.num_requests == 1 + 3 + 2
    assert plan.num_common > len(RULES)
    (root,) = plan.roots
    assert "⟨essay⟩" in root.text
    assert root.num_requests == 6
    assert plan.num_asked > 6 * len(RULES)
    assert len(RULES) < plan.num_computed < 2 * len(RULES)
    shown = str(plan)
    assert shown.startswith("judge: 6 requests")
    assert "*6" in shown
    assert "<pre>" in plan._repr_html_()


def test_the_tree_holds_every_prompt_once():
    plan = judge.plan("My essay.")

    def size(node):
        return len(node.text) + sum(map(size, node.children))

    assert sum(map(size, plan.roots)) == plan.num_computed
    assert "My essay." in plan.roots[0].text


def test_a_parameter_before_shared_text():
    @program
    async def late(s: State, essay: str) -> str:
        return await s.user(f"{essay}\n\n{RULES}").gen()

    plan = late.plan(essay=str)
    assert rules(plan) == ["parameter-before-shared"]
    assert "'essay'" in plan.lints[0].message
    assert rules(late.plan("some text")) == ["parameter-before-shared"]


def test_a_date_before_shared_text():
    @program
    async def dated(s: State) -> str:
        return await s.system(f"Today is {datetime.now():%Y-%m-%d}. {RULES}").user("go").gen()

    @program
    async def good(s: State) -> str:
        return await s.system(RULES).user(f"Today is {datetime.now():%Y-%m-%d}.").gen()

    assert rules(dated.plan()) == ["time-before-shared"]
    assert rules(good.plan()) == []


def test_text_that_differs_from_run_to_run():
    counter = itertools.count()

    @program
    async def unsteady(s: State) -> str:
        return await s.system(f"Session {next(counter)}. {RULES}").user("go").gen()

    assert rules(unsteady.plan()) == ["unsteady"]


def test_branches_that_end_alike():
    @program
    async def alike(s: State) -> list[str]:
        async def one(b: State, item: str) -> str:
            return await b.user(f"{item}: {RULES}").gen()

        return await s.system("x").fork(DIMENSIONS, one)

    assert rules(alike.plan()) == ["branches-end-alike"]


def test_a_space_where_the_model_goes_on():
    @program
    async def spaced(s: State) -> str:
        return await s.text("Question: why? Answer: ").gen()

    assert rules(spaced.plan()) == ["space-before-gen"]


def test_what_a_program_raises_in_a_dry_run_is_raised():
    @program
    async def failing(s: State) -> None:
        async def one(b: State, item: int) -> None:
            raise ValueError("no")

        await s.fork([1], one)

    with pytest.raises(BranchError, match=r"one\[1\]"):
        failing.plan()


def test_missing_parameters_get_placeholders_and_defaults():
    seen = {}

    @program
    async def taking(s: State, text: str, count: int, flag: bool = False) -> None:
        seen.update(text=text, count=count, flag=flag)

    taking.plan()
    assert seen == {"text": "⟨text⟩", "count": 1, "flag": False}
    taking.plan("given", count=7)
    assert seen == {"text": "given", "count": 7, "flag": False}


class Colour(enum.Enum):
    RED = "red"


class Model(BaseModel):
    name: str
    tags: list[str]
    child: Model | None = None


@dataclass(frozen=True)
class Point:
    x: float
    label: str


class Options(TypedDict):
    size: int


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        (str, "⟨v⟩"),
        (int, 1),
        (bool, True),
        (None, None),
        (Literal["a", "b"], "a"),
        (int | None, 1),
        (list[int], [1, 1]),
        (set[str], {"⟨v.0⟩", "⟨v.1⟩"}),
        (dict[str, int], {}),
        (tuple[int, str], (1, "⟨v.1⟩")),
        (tuple[int, ...], (1, 1)),
        (Annotated[int, "positive"], 1),
        (Colour, Colour.RED),
        (Point, Point(1.0, "⟨v.label⟩")),
        (Options, {"size": 1}),
    ],
)
def test_placeholders(form, expected):
    assert placeholder(form, "v") == expected


def test_placeholder_of_a_model_that_contains_itself():
    made = placeholder(Model, "v")
    assert made.name == "⟨v.name⟩"
    assert made.tags == ["⟨v.tags.0⟩", "⟨v.tags.1⟩"]
    assert made.child.name == "⟨v.child.name⟩"


def test_nothing_is_known_of_other_classes():
    with pytest.raises(InvalidRequest, match="give plan a value for v"):
        placeholder(type("Odd", (), {}), "v")

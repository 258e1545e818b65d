"""JSON-constrained calls: one value, many values, and a value that is shown while it is said.

python examples/extract_people.py
"""

from __future__ import annotations

import asyncio
from typing import Literal

from pydantic import BaseModel, Field

import stemma

REVIEWS = ["I loved every page.", "The worst film of the year.", "Great food, kind people."]
STORY = "Ada Lovelace was born in London in 1815. She wrote the first program and loved mathematics."


class Person(BaseModel):
    name: str = Field(max_length=40)
    born: int = Field(ge=0, le=2100)
    interests: list[str] = Field(max_length=3)


def classify(llm: stemma.Engine, reviews: list[str]) -> list[Literal["good", "bad"]]:
    prompts = [f"Review: {review}\nThe review is (good or bad): " for review in reviews]
    answers = llm.generate(prompts, form=Literal["good", "bad"])  # one batch; the common prefix is computed once
    return [answer.value for answer in answers]


async def extract(llm: stemma.Engine, text: str) -> Person:
    with stemma.State(llm, max_tokens=120) as s:
        person = s.user(f"Whom is this about? {text}").gen(Person)
        is_named = False
        async for part in person:  # closed fields are final, the open one is what was said so far
            if not is_named and part.value is not None and part.is_closed("name"):
                is_named = True
                print("name:", part.value.name)
        return await person


def main() -> None:
    with stemma.Engine() as llm:
        print(classify(llm, REVIEWS))
        print(asyncio.run(extract(llm, STORY)))


if __name__ == "__main__":
    main()

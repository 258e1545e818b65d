"""A multi-call program: an essay is judged in several dimensions at once, on one computed prefix, then graded.

python examples/judge_essays.py
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, Field

import stemma

DIMENSIONS = ["clarity", "evidence", "style"]
ESSAYS = [
    "Bees matter because they pollinate a third of what we eat. Without them harvests fall and prices rise.",
    "School should start later. I am tired in the morning, and my friends are tired too.",
]


class Score(BaseModel):
    comment: str = Field(max_length=80)
    score: int = Field(ge=0, le=10)


class Verdict(NamedTuple):
    scores: list[Score]
    summary: str
    grade: Literal["A", "B", "C"]


@stemma.program
async def judge(s: stemma.State, essay: str) -> Verdict:
    s.system("You are a strict judge of essays. You are brief.").user(f"Essay:\n{essay}")

    async def one(b: stemma.State, dimension: str) -> Score:
        return await b.user(f"Judge its {dimension}.").gen(Score, max_tokens=80)

    scores = await s.fork(DIMENSIONS, one)  # side by side; a failure cancels its siblings
    s.user("Sum up:\n" + "\n".join(score.comment for score in scores))
    summary = await s.gen(max_tokens=40, name="summary")
    grade = await s.user("Its grade?").gen(Literal["A", "B", "C"], name="grade")
    return Verdict(scores, summary, grade)


def main() -> None:
    print(judge.plan(essay=str))  # what it will ask, before anything is computed
    with stemma.Engine() as llm:
        run = judge.run_sync(llm, ESSAYS[0])
        print(run.value.grade, run.value.summary)
        print(run.report())
        for run in judge.map(llm, ESSAYS, progress=True):  # thousands, if need be
            print(run.value.grade if run.error is None else run.error)


if __name__ == "__main__":
    main()

"""A program for tests: it judges an essay by several dimensions at once, and gives a grade."""

from __future__ import annotations

from stemma.lang.programs.program import program
from stemma.lang.states.state import State

SYSTEM = "You judge essays by several dimensions, each on its own, and are brief. " * 3
DIMENSIONS = ["clarity", "rigour", "style", "wit"]


@program
async def judge(s: State, essay: str) -> dict[str, str]:
    """Judge an essay."""
    s.system(SYSTEM).user(f"Essay: {essay}")

    async def one(b: State, dimension: str) -> str:
        return await b.user(f"Judge its {dimension}.").assistant().gen(max_tokens=6, ignore_eos=True)

    judged = await s.fork(DIMENSIONS, one)
    grade = await s.user("Grade: " + " ".join(judged)).select(["good", "bad"], name="grade")
    return {**dict(zip(DIMENSIONS, judged, strict=True)), "grade": grade}

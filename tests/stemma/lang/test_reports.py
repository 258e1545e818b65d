"""Reports of programs: what each step used, and how long it took."""

from __future__ import annotations

import asyncio
import time

from stemma.lang.programs.program import program
from stemma.lang.states.state import State
from tests.stemma.lang.judging import DIMENSIONS, judge


async def test_a_report_tells_the_truth_about_every_step(llm):
    before = llm.stats().metrics.usage
    run = await judge.run(llm, "an essay")
    after = llm.stats().metrics.usage
    assert run.report().usage == run.usage
    assert (*after,) == (*(before + run.usage),)
    lines = str(run.report()).splitlines()
    assert lines[0].split() == ["cached", "prefilled", "decoded", "jumped", "ms"]
    assert lines[1].startswith("judge")
    assert [line.split("one[")[1].split("]")[0] for line in lines if "one[" in line] == [f"'{d}'" for d in DIMENSIONS]
    figures = lines[1].split()[1:5]
    usage = run.usage
    assert [int(figure) for figure in figures] == [
        usage.cached_tokens,
        usage.prefilled_tokens,
        usage.decoded_tokens,
        usage.jumped_tokens,
    ]


async def test_a_report_in_a_notebook_escapes_what_the_model_said(llm):
    s = State(llm).text("x")
    await s.gen(name="<b>", max_tokens=2)
    page = s.report()._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


async def test_a_report_as_plain_values(llm):
    report = (await judge.run(llm, "an essay")).report().as_dict()
    assert report["label"] == "judge"
    assert [child["kind"] for child in report["children"]] == ["prefill", *["branch"] * 4, "select"]
    assert report["seconds"] > 0


async def test_time_of_parallel_branches_is_wall_time(llm):
    async def sleepy(b: State, item: int) -> None:
        await asyncio.sleep(0.05)

    started = time.perf_counter()

    @program
    async def run_both(s: State) -> None:
        await s.fork(range(5), sleepy)

    run = await run_both.run(llm)
    seconds = [child.seconds for child in run.trace.children]
    assert len(seconds) == 5
    assert 0.05 <= min(seconds) <= max(seconds) <= run.seconds <= time.perf_counter() - started

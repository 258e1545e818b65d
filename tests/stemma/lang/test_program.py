"""Programs: forks with structured concurrency, one run, many runs; nothing leaks however they end."""

from __future__ import annotations

import asyncio
import re
import threading

import pytest

from stemma.lang.programs.program import program
from stemma.lang.states.state import State
from stemma.runtime.errors import BranchError, InvalidRequest, StateError
from tests.stemma.lang.judging import DIMENSIONS, SYSTEM, judge


class Trouble(Exception):
    """What the failing branches raise."""


async def test_a_program_runs_and_its_branches_share_their_prefix(llm):
    run = await judge.run(llm, "a short essay")
    assert list(run.value) == [*DIMENSIONS, "grade"]
    assert run.value["grade"] in ("good", "bad")
    (prefix, *branches, grade) = run.trace.children
    assert prefix.kind == "prefill"
    assert prefix.usage.prefilled_tokens == prefix.usage.prompt_tokens > len(SYSTEM)
    for name, branch in zip(DIMENSIONS, branches, strict=True):
        assert branch.label == f"one['{name}']"
        assert branch.usage.cached_tokens == 0  # its own; the step below has it
        assert branch.total_usage.cached_tokens >= prefix.usage.prompt_tokens - 1
    assert grade.label == "grade"
    assert llm.stats().cache.leased == 0


def test_run_sync_gives_what_run_gives(llm):
    assert judge.run_sync(llm, essay="x").value == asyncio.run(judge.run(llm, essay="x")).value


async def test_run_sync_inside_a_running_loop(llm):
    assert judge.run_sync(llm, "x").value == (await judge.run(llm, "x")).value


def test_it_keeps_its_name_and_its_docstring():
    assert judge.__name__ == "judge"
    assert judge.__doc__ == "Judge an essay."


async def test_a_program_calls_another(llm):
    @program
    async def both(s: State) -> list[str]:
        left = await judge(s.copy("left"), "one")
        right = await judge(s.copy("right"), "two")
        return [left["grade"], right["grade"]]

    run = await both.run(llm)
    assert len(run.value) == 2
    assert [child.label for child in run.trace.children] == ["left", "right"]


# failures ----------------------------------------------------------------
async def test_a_failing_branch_is_named_and_its_siblings_are_cancelled(llm):
    cancelled = []

    @program
    async def failing(s: State) -> None:
        s.system(SYSTEM)

        async def branch(b: State, item: str) -> str:
            if item == "bad":
                await b.user("a").gen(max_tokens=1)
                raise Trouble("no good")
            try:
                return await b.user(item).gen(max_tokens=1500, ignore_eos=True)
            except asyncio.CancelledError:
                cancelled.append(item)
                raise

        await s.fork(["one", "bad", "two"], branch)

    with pytest.raises(BranchError, match=r"branch\['bad'\]: Trouble: no good") as failed:
        await failing.run(llm)
    assert failed.value.branches == ("branch['bad']",)
    assert isinstance(failed.value.exceptions[0], Trouble)
    assert isinstance(failed.value.__cause__, Trouble)
    assert sorted(cancelled) == ["one", "two"]
    stats = llm.stats()
    assert stats.cache.leased == stats.num_running == stats.num_waiting == 0


async def test_an_except_star_catches_what_a_branch_raised(llm):
    async def branch(b: State, item: int) -> None:
        raise Trouble(str(item))

    caught = []
    try:
        await State(llm).text("x").fork([1, 2], branch)
    except* Trouble as group:
        caught = [str(error) for error in group.exceptions]
    assert caught[0] == "1"


async def test_nested_forks_name_the_whole_way(llm):
    async def inner(b: State, item: str) -> None:
        raise Trouble("deep")

    async def outer(b: State, item: int) -> None:
        await b.fork(["x"], inner)

    with pytest.raises(BranchError, match=r"outer\[7\]: failed in branch inner\['x'\]: Trouble: deep"):
        await State(llm).text("x").fork([7], outer)


async def test_an_engine_error_in_a_branch_is_named_too(llm):
    async def branch(b: State, max_tokens: int) -> str:
        return await b.gen(max_tokens=max_tokens)

    with pytest.raises(BranchError, match=r"branch\[1000000\]") as failed:
        await State(llm).text("x").fork([1, 10**6], branch)
    assert isinstance(failed.value.exceptions[0], InvalidRequest)


async def test_cancelling_a_program_cancels_everything(llm):
    started = asyncio.Event()

    @program
    async def endless(s: State) -> None:
        async def branch(b: State, item: int) -> str:
            started.set()
            return await b.text(str(item)).gen(max_tokens=1500, ignore_eos=True)

        await s.text(SYSTEM).fork(range(4), branch)

    task = asyncio.create_task(endless.run(llm))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    stats = llm.stats()
    assert stats.cache.leased == stats.num_running == stats.num_waiting == 0


async def test_a_value_left_unawaited_ends_with_its_program(llm):
    @program
    async def careless(s: State) -> int:
        s.user("hi").gen(max_tokens=1500, ignore_eos=True)
        return 1

    assert (await careless.run(llm)).value == 1
    stats = llm.stats()
    assert stats.num_running == stats.num_waiting == stats.cache.leased == 0


async def test_fork_runs_no_more_than_its_limit(llm):
    running, most = 0, 0

    async def branch(b: State, item: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return item * 2

    assert await State(llm).text("x").fork(range(9), branch, limit=2) == [2 * item for item in range(9)]
    assert most == 2


async def test_a_limit_must_be_positive(llm):
    async def branch(b: State, item: int) -> int:
        return item

    with pytest.raises(InvalidRequest):
        await State(llm).text("x").fork([1], branch, limit=0)


async def test_fork_of_nothing(llm):
    async def branch(b: State, item: int) -> int:
        return item

    assert await State(llm).text("x").fork([], branch) == []


async def test_a_state_under_way_cannot_be_forked(llm):
    async def branch(b: State, item: int) -> int:
        return item

    s = State(llm).text("x")
    gen = s.gen(max_tokens=2)
    with pytest.raises(StateError, match="under way"):
        await s.fork([1], branch)
    await gen


# many runs ----------------------------------------------------------------
@program
async def echo(s: State, number: int) -> int:
    if number % 7 == 3:
        raise Trouble(f"number {number}")
    await s.text(f"{number}").gen(max_tokens=1 + number % 3, ignore_eos=True)
    return number


def check(runs, count):
    assert [run.index for run in runs] == list(range(count))
    for number, run in enumerate(runs):
        if number % 7 == 3:
            assert isinstance(run.error, Trouble)
            with pytest.raises(Trouble, match=f"number {number}"):
                _ = run.value
        else:
            assert run.value == number


async def test_map_gives_all_runs_in_order_with_their_errors(llm):
    check(await echo.map(llm, range(100)), 100)


def test_map_from_plain_python(llm):
    check(echo.map(llm, range(30), concurrency=5).result(), 30)
    check(list(echo.map(llm, range(30), concurrency=5)), 30)


async def test_map_takes_inputs_as_it_needs_them_and_runs_only_so_many(llm):
    taken, running, most = [], 0, 0

    @program
    async def slow(s: State, number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return number

    def numbers():
        for number in range(1000):
            taken.append(number)
            yield number

    ahead = []
    async for run in slow.map(llm, numbers(), concurrency=3):
        assert run.value == run.index
        ahead.append(len(taken) - run.index)
    assert len(ahead) == 1000
    assert most == 3
    assert max(ahead) <= 13


async def test_leaving_map_early_cancels_the_rest(llm):
    @program
    async def long(s: State, number: int) -> str:
        return await s.text(f"{number}").gen(max_tokens=1 if number == 0 else 1500, ignore_eos=True)

    runs = aiter(long.map(llm, range(50), concurrency=8))
    assert (await anext(runs)).index == 0
    await runs.aclose()
    stats = llm.stats()
    assert stats.num_running == stats.num_waiting == stats.cache.leased == 0


def test_leaving_map_early_in_plain_python(llm):
    for run in echo.map(llm, range(1000), concurrency=2):
        assert run.index == 0
        break
    assert llm.stats().num_running == 0
    assert not [thread for thread in threading.enumerate() if thread.name == "stemma-program"]


def test_map_with_several_parameters_and_progress(llm):
    @program
    async def add(s: State, left: int, right: int = 0) -> int:
        return left + right

    seen = []
    calls = [add.call(number, right=1) for number in range(10)]
    runs = add.map(llm, calls, progress=lambda done, count: seen.append((done, count))).result()
    assert [run.value for run in runs] == list(range(1, 11))
    assert seen == [(done, 10) for done in range(1, 11)]


def test_map_draws_a_bar_and_takes_it_away(llm, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as in a terminal
    assert len(echo.map(llm, range(3), progress=True).result()) == 3
    drawn = capsys.readouterr().err
    assert "echo" in drawn
    assert re.search(r"\D3/3\D", drawn)
    assert drawn.rstrip().endswith("\x1b[2K")  # the line is erased


def test_a_thousand_instances_share_what_they_have_in_common(llm):
    @program
    async def short(s: State, number: int) -> str:
        return await s.text(SYSTEM).text(str(number)).gen(max_tokens=1)

    runs = short.map(llm, range(1000)).result()
    assert [run.error for run in runs] == [None] * 1000
    prefilled = sum(run.usage.prefilled_tokens for run in runs)
    assert prefilled < 70 * len(SYSTEM) + 1000 * 4


def test_concurrency_must_be_positive(llm):
    with pytest.raises(InvalidRequest):
        echo.map(llm, [1], concurrency=0)


async def test_what_only_branches_had_goes_first_and_what_they_share_does_not(llm):
    """The program goes on from the state that was forked: no branch will be asked for again."""
    s = State(llm, max_tokens=3, ignore_eos=True).system("They all have this, which is long enough to be shared. ")

    async def one(branch, item):
        branch.user(item)
        await branch.gen()
        branch.user("and then?")
        await branch.gen()
        return branch.tokens

    ends = await s.fork(["aa", "bb"], one)
    shared_len = len(s.tokens)

    def hints(cache):
        return {node.reuse_hint for node in cache.walk() if node.start >= shared_len}, [
            node.reuse_hint for node in cache.walk() if node.end <= shared_len
        ]

    beyond, before = llm.with_cache(hints)
    assert beyond == {0.0}
    assert before
    assert 0.0 not in before
    assert llm.with_cache(lambda cache: [cache.match(end).hit_len >= len(end) - 1 for end in ends]) == [True, True]
    s.release()


def test_what_is_no_async_function_is_told(llm):
    with pytest.raises(InvalidRequest, match="judge_at_once must be an `async def`") as refused:
        program(lambda_named("judge_at_once")).run_sync(llm)
    assert refused.value.param == "program"

    @program
    async def forks(s: State) -> list[str]:
        return await s.fork([1], lambda_named("one"))

    with pytest.raises(BranchError, match=r"one\[1\] must be an `async def`"):
        forks.run_sync(llm)


def lambda_named(name):
    def plain(*given):
        return "a text"

    plain.__name__ = name
    return plain

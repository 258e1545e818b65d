"""Ctrl-C, wherever a caller waits: what was waited for is cancelled; a timeout alone lets it go on."""

from __future__ import annotations

import asyncio
import signal
import threading
import time

import pytest
import torch

import stemma
from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny
from tests.stemma.server.live import live_server, wait_until

LONG = {"max_tokens": 1900, "ignore_eos": True}


@pytest.fixture(autouse=True)
def _ctrl_c_is_heard():
    """A shell starts what runs in the background so that it does not hear Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def llm():
    with Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=16384) as made:
        yield made


@stemma.program
async def tell(s: stemma.State, what: str) -> str:
    return await s.user(what).gen(**LONG)


def stream(parts):
    for _ in parts:
        time.sleep(0.01)


def with_remote(use):
    def run(llm):
        with live_server(llm) as live, stemma.connect(live.url) as remote:
            try:
                use(remote)
            finally:
                wait_until(lambda: llm.stats().num_running == 0, seconds=60)

    return run


WAITS = {
    "result": lambda llm: llm.submit("x", **LONG).result(),
    "timeout": lambda llm: llm.submit("x", **LONG).result(60),
    "iteration": lambda llm: stream(llm.submit("x", **LONG)),
    "generate": lambda llm: llm.generate("x", **LONG),
    "batch": lambda llm: llm.generate(["x", "y", "z"], **LONG),
    "sample": lambda llm: llm.sample("x", 3, temperature=1.0, **LONG),
    "asyncio": lambda llm: asyncio.run(tell.run(llm, "x")),
    "state": lambda llm: stemma.State(llm).user("x").gen(**LONG).result(),
    "state, timeout": lambda llm: stemma.State(llm).user("x").gen(**LONG).result(60),
    "state, iteration": lambda llm: stream(stemma.State(llm).user("x").gen(**LONG)),
    "chat": lambda llm: stemma.Chat(llm, **LONG).send("x").result(),
    "program": lambda llm: tell.run_sync(llm, "x"),
    "map": lambda llm: tell.map(llm, ["x", "y"]).result(),
    "map, iteration": lambda llm: stream(tell.map(llm, ["x", "y"])),
    "remote": with_remote(lambda remote: remote.submit([1, 2], **LONG).result()),
    "remote, generate": with_remote(lambda remote: remote.generate(["x", "y"], **LONG)),
    "remote, chat": with_remote(lambda remote: stemma.Chat(remote, **LONG).send("x").result()),
    "remote, program": with_remote(lambda remote: tell.run_sync(remote, "x")),
}


def interrupt_soon(llm: Engine) -> threading.Thread:
    """Ctrl-C, once something is being computed."""

    def press():
        wait_until(lambda: llm.stats().num_running > 0, seconds=60)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_ctrl_c_cancels_what_is_waited_for(llm, wait):
    num_aborted = llm.stats().metrics.num_finished.get("abort", 0)
    presser = interrupt_soon(llm)
    with pytest.raises(KeyboardInterrupt):
        wait(llm)
    presser.join()
    wait_until(lambda: llm.stats().num_running + llm.stats().num_waiting == 0, seconds=60)
    assert llm.stats().metrics.num_finished["abort"] > num_aborted
    assert llm.generate("x", max_tokens=2).tokens
    llm.with_cache(lambda cache: cache.check())


def test_a_timeout_lets_the_request_go_on(llm):
    generation = llm.submit("x", max_tokens=300, ignore_eos=True)
    with pytest.raises(TimeoutError, match="cancel"):
        generation.result(0)
    assert len(generation.result(1e12).tokens) == 300
    value = stemma.State(llm).user("x").gen(max_tokens=300, ignore_eos=True)
    with pytest.raises(TimeoutError):
        value.result(0)
    value.result()
    assert len(value.completion.tokens) == 300


async def test_a_coroutine_that_is_closed_cancels(llm):
    generation = llm.submit("x", **LONG)

    async def wait():
        await generation

    waiting = wait()
    waiting.send(None)
    waiting.close()
    assert (await asyncio.to_thread(generation.result, 60)).finish_reason == "abort"
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(other := llm.submit("x", **LONG), 0.01)
    assert (await asyncio.to_thread(other.result, 60)).finish_reason == "abort"


@stemma.program
async def leaves(s: stemma.State, what: str) -> str:
    raise SystemExit(what)


@stemma.program
async def leaves_in_a_branch(s: stemma.State, what: str) -> list[str]:
    async def one(branch: stemma.State, item: int) -> str:
        if item == 2:
            raise SystemExit(what)
        return await branch.user(str(item)).gen(**LONG)

    return await s.fork(range(4), one)


LEAVES = {
    "program": lambda llm: leaves.run_sync(llm, "bye"),
    "branch": lambda llm: leaves_in_a_branch.run_sync(llm, "bye"),
    "map": lambda llm: leaves_in_a_branch.map(llm, ["bye"] * 3, concurrency=2).result(),
    "map, iteration": lambda llm: stream(leaves_in_a_branch.map(llm, ["bye"] * 3, concurrency=2)),
    "remote": with_remote(lambda remote: leaves_in_a_branch.run_sync(remote, "bye")),
}


@pytest.mark.parametrize("leave", LEAVES.values(), ids=LEAVES)
def test_a_program_may_end_python(llm, leave):
    with pytest.raises(SystemExit, match="bye"):
        leave(llm)
    wait_until(lambda: llm.stats().num_running + llm.stats().num_waiting == 0, seconds=60)
    llm.with_cache(lambda cache: cache.check())

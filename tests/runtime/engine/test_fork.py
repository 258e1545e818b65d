"""Engines in a process that was forked after they were made: a typed error at once, never a wait without an end."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import asyncio, multiprocessing, os, sys, threading
import torch, stemma
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.select import select_ops
from stemma.runtime.engine import Engine
from stemma.runtime.errors import EngineForked
from stemma.runtime.model.tiny import tiny

ops = select_ops() if sys.argv[1] == "auto" else ReferenceOps(torch.device("cpu"))
llm = Engine.of(tiny(ops), kv_tokens=65536)
chat = stemma.Chat(llm, max_tokens=4)
chat.send("hi").result()
state = stemma.State(llm).user("x")
ended = llm.submit("hello", max_tokens=3)
ended.result()
running = llm.submit("hello", max_tokens=1000, ignore_eos=True)
iterated = iter(running)
next(iterated)
may_go_on = threading.Event()
llm._loop.post(may_go_on.wait)  # what runs is still running when the process is forked
value = state.copy().gen(max_tokens=9, ignore_eos=True)
hold = llm.hold()

async def wait(what):
    return await what

async def read(what):
    return [part async for part in what]

def first_of(generation):
    for delta in generation:
        return delta

USES = [
    lambda: llm.generate("x"), lambda: llm.generate(["x", "y"]), lambda: llm.generate("x", form=bool),
    lambda: llm.sample("x", 2), lambda: llm.submit("x"), lambda: llm.submit_all(["x"]), lambda: llm.hold(),
    lambda: llm.submit_samples("x", 2), lambda: llm.prepare(stemma.Regex("a+")), lambda: llm.stats(),
    lambda: llm.tree(), lambda: llm.explain([1]), lambda: llm.with_cache(id), lambda: llm.with_scheduler(id),
    lambda: llm.save_cache("x"), lambda: llm.load_cache("x"), lambda: Engine.of(llm.loaded, kv_tokens=65536),
    lambda: running.result(), lambda: running.result(60), lambda: next(iterated), lambda: first_of(running),
    lambda: running.cancel(), lambda: asyncio.run(wait(running)), lambda: asyncio.run(read(running)),
    lambda: chat.send("x"), lambda: chat.regenerate(), lambda: chat.edit(0, "x"), lambda: chat.fork(),
    lambda: stemma.Chat(llm), lambda: stemma.State(llm), lambda: state.gen(), lambda: state.copy(),
    lambda: state.prefill(), lambda: state.select(["a", "b"]), lambda: state.pinned(), lambda: state.explain(),
    lambda: value.result(), lambda: asyncio.run(wait(value)), lambda: hold.fork(),
]

def child():
    for number, use in enumerate(USES):
        try:
            said = use()
        except EngineForked as error:
            assert str(os.getppid()) in str(error), error
        else:
            raise AssertionError(f"use {number} said {said!r:.60}")
    assert ended.result().tokens == asyncio.run(wait(ended)).tokens
    assert llm.tokenizer.decode([104, 105]) == "hi"
    value.cancel()
    state.release()
    hold.release()
    llm.close()

if sys.argv[2] == "multiprocessing":
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0, process.exitcode
else:
    pid = os.fork()
    if pid == 0:
        child()
        sys.exit(0)  # with finalisers and what is registered for the exit
    assert os.waitpid(pid, 0)[1] == 0
may_go_on.set()
running.cancel()
assert running.result().tokens
assert llm.generate("x", max_tokens=2).tokens
"""

AGAIN = """
import os, sys, stemma
from stemma.kernels.select import select_ops
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny

def said():
    return Engine.of(tiny(select_ops()), kv_tokens=4096).generate("hello", max_tokens=8).tokens

wanted = said()
pid = os.fork()
if pid == 0:
    assert said() == wanted
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""


def run(script: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, timeout=100, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("backend", "way"), [("reference", "fork"), ("auto", "fork"), ("auto", "multiprocessing")])
def test_every_use_in_a_fork_says_so_at_once(backend: str, way: str) -> None:
    run(SCRIPT, backend, way)


def test_a_fork_may_make_an_engine_of_its_own() -> None:
    run(AGAIN)

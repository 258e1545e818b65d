"""Engines that nobody closes: threads and memory go with the last reference, and what runs still ends."""

from __future__ import annotations

import gc
import threading
import time
import weakref

import pytest
import torch

import stemma
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.select import select_ops
from stemma.runtime.engine import Engine
from stemma.runtime.errors import EngineClosed
from stemma.runtime.model.tiny import tiny

THREADS = ("stemma-engine", "_serve")


def new_engine(kind: str) -> Engine:
    ops = select_ops() if kind == "auto" else ReferenceOps(torch.device("cpu"))
    return Engine.of(tiny(ops), kv_tokens=4096)


def num_threads() -> int:
    return sum(any(name in thread.name for name in THREADS) for thread in threading.enumerate())


def parts_of(engine: Engine) -> list[weakref.ref]:
    kv = engine._loop.runner.memory.full
    memory = kv.memory if hasattr(kv, "memory") else kv.keys
    return [weakref.ref(part) for part in (engine, engine._loop, engine.loaded.model, engine.loaded.model.ops, memory)]


def wait_until_gone(parts: list[weakref.ref], threads: int) -> None:
    deadline = time.monotonic() + 30
    while any(part() is not None for part in parts) or num_threads() > threads:
        gc.collect()
        assert time.monotonic() < deadline, ([type(part()) for part in parts], threading.enumerate())
        time.sleep(0.01)


def use_grammar(engine: Engine) -> object:
    return engine.generate("x", grammar=stemma.Regex("[ab]{3}"), max_tokens=5)


def use_state(engine: Engine) -> object:
    state = stemma.State(engine).user("x")
    return state.gen(max_tokens=3).result()


def use_chat(engine: Engine) -> object:
    chat = stemma.Chat(engine, max_tokens=3)
    chat.send("x").result()
    return chat.fork().send("y").result()


def use_stream(engine: Engine) -> object:
    for delta in engine.submit("hello", max_tokens=500, ignore_eos=True):
        return delta
    raise AssertionError


def use_errors(engine: Engine) -> object:
    with pytest.raises(ValueError, match="temperature"):
        engine.generate("x", temperature=-1)
    return None


def use_program(engine: Engine) -> object:
    @stemma.program
    async def ask(s: stemma.State) -> str:
        return await s.user("x").gen(max_tokens=3)

    return ask.run_sync(engine).value


USES = (use_grammar, use_state, use_chat, use_stream, use_errors, use_program)


@pytest.mark.parametrize("kind", ["reference", "auto"])
@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
def test_an_engine_goes_with_its_last_reference(kind, use):
    threads = num_threads()
    engine = new_engine(kind)
    assert num_threads() > threads
    parts = parts_of(engine)
    kept = use(engine)
    del engine
    wait_until_gone(parts, threads)
    del kept


@pytest.mark.parametrize("is_closed", [False, True])
def test_an_idle_engine_is_gone_at_once(is_closed):
    """With one collection: of a closed one too, though its finaliser is called and whoever was answered goes then."""
    threads = num_threads()
    engine = new_engine("auto")
    done = engine.submit("x", max_tokens=2)
    done.result()
    parts = parts_of(engine)
    if is_closed:
        engine.close()
    del engine, done
    gc.collect()
    assert [part() for part in parts] == [None] * len(parts)
    assert num_threads() == threads


@pytest.mark.parametrize("kind", ["reference", "auto"])
def test_what_runs_ends_whole_and_then_all_goes(kind):
    threads = num_threads()
    engine = new_engine(kind)
    wanted = engine.generate("hello", max_tokens=200, ignore_eos=True).tokens
    parts = parts_of(engine)
    generation = engine.submit("hello", max_tokens=200, ignore_eos=True)
    unheard = engine.submit("hello", max_tokens=20)
    del engine, unheard
    assert generation.result().tokens == wanted
    wait_until_gone(parts, threads)
    assert generation.result().tokens == wanted
    generation.cancel()


def test_a_hold_keeps_no_engine_and_says_so():
    engine = new_engine("reference")
    parts, hold = parts_of(engine), engine.hold()
    engine.submit("hello", hold=hold, max_tokens=2).result()
    del engine
    wait_until_gone(parts, num_threads())
    with pytest.raises(EngineClosed):
        hold.fork()
    hold.release()


def test_a_closed_engine_that_is_kept_has_no_threads_of_its_own():
    threads = num_threads()
    engine = new_engine("reference")
    engine.close()
    assert num_threads() == threads
    with pytest.raises(EngineClosed):
        engine.generate("x")

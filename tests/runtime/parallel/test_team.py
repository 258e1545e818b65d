"""An engine on two processes: the same tokens, the same bits in each run, and nobody waits for a rank that is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stemma.runtime.engine import Engine
from stemma.runtime.errors import EngineClosed, EngineFailed, InvalidRequest
from stemma.runtime.parallel.group import RankLost
from tests.runtime.model.test_hugging_face import write_folder

PATIENCE = 60.0
SIZES = {"kv_tokens": 512, "block_size": 8, "max_chunk": 16, "max_batch_tokens": 32, "max_running": 8}
PROMPTS = ["the same prefix, then one thing", "the same prefix, then another", "something else"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def engine(folder):
    with Engine(folder, tensor_parallel=2, **SIZES) as made:
        yield made


def processes(engine: Engine) -> list[int]:
    return [process.pid for process in engine._loop.runner._others._processes]


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.timeout(300)
def test_two_ranks_generate_what_one_does(engine, folder):
    with Engine(folder, **SIZES) as alone:
        wanted = [alone.generate(prompt, max_tokens=12).tokens for prompt in PROMPTS]
    assert [each.tokens for each in engine.generate(PROMPTS, max_tokens=12)] == wanted
    assert [engine.generate(prompt, max_tokens=12).tokens for prompt in PROMPTS] == wanted, "behind what is cached"


def test_bits_do_not_depend_on_company_nor_on_the_cache(engine):
    asked = {"max_tokens": 6, "logprobs": 3, "temperature": 0.8, "seed": 5}
    alone = engine.generate(PROMPTS[0], namespace="cold", **asked)
    together = engine.generate([PROMPTS[0], *PROMPTS], namespace="cold", **asked)[0]
    assert together.usage.cached_tokens > 0
    assert [each.logprob for each in together.logprobs] == [each.logprob for each in alone.logprobs]


def test_branches_copy_blocks_on_all_ranks(engine):
    samples = engine.sample(PROMPTS[1], 3, max_tokens=10, temperature=1.0, seed=3)
    again = engine.sample(PROMPTS[1], 3, max_tokens=10, temperature=1.0, seed=3)
    assert [each.tokens for each in samples] == [each.tokens for each in again]
    engine.with_cache(lambda cache: cache.check())


def test_hidden_states_are_whole(engine, folder):
    with Engine(folder, **SIZES) as alone:
        one, two = alone.embed("some text"), engine.embed("some text")
    assert two.vector == pytest.approx(one.vector, abs=1e-4)


def test_what_needs_all_of_the_kv_is_refused(engine, tmp_path, tiny_loaded):
    calls = [
        lambda: engine.save_cache(tmp_path / "cache"),
        lambda: engine.load_cache(tmp_path / "cache"),
        lambda: Engine.of(tiny_loaded, tensor_parallel=2),
    ]
    for call in calls:
        with pytest.raises(InvalidRequest) as refused:
            call()
        assert refused.value.param == "tensor_parallel"


@pytest.mark.parametrize("ranks", [0, -1, 3])
def test_ranks_that_cannot_be_are_refused(folder, ranks):
    with pytest.raises(InvalidRequest) as refused:
        Engine(folder, tensor_parallel=ranks, **SIZES)
    assert refused.value.param == "tensor_parallel"


def test_a_rank_that_ends_is_told_to_all(folder):
    with Engine(folder, tensor_parallel=2, **SIZES) as engine:
        (pid,) = processes(engine)
        running = [engine.submit(prompt, max_tokens=400, ignore_eos=True) for prompt in PROMPTS]
        os.kill(pid, signal.SIGKILL)
        for generation in running:
            with pytest.raises(EngineFailed) as failed:
                generation.result(PATIENCE)
            assert isinstance(failed.value.__cause__, RankLost)
        with pytest.raises(EngineClosed):
            engine.generate("more", max_tokens=1)


def test_a_rank_ends_with_the_process_that_began_it(folder):
    program = f"""
import stemma, time
engine = stemma.Engine({str(folder)!r}, tensor_parallel=2, kv_tokens=512)
print(engine._loop.runner._others._processes[0].pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        pid = int(first.stdout.readline())
        assert is_there(pid)
        first.kill()
    deadline = time.monotonic() + PATIENCE
    while is_there(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_there(pid)


def test_closing_ends_the_ranks(folder):
    engine = Engine(folder, tensor_parallel=2, **SIZES)
    (pid,) = processes(engine)
    assert is_there(pid)
    engine.close()
    assert not is_there(pid)
    engine.close()

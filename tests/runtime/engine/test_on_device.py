"""Whatever an engine has computed is computed inside its back end's `on_device`, whichever thread asks for it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

import stemma.runtime.parallel.follower as follower
from stemma.fsm.regex import Regex
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.weights import StoredWeight
from stemma.runtime.core.config import EngineConfig
from stemma.runtime.engine import Engine
from stemma.runtime.model.load import read_checkpoint
from stemma.runtime.model.tiny import tiny
from stemma.runtime.planning import make_plan, measure_rates
from tests.runtime.handover.sides import enter, listening
from tests.runtime.model.test_hugging_face import write_folder

OUTSIDE = {"free_memory", "total_memory", "on_device"}


class Watched:
    """The reference, or a part of it, whose operations fail in a thread that is not inside. `seen`: who was inside."""

    def __init__(self, inner: Any, inside: threading.local | None = None, seen: set[str] | None = None) -> None:
        self._inner, self._inside = inner, threading.local() if inside is None else inside
        self.seen: set[str] = set() if seen is None else seen

    @contextmanager
    def on_device(self) -> Iterator[None]:
        before = getattr(self._inside, "depth", 0)
        self._inside.depth = before + 1
        self.seen.add(threading.current_thread().name)
        yield
        self._inside.depth = before

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name in OUTSIDE or isinstance(found, str | bool | torch.device | torch.dtype):
            return found
        if name in ("states", "rows"):
            return Watched(found, self._inside, self.seen)
        assert callable(found)

        def call(*given: Any, **named: Any) -> Any:
            assert getattr(self._inside, "depth", 0), f"{name} was called outside, in {threading.current_thread().name}"
            return found(*given, **named)

        return call


@pytest.fixture
def ops() -> Any:
    return Watched(ReferenceOps(torch.device("cpu")))


def test_a_call_outside_is_seen(ops: Any) -> None:
    weight = StoredWeight("F32", (2, 2), torch.eye(2).numpy())
    with ops.on_device():
        ops.linear([weight])
    with pytest.raises(AssertionError, match="linear was called outside"):
        ops.linear([weight])


@pytest.mark.parametrize("family", ["llama", "qwen3_next", "gemma3_text"])
def test_requests_of_all_kinds(ops: Any, family: str, tmp_path: Path) -> None:
    loaded = tiny(ops, family)
    with Engine.of(loaded, kv_tokens=1024, max_chunk=64) as engine:
        made = engine.generate(
            "some text", max_tokens=4, temperature=0.7, top_p=0.9, logprobs=2, prompt_logprobs=1, seed=1,
            repetition_penalty=1.1, grammar=Regex("[a-z]+"),
        )  # fmt: skip
        assert len(made.tokens) == 4
        assert len(engine.embed("some text").vector) == 64
        assert len(engine.sample("some text", 2, max_tokens=3, temperature=1.0)) == 2
        engine.save_cache(tmp_path / "cache")
        engine.load_cache(tmp_path / "cache")
        engine.explain(list(b"some text"))
    assert "stemma-engine" in ops.seen


def test_a_draft_model_on_a_device_of_its_own(ops: Any) -> None:
    other = Watched(ReferenceOps(torch.device("cpu")))
    with Engine.of(tiny(ops), draft=tiny(other, seed=1), kv_tokens=1024) as engine:
        assert len(engine.generate("aaaa aaaa aaaa", max_tokens=20).tokens) == 20
    assert "stemma-engine" in other.seen


def test_tiers_read_and_write_blocks_there(ops: Any, tmp_path: Path) -> None:
    with Engine.of(tiny(ops), kv_tokens=256, kv_disk=tmp_path) as engine:
        for _ in range(2):
            for seed in range(4):
                engine.generate([seed + 1] * 120, max_tokens=2)
            assert engine.tiering is not None
            assert engine.tiering.writer.drain(30)
        assert engine.stats().num_filled > 0


def test_prompts_that_another_engine_computes(ops: Any, tmp_path: Path) -> None:
    giving = Watched(ReferenceOps(torch.device("cpu")))
    with (
        Engine.of(tiny(giving), kv_tokens=1024) as far,
        Engine.of(tiny(ops), kv_tokens=1024) as engine,
        listening(tmp_path / "door", far),
    ):
        entrance = enter(engine, tmp_path / "door")
        assert len(engine.generate("text that comes from there", max_tokens=3).tokens) == 3
        entrance.close()


def test_a_plan_and_rates(ops: Any, tmp_path: Path) -> None:
    rates = measure_rates(ops, "F32")
    plan = make_plan(
        read_checkpoint(write_folder(tmp_path)), ops, EngineConfig(), rates, context=64, concurrency=1
    )  # fmt: skip
    assert plan.pool > 0


def test_a_rank_behind_the_first(ops: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two ranks in two threads: each is inside all the time."""
    from stemma.kernels.limits import StepLimits
    from stemma.runtime.model.load import Part, load
    from stemma.runtime.model.shards import Shard
    from stemma.runtime.parallel.messages import Allocate, Begin, Prepare

    class Alone:
        """Adds nothing up: what is computed means nothing."""

        rank = 1

        def __init__(self, *given: Any) -> None: ...

        def sum(self, rows: Any) -> Any:
            return rows

        def gather(self, rows: Any) -> Any:
            return rows

        def alone(self) -> Any:
            return nullcontext()

    folder = write_folder(tmp_path)
    shard = Shard(1, 2)
    part = load(folder, ReferenceOps(torch.device("cpu")), part=Part(shard, lambda division: Alone()))
    shape = part.config.memory_shape(4, 16)
    begin = Begin(str(folder), (), EngineConfig(tensor_parallel=2), shard, 0)
    messages = iter([begin, Allocate(shape, StepLimits()), Prepare()])
    monkeypatch.setattr(follower, "TorchGroup", Alone)
    monkeypatch.setattr(follower, "select_ops", lambda *given, **named: ops)
    monkeypatch.setattr(follower, "send", lambda *given: None)

    def receive(inbox: Any) -> Any:
        for message in messages:
            return message
        raise EOFError

    monkeypatch.setattr(follower, "receive", receive)
    with pytest.raises(EOFError):
        follower.follow(None, None)  # type: ignore[arg-type]
    assert ops.seen == {threading.current_thread().name}

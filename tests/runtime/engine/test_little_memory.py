"""A device without room for some steps: whoever needs too much is told, the others get what they get elsewhere, and a
device that fails for all ends the engine with advice."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.errors import EngineFailed, OutOfDeviceMemory
from stemma.runtime.model.tiny import tiny
from tests.runtime.lagging import Lagging


class LittleMemory(Lagging):
    """A device that works in its own time, with room for so many tokens and rows of logits at once. freed: how often it
    was asked to make room."""

    def __init__(self, most_tokens: int = 1 << 20, most_logits: int = 1 << 20, *, runs_ahead: bool = True) -> None:
        super().__init__()
        self.most_tokens, self.most_logits, self.freed = most_tokens, most_logits, 0
        self.illegal, self.runs_ahead = False, runs_ahead

    def free_unused(self) -> None:
        self.freed += 1

    def norm_linear(self, x: Any, norm: Any, linear: Any) -> Any:
        if self.illegal:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        if len(x) > self.most_tokens:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(x)} MiB")
        return super().norm_linear(x, norm, linear)

    def logits(self, x: Any, rows: Any, norm: Any, head: Any, softcap: float | None = None) -> Any:
        if len(rows) > self.most_logits:
            raise RuntimeError("CUDA error: out of memory")
        return super().logits(x, rows, norm, head, softcap)


PROMPTS = [list(range(1, 200)), [5] * 90, [7, 8, 9]]


@pytest.fixture(scope="module")
def expected() -> Any:
    with Engine.of(tiny(ReferenceOps(torch.device("cpu"), torch.float64)), kv_tokens=2048) as engine:
        made = engine.generate(PROMPTS, max_tokens=6)
        scored = engine.generate(PROMPTS[0], max_tokens=1, prompt_logprobs=2).prompt_logprobs
    return [each.tokens for each in made], scored


@pytest.mark.parametrize("runs_ahead", [False, True])
def test_steps_without_room_are_computed_in_parts_with_the_same_tokens(expected: Any, runs_ahead: bool) -> None:
    ops = LittleMemory(most_tokens=60, runs_ahead=runs_ahead)
    with Engine.of(tiny(ops), kv_tokens=2048) as engine:
        assert [each.tokens for each in engine.generate(PROMPTS, max_tokens=6)] == expected[0]
        engine.with_cache(lambda cache: cache.check())
        assert engine.stats().cache.leased == 0
    assert ops.freed > 0


def test_scores_of_a_prompt_are_the_same_in_parts(expected: Any) -> None:
    with Engine.of(tiny(LittleMemory(most_logits=60)), kv_tokens=2048) as engine:
        assert engine.generate(PROMPTS[0], max_tokens=1, prompt_logprobs=2).prompt_logprobs == expected[1]


def test_one_request_without_room_fails_by_itself(expected: Any) -> None:
    """A state's step is not parted: such a request needs too much, the others do not."""
    ops = LittleMemory(most_tokens=60)
    with Engine.of(tiny(ops, "qwen3_next"), kv_tokens=2048, max_chunk=512) as engine:
        large, *small = engine.submit_all([PROMPTS[0], PROMPTS[2], [3, 4]], max_tokens=4)
        with pytest.raises(OutOfDeviceMemory, match=r"memory_share.*max_chunk"):
            large.result()
        assert [len(each.result().tokens) for each in small] == [4, 4]
        assert len(engine.generate([1, 2, 3], max_tokens=2).tokens) == 2
        engine.with_cache(lambda cache: cache.check())
        assert engine.stats().cache.leased == 0


@pytest.mark.parametrize(("trouble", "advice"), [("illegal", "start it anew"), ("no room", "less memory_share")])
def test_what_fails_for_all_ends_the_engine_with_advice(trouble: str, advice: str) -> None:
    ops = LittleMemory()
    with Engine.of(tiny(ops), kv_tokens=2048) as engine:
        ops.illegal, ops.most_tokens = trouble == "illegal", 1 << 20 if trouble == "illegal" else 0
        with pytest.raises(EngineFailed, match=advice):
            engine.generate([1, 2, 3], max_tokens=2)

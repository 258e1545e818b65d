"""What steps are made of on a device, and what of its memory KV is given: the engine's share but for what a step takes.
The GPU is a number: the reference that says how much memory it has."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest
import torch

if find_spec("triton") is None:
    pytest.skip("triton has no build for this platform", allow_module_level=True)

from stemma.kernels.limits import StepLimits, Widths, step_bytes
from stemma.kernels.memory import MemoryShape
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.triton.cut import Cutting
from stemma.kernels.triton.keys import Room, pools_of, reserved_bytes
from stemma.runtime.core.config import EngineConfig, SettledConfig
from stemma.runtime.engine import Engine
from stemma.runtime.engine.reserve import reserve_of, widths_of
from stemma.runtime.engine.resources import memory_for_kv, room_of, settled, share_of_drafts
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model.tiny import tiny, tiny_config

GB = 10**9


class OnGPU(ReferenceOps):
    """Whose memory is that of a GPU, with so many bytes in all and so many free."""

    def __init__(self, total: int, free: int) -> None:
        super().__init__(torch.device("cpu"))
        self.total, self.free = total, free
        self.free_memory = lambda: self.free  # type: ignore[assignment]

    def total_memory(self) -> int:
        return self.total

    def reserve(self, shape: MemoryShape, num_heads: int, limits: StepLimits, widths: Widths) -> int:
        """As on such a GPU, with tiles of 16 and 128 rows."""
        cutting = Cutting(num_heads // shape.full.num_kv_heads, 16, 128, 256, shape.full.block_size)
        pools = pools_of(shape, [cutting])
        return reserved_bytes(Room.of(limits, pools, has_states=False), pools, widths, limits, 2)


def sizes(config: EngineConfig) -> tuple[int, int, int]:
    assert isinstance(config, SettledConfig)
    return config.max_running, config.max_batch_tokens, config.max_chunk


@pytest.mark.parametrize(
    ("options", "total", "wanted"),
    [
        ({}, None, (64, 1024, 512)),
        ({}, 24 * GB, (64, 1024, 512)),
        ({}, 80 * GB, (256, 8192, 8192)),
        ({"max_running": 7}, 80 * GB, (7, 8192, 8192)),
        ({"max_running": 5000}, None, (5000, 5000, 512)),
        ({"max_batch_tokens": 32}, None, (32, 32, 512)),
        ({"max_batch_tokens": 2048, "max_chunk": 128}, 80 * GB, (256, 2048, 128)),
    ],
)
def test_what_is_not_said_is_set_by_the_device(options: Any, total: int | None, wanted: tuple[int, int, int]) -> None:
    ops = ReferenceOps(torch.device("cpu")) if total is None else OnGPU(total, total)
    config = EngineConfig(**options)
    assert sizes(settled(config, ops)) == wanted
    assert settled(settled(config, ops), OnGPU(80 * GB, 0)) == settled(config, ops), "settled once"


def test_an_engine_says_what_it_took() -> None:
    with Engine.of(tiny(OnGPU(80 * GB, GB)), kv_tokens=256) as engine:
        assert sizes(engine.config) == (256, 8192, 8192)
        assert engine._loop.scheduler.limits.max_running == 256


def test_kv_and_the_largest_step_are_the_share() -> None:
    model, ops = tiny_config("llama"), OnGPU(80 * GB, 10 * GB)
    config = settled(EngineConfig(memory_share=0.5), ops)
    assert memory_for_kv(config, model, ops) + reserve_of(config, model, ops) == 5 * GB
    assert reserve_of(replace(config, max_batch_tokens=1024), model, ops) < reserve_of(config, model, ops)


def test_the_second_of_two_engines_is_given_its_share_of_what_is_left() -> None:
    model, ops = tiny_config("llama"), OnGPU(80 * GB, 40 * GB)
    config = settled(EngineConfig(memory_share=0.4, context_length=2048), ops)
    first = memory_for_kv(config, model, ops)
    ops.free -= first + reserve_of(config, model, ops)
    second = memory_for_kv(replace(config, memory_share=0.9), model, ops)
    assert 0 < ops.free - second - reserve_of(config, model, ops) < ops.free // 9


def test_a_llama_of_8b_leaves_room_for_what_the_review_reckoned() -> None:
    """Activations of 8,192 tokens; logits in bfloat16 and in float32 of 512 scored rows beside 256 others, and of these
    in the buffer of graphs and in a copy that is changed; partial sums."""
    sizes = {"hidden": 4096, "intermediate": 14_336, "num_heads": 32, "num_kv_heads": 8, "head_dim": 128}
    model = replace(tiny_config("llama"), vocab_size=128_256, context_length=8192, **sizes)  # type: ignore[arg-type]
    ops = OnGPU(80 * GB, 0)
    config = settled(EngineConfig(), ops)
    logits, partials = (768 * 6 + 256 * 8) * 128_256, 8192 * 32 * 130 * 4
    assert logits + partials < reserve_of(config, model, ops) < 3 * GB
    assert widths_of(model).inner == 14_336


def test_a_draft_models_steps_and_pool_are_left_room_for() -> None:
    """Of the same bytes a block, its pool may be as large as a quarter; a smaller one's has as many blocks."""
    model, small = tiny_config("llama"), replace(tiny_config("llama"), num_layers=1)
    config, ops = EngineConfig(max_running=64, block_size=16), OnGPU(80 * GB, 2 * GB)
    whole = memory_for_kv(settled(config, ops), model, ops)
    left = memory_for_kv(settled(config, ops), model, ops, small)
    assert whole - left == reserve_of(settled(config, ops), small, ops)
    assert share_of_drafts(100, 100) == share_of_drafts(0, 7) == 0.25
    assert share_of_drafts(90, 10) == 0.1
    alone, beside = (room_of(config, model, ops, draft).shape.full.num_blocks for draft in (None, small))
    assert beside <= alone


def test_experts_take_rows_of_their_own() -> None:
    """Of each token as many as compute it: two matrices' outputs, what they are gated to, and a row of the stream."""
    model = replace(tiny_config("qwen3_moe"), intermediate=0)
    assert model.experts is not None
    one, spec = widths_of(model), model.experts.spec
    twice = replace(model, experts=replace(model.experts, spec=replace(spec, top_k=2 * spec.top_k)))
    limits = StepLimits(8, 100, 64)
    more = step_bytes(limits, widths_of(twice), 0, 2) - step_bytes(limits, one, 0, 2)
    assert more >= 100 * spec.top_k * (2 * model.experts.intermediate + model.hidden) * 2


def test_a_card_without_room_says_what_to_change() -> None:
    with pytest.raises(InvalidRequest, match="memory_share") as refused:
        room_of(EngineConfig(), tiny_config("llama"), OnGPU(80 * GB, 1 << 20))
    assert refused.value.param == "memory"


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 2.0])
def test_a_share_is_between_nothing_and_all(share: float) -> None:
    with pytest.raises(InvalidRequest, match="memory_share"):
        EngineConfig(memory_share=share)

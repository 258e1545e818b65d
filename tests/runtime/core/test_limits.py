"""Limits of a step are what an engine's options say."""

from __future__ import annotations

from stemma.runtime.core.config import EngineConfig
from stemma.runtime.core.limits import Limits
from stemma.runtime.engine.resources import make_scheduler, room_of


def test_every_limit_comes_from_an_option(tiny_loaded):
    config = EngineConfig(
        kv_tokens=1024, max_running=3, max_batch_tokens=77, max_chunk=33, prefix_cache=False, jump_forward=False,
        schedule_policy="dfs", tpot_ms=20.0,
    )  # fmt: skip
    scheduler = make_scheduler(config, room_of(config, tiny_loaded.config, tiny_loaded.model.ops))
    assert scheduler.limits == Limits(3, 77, 33, reuse=False, jump_forward=False, order="dfs", tpot=0.02)

"""What lies beneath the cache is told with its medium, and only what this engine could use."""

from __future__ import annotations

import pytest

pytest.importorskip("zmq", reason="pyzmq is not installed")

import numpy as np

from stemma.kernels.select import select_ops
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny
from stemma.runtime.tiers.records import key_of, seal
from stemma.scale.events import Publisher
from tests.stemma.scale.events.worlds import following, options

OF_ANOTHER = key_of(bytes(16), b"another model's.")


def prompt(seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 256, 160).tolist()


@pytest.fixture(scope="module")
def model():
    return tiny(select_ops("cpu", "cpu"))


def on_disk(engine: Engine) -> set[bytes]:
    (disk,) = engine.tiering.stack.near
    keys = disk.keys()
    return {key[16:] for key in keys if key != OF_ANOTHER}


def told_of(mirror, medium: str) -> set[bytes]:
    return {name for name, block in mirror.blocks.items() if any(tier[0] == medium for tier in block.tiers)}


@pytest.mark.parametrize("room", [1.0, 60e-6], ids=["all fit", "the oldest go"])
def test_what_is_on_disk_is_told_and_what_goes_is_too(model, tmp_path, room) -> None:
    with Engine.of(model, kv_tokens=512, kv_disk=tmp_path, kv_disk_gb=room) as engine:
        engine.generate(prompt(0), max_tokens=1)
        assert engine.tiering.writer.drain(30)
        (disk,) = engine.tiering.stack.near
        disk.put([(OF_ANOTHER, seal(OF_ANOTHER, b"its bytes"))])
        with Publisher(engine.with_cache, options(hashes="bytes")) as publisher:
            engine.tiering.watch(publisher.tier)
            with following(publisher.endpoint, publisher.replay) as follower:
                for seed in range(1, 8):
                    engine.generate(prompt(seed), max_tokens=1)
                assert engine.tiering.writer.drain(30)
                follower.follow_until(lambda: told_of(follower.mirror, "STORAGE") == on_disk(engine))
                cached = sum(1 for _ in told_of(follower.mirror, "GPU"))
                assert cached < len(on_disk(engine)) or room < 1, "the pool has no room for all of them"
                assert OF_ANOTHER[16:] not in follower.mirror.blocks
                assert len(on_disk(engine)) == 8 * 10 or room < 1

from __future__ import annotations

import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny


@pytest.fixture(scope="session")
def loaded():
    """A tiny model in float64, so that no matrix product's last bit depends on the batch."""
    return tiny(ReferenceOps(torch.device("cpu"), torch.float64))


@pytest.fixture
def make(loaded):
    """Engines that are closed, and whose blocks must all have come back, when the test ends."""
    engines = []

    def build(**options):
        engine = Engine.of(loaded, **{"kv_tokens": 4096, **options})
        engines.append(engine)
        return engine

    yield build
    for engine in engines:
        stats = engine.stats()
        assert stats.num_running == stats.num_waiting == 0
        assert stats.cache.leased == 0
        assert stats.cache.free + stats.cache.cached == stats.cache.total
        engine.with_cache(lambda cache: cache.check())
        engine.close()

from __future__ import annotations

import gc

import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.pull import default_model
from stemma.runtime.model.tiny import tiny


@pytest.fixture(scope="session")
def loaded():
    """A tiny model in float64, so that no matrix product's last bit depends on the batch."""
    return tiny(ReferenceOps(torch.device("cpu"), torch.float64))


@pytest.fixture(scope="session")
def real():
    """The real model, for what people read and run: examples and pages."""
    with Engine(default_model(), kv_tokens=8192) as engine:
        yield engine
        gc.collect()
        assert engine.stats().cache.leased == 0


@pytest.fixture
def make(loaded):
    """Engines whose blocks must all have come back, and which must be idle, when the test ends."""
    engines = []

    def build(**options):
        engine = Engine.of(loaded, **{"kv_tokens": 16384, **options})
        engines.append(engine)
        return engine

    yield build
    gc.collect()
    for engine in engines:
        stats = engine.stats()
        assert stats.cache.leased == 0
        assert stats.num_running == stats.num_waiting == 0
        engine.with_cache(lambda cache: cache.check())
        engine.close()


@pytest.fixture
def llm(make):
    return make()

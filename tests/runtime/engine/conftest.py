from __future__ import annotations

import pytest

from stemma.kernels.select import select_ops
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny


@pytest.fixture(scope="session", params=["reference", "auto"])
def loaded(request, tiny_loaded):
    """A tiny model on the reference in float64, and on the back end that this machine's users get."""
    return tiny_loaded if request.param == "reference" else tiny(select_ops())


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

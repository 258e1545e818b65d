"""Engines on a pretended GPU: their loops run in threads of their own, which must be `here` too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from gpu_pretended import PretendedGPU


@contextmanager
def loops_on(gpu: PretendedGPU) -> Iterator[None]:
    """The loops of engines that are made inside compute on this GPU, to their end."""
    from stemma.runtime.engine.loop import EngineLoop  # of whichever build is measured

    run = EngineLoop._run

    def run_here(loop: EngineLoop) -> None:
        with gpu.here():
            run(loop)

    with patch.object(EngineLoop, "_run", run_here):
        yield

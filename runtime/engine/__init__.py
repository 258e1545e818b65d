"""The step loop behind a face for plain Python and asyncio."""

from stemma.runtime.core.config import EngineConfig, EngineOptions
from stemma.runtime.engine.engine import Engine
from stemma.runtime.engine.generation import Completion, Delta, Generation, Timing
from stemma.runtime.engine.hold import Hold
from stemma.runtime.engine.metrics import EngineStats, Metrics
from stemma.runtime.engine.options import RequestOptions
from stemma.runtime.engine.saving import CacheFile

__all__ = [
    "CacheFile",
    "Completion",
    "Delta",
    "Engine",
    "EngineConfig",
    "EngineOptions",
    "EngineStats",
    "Generation",
    "Hold",
    "Metrics",
    "RequestOptions",
    "Timing",
]

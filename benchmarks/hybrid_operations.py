"""Where the time of a model with states goes, operation by operation: `hybrid.py --part operations`.

Steps of a model of `hybrid_models.py` without an engine: 2,000 tokens in chunks of 512, then 32 single tokens; a turn
of 32 tokens behind them. Seconds are those of all threads' CPUs, so they mean something on a busy machine; `ours` is an
operation's in milliseconds of the whole, `peer` all operations', ratio its share.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from hybrid_models import SHAPES, write

from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.memory import allocate, make_plans
from stemma.kernels.ops import AttentionMetadata
from stemma.kernels.states import ZEROS, StateMetadata
from stemma.runtime.model.load import LoadedModel, load

BLOCK = 16
PROMPT, CHUNK, TURN, DECODED = 2000, 512, 32, 32
NUM_BLOCKS = -(-(PROMPT + TURN + DECODED) // BLOCK)
UNTIMED = ("executor", "recorded", "replay", "linear", "embedding", "norm", "layer_norm", "rope", "kv", "allocate")
Rows = list[dict[str, Any]]


class Watch:
    """Adds up the CPU time of each operation of a back end, once it is put on."""

    def __init__(self, ops: CpuOps) -> None:
        self.seconds: dict[str, float] = {}
        for place in (ops, ops.states):
            for name in dir(type(place)):
                if not name.startswith("_") and name not in UNTIMED and callable(getattr(type(place), name)):
                    setattr(place, name, self._timed(name, getattr(place, name)))

    def _timed(self, name: str, operation: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            started = time.process_time()
            result = operation(*arguments, **options)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - started
            return result

        return timed


class Sequence:
    """One sequence in a memory of its own; its state goes from slot to slot."""

    def __init__(self, loaded: LoadedModel) -> None:
        self.model, self.position = loaded.model, 0
        shape = loaded.config.memory_shape(NUM_BLOCKS, BLOCK, num_slots=2)
        assert shape.window is None, "these shapes have no windows"
        self.memory = allocate(loaded.model.ops, shape)
        self.random = np.random.default_rng(0)

    def step(self, length: int) -> None:
        """Compute as many random tokens, and the logits behind the last."""
        positions = np.arange(self.position, self.position + length, dtype=np.int32)
        source = ZEROS if not self.position else self.position % 2
        self.position += length
        pieces = ([0, 1], [0, length], [source], [1 - max(source, 0)])
        metadata = AttentionMetadata(
            positions, positions, np.array([0, length], dtype=np.int32), np.array([self.position], dtype=np.int32),
            np.arange(NUM_BLOCKS, dtype=np.int32)[None], states=StateMetadata(*(np.array(p, np.int32) for p in pieces)),
        )  # fmt: skip
        ids = self.random.integers(1000, 40_000, length).astype(np.int32)
        hidden = self.model.forward(ids, make_plans(self.model.ops, metadata, self.memory), self.memory)
        self.model.logits(hidden, np.array([length - 1], dtype=np.int32))


def phases(loaded: LoadedModel) -> dict[str, Callable[[], None]]:
    """What is measured, in this order."""
    sequence = Sequence(loaded)

    def prefill() -> None:
        for start in range(0, PROMPT, CHUNK):
            sequence.step(min(CHUNK, PROMPT - start))

    def decode() -> None:
        for _ in range(DECODED):
            sequence.step(1)

    return {"prefill of 2,000": prefill, "turn of 32": lambda: sequence.step(TURN), "decode of 32": decode}


def run(options: argparse.Namespace) -> tuple[Rows, dict[str, str]]:
    """A row for each operation of each phase, the longest first."""
    torch.set_num_threads(options.threads)
    rows: Rows = []
    for shape in options.shapes.split(","):
        loaded = load(write(SHAPES[shape]), CpuOps(num_threads=options.threads))
        for phase in phases(loaded).values():  # kernels are compiled, pages are touched
            phase()
        watch = Watch(loaded.model.ops)  # type: ignore[arg-type]
        for name, phase in phases(loaded).items():
            watch.seconds.clear()
            started = time.process_time()
            phase()
            whole = time.process_time() - started
            seconds = watch.seconds | {"the rest": whole - sum(watch.seconds.values())}
            for operation, value in sorted(seconds.items(), key=lambda entry: -entry[1]):
                rows.append({
                    "case": f"{shape} {name}", "metric": f"{operation}, ms", "ours": 1000 * value, "peer": 1000 * whole,
                    "peer_name": "all of it", "ratio": value / whole,
                })  # fmt: skip
    return rows, {}

"""Steps on the whole memory of a model, for tests that only say where the KV of full layers stands: layers with a
window have the same blocks, and each sequence has slots of its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stemma.kernels.memory import Memory, allocate
from stemma.kernels.ops import AttentionMetadata, Ops
from stemma.kernels.states import ZEROS, StateMetadata
from stemma.runtime.model import ModelConfig

MOST_SEQUENCES = 16


def memory_of(ops: Ops, config: ModelConfig, num_blocks: int, block_size: int = 16) -> Memory:
    """Pools for steps of `everywhere`."""
    shape = config.memory_shape(
        num_blocks, block_size, num_window_blocks=num_blocks, num_slots=2 * MOST_SEQUENCES
    )  # fmt: skip
    return allocate(ops, shape)


def everywhere(metadata: AttentionMetadata) -> AttentionMetadata:
    """The same step with a window pool and slots: sequence i reads slot i, or begins, and writes to the one
    MOST_SEQUENCES further."""
    starts = metadata.query_starts
    count = len(starts) - 1
    begins = metadata.context_lens == np.diff(starts)
    numbers = np.arange(count, dtype=np.int32)
    sources = np.where(begins, ZEROS, numbers).astype(np.int32)
    rows = np.arange(count + 1, dtype=np.int32)
    pieces = StateMetadata(rows, starts.astype(np.int32), sources, numbers + np.int32(MOST_SEQUENCES))
    return replace(metadata, window=metadata, states=pieces)

"""Runs a model over whole sequences, the plainest way: one sequence, one step, blocks in order."""

from __future__ import annotations

import numpy as np
import torch

from stemma.kernels.memory import make_plans
from stemma.kernels.ops import AttentionMetadata, Ops
from stemma.kernels.reference import ReferenceOps
from stemma.runtime.model import Model
from tests.kernels.memories import everywhere, memory_of

BLOCK_SIZE = 16


def reference_ops() -> ReferenceOps:
    return ReferenceOps(torch.device("cpu"))


def all_logits(model: Model, ids: list[int]) -> torch.Tensor:
    """Logits after each token, (tokens, vocab_size)."""
    return model.logits(all_hidden(model, ids), np.arange(len(ids), dtype=np.int32))


def all_hidden(model: Model, ids: list[int]) -> torch.Tensor:
    """What the model's `forward` gives for each token, (tokens, hidden)."""
    ops: Ops = model.ops
    length = len(ids)
    num_blocks = -(-length // BLOCK_SIZE)
    positions = np.arange(length, dtype=np.int32)
    metadata = AttentionMetadata(
        positions=positions,
        slots=positions,
        query_starts=np.array([0, length], dtype=np.int32),
        context_lens=np.array([length], dtype=np.int32),
        block_tables=np.arange(num_blocks, dtype=np.int32)[None],
    )
    memory = memory_of(ops, model.config, num_blocks, BLOCK_SIZE)
    plans = make_plans(ops, everywhere(metadata), memory)
    return model.forward(np.array(ids, dtype=np.int32), plans, memory)

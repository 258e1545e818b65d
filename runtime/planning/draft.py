"""What a smaller model that guesses takes of the memory, beside the model that it guesses for: weights, and its KV."""

from __future__ import annotations

from dataclasses import dataclass

from stemma.kernels.ops import Ops
from stemma.runtime.core.config import SettledConfig
from stemma.runtime.engine.drafting import check_draft, most_for_draft
from stemma.runtime.engine.resources import sizes_of
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.load import text_of
from stemma.runtime.model.work import kv_formula, work_of
from stemma.runtime.planning.resident import on_device


@dataclass(frozen=True, slots=True)
class DraftPlan:
    """Of a draft model. Its fields are those of `Plan` but for these.

    needed: of the KV with which it follows all those sequences, as far as its pool could have room.
    most: bytes that its pool could have, however many tokens the model's has. pool_tokens: no more than the model's.
    block_bytes: of a block of its KV.
    """

    model: str
    parameters: int
    weight_bytes: int
    stored_bytes: int
    kv_bytes: float
    formula: str
    needed: int
    most: int
    pool: int
    pool_tokens: int
    block_bytes: int


def plan_draft(
    model: Checkpoint, draft: Checkpoint, ops: Ops, config: SettledConfig, pool: tuple[int, int], num_blocks: int,
    memory: int | None = None,
) -> DraftPlan:  # fmt: skip
    """Reckon, for sequences of so many blocks. pool: bytes and blocks of the model's. memory: see `make_plan`. Raises
    InvalidRequest where the one cannot guess for the other."""
    check_draft(text_of(model), text_of(draft))
    stored = work_of(draft)
    work = on_device(stored, draft, ops)
    pool_bytes, pool_blocks = pool
    with ops.on_device():
        size = sizes_of(config, draft.config, ops).block_bytes
        most = most_for_draft(config, model.config, draft.config, ops, pool_bytes, memory)
    most_blocks = max(1, most // size)
    own_blocks = min(pool_blocks, most_blocks)
    return DraftPlan(
        model=draft.config.name,
        parameters=work.parameters,
        weight_bytes=work.weight_bytes,
        stored_bytes=stored.weight_bytes,
        kv_bytes=size / config.block_size,
        formula=kv_formula(draft.config, size / config.block_size),
        needed=min(num_blocks, most_blocks) * size,
        most=most_blocks * size,
        pool=own_blocks * size,
        pool_tokens=own_blocks * config.block_size,
        block_bytes=size,
    )

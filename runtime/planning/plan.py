"""What a model needs of a machine and what the machine makes of it, reckoned from sizes: KV, what fits, what bounds."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from stemma.kernels.ops import Ops
from stemma.runtime.core.config import MAX_COUNT, EngineConfig, SettledConfig, StepSizes
from stemma.runtime.engine.resources import (
    MARKS_OF_A_SEQUENCE,
    Room,
    Sizes,
    context_of,
    machine_memory,
    num_hosted,
    room_of,
    settled,
    sizes_of,
)
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.shards import Division, Shard
from stemma.runtime.model.work import Work, kv_formula, work_of
from stemma.runtime.planning.draft import DraftPlan, plan_draft
from stemma.runtime.planning.rates import Rates
from stemma.runtime.planning.resident import on_device

USABLE = 0.9
"""Of a machine's memory: the rest is for the process itself and the system."""


class Bound(NamedTuple):
    """One phase on the roofline. seconds: the longer of the two. by: what takes longer."""

    seconds: float
    read_seconds: float
    operation_seconds: float

    @property
    def by(self) -> Literal["bandwidth", "compute"]:
        return "bandwidth" if self.read_seconds >= self.operation_seconds else "compute"


@dataclass(frozen=True, slots=True)
class Plan:
    """Of a model on a machine, for so many sequences of so many tokens. Bytes, tokens, seconds.

    weight_bytes: of weights as the machine computes with them. stored_bytes: as files hold them.
    kv_bytes: of a token in the layers that see everything. formula: how they come about.
    mark_bytes: of what layers with windows or states keep to go on from one position; 0 without such layers.
    needed: of the KV of all those sequences, marks included. pool: what the options give to it.
    pool_tokens: of KV that the pool holds. lacks: options that would let all of them run at once, by name, where those
        that are given do not; none where they do. usable: of the machine's memory, weights included. holds_pool:
        whether it has room for the pool that the options ask for, beside the weights.
    most_sequences: of that context that fit beside the weights; longest: the context that so many could have.
    steps: what they are made of at most, by the options or by the device.
    decode, decode_one: a step in which all, or one, take a token at the end of the context. prefill: a cold prompt.
    balance: rows of a step that take as long to multiply as weights take to be read.
    draft: what a smaller model that guesses takes beside it, which what fits counts in.
    """

    model: str
    parameters: int
    weight_bytes: int
    stored_bytes: int
    context: int
    concurrency: int
    kv_bytes: float
    formula: str
    mark_bytes: int
    needed: int
    pool: int
    pool_tokens: int
    lacks: dict[str, int | float]
    usable: int
    holds_pool: bool
    most_sequences: int
    longest: int
    steps: StepSizes
    rates: Rates
    decode: Bound
    decode_one: Bound
    prefill: Bound
    balance: float
    draft: DraftPlan | None

    @property
    def takes(self) -> int:
        """Bytes of all weights, and of the KV of those sequences."""
        of_draft = 0 if self.draft is None else self.draft.weight_bytes + self.draft.needed
        return self.weight_bytes + self.needed + of_draft

    @property
    def fits(self) -> bool:
        """Whether the machine has the memory."""
        return self.takes <= self.usable

    @property
    def fits_pool(self) -> bool:
        """Whether the options give them all room at once."""
        return not self.lacks

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values."""
        bounds = {name: getattr(self, name) for name in ("decode", "decode_one", "prefill")}
        return (
            asdict(self)
            | {
                "rates": self.rates._asdict(),
                "steps": self.steps._asdict(),
                "fits": self.fits,
                "fits_pool": self.fits_pool,
            }
            | {name: bound._asdict() | {"by": bound.by} for name, bound in bounds.items()}
        )


def make_plan(
    checkpoint: Checkpoint, ops: Ops, config: EngineConfig, rates: Rates, *, context: int, concurrency: int,
    memory: int | None = None, draft: Checkpoint | None = None,
) -> Plan:  # fmt: skip
    """Reckon. memory: bytes of another machine than this one. draft: a smaller model that guesses for this one. Raises
    InvalidRequest for what no pool can hold, a model that cannot be divided among so many ranks, or a draft model that
    cannot guess for this one."""
    model, config = checkpoint.config, settled(config, ops)
    if not 1 <= context <= context_of(config, model):
        raise InvalidRequest(f"context must be between 1 and the model's {context_of(config, model)}", "context")
    if not 1 <= concurrency <= MAX_COUNT:
        raise InvalidRequest(f"concurrency must be between 1 and {MAX_COUNT}", "concurrency")
    stored = work_of(checkpoint)
    work = on_device(stored, checkpoint, ops)
    own = model if config.tensor_parallel == 1 else Division(model, Shard(0, config.tensor_parallel)).config()
    with ops.on_device():
        sizes, of_rank = sizes_of(config, model, ops), sizes_of(config, own, ops)
        room = room_of(config, own, ops, None if draft is None else draft.config, memory)
    marks = MARKS_OF_A_SEQUENCE * sizes.mark_bytes
    blocks = -(-context // config.block_size)
    one = blocks * sizes.block_bytes + marks
    usable = int(USABLE * (machine_memory(ops) if memory is None else memory))
    pool, is_asked = sizes.pool_bytes(room), config.kv_tokens is not None or config.memory is not None
    beside = None
    if draft is not None:
        own_pool = of_rank.pool_bytes(room), room.shape.full.num_blocks
        beside = plan_draft(checkpoint, draft, ops, config, own_pool, concurrency * blocks, memory)
    left = _Left(usable - work.weight_bytes, beside)
    most_blocks = left.fits(max(1, sizes.block_bytes), 1, concurrency, apart=marks)
    return Plan(
        model=model.name,
        parameters=work.parameters,
        weight_bytes=work.weight_bytes,
        stored_bytes=stored.weight_bytes,
        context=context,
        concurrency=concurrency,
        kv_bytes=sizes.block_bytes / config.block_size,
        formula=kv_formula(model, sizes.block_bytes / config.block_size),
        mark_bytes=sizes.mark_bytes,
        needed=concurrency * one,
        pool=pool,
        pool_tokens=room.shape.full.num_blocks * config.block_size,
        lacks=_lacks(config, of_rank, room, concurrency, blocks, num_hosted(config, ops)),
        usable=usable,
        holds_pool=left.holds(pool) or not is_asked,
        most_sequences=left.fits(one, blocks),
        longest=min(most_blocks * config.block_size, context_of(config, model)),
        steps=StepSizes(config.max_running, config.max_batch_tokens, config.max_chunk),
        rates=rates,
        decode=_decode(work, rates, sizes, config, context, concurrency),
        decode_one=_decode(work, rates, sizes, config, context, 1),
        prefill=_prefill(work, rates, config, context),
        balance=_balance(work, rates),
        draft=beside,
    )


class _Left(NamedTuple):
    """Bytes beside the model's weights, and the draft model that takes of them."""

    num_bytes: int
    draft: DraftPlan | None

    def holds(self, pool: int) -> bool:
        """Whether there is room for the pool, and the draft model with its own."""
        of_draft = 0 if self.draft is None else self.draft.weight_bytes + self.draft.pool
        return pool + of_draft <= max(0, self.num_bytes)

    def fits(self, each: int, blocks: int, times: int = 1, apart: int = 0) -> int:
        """How often `times` things fit that take `each` bytes and so many blocks, and `apart` bytes once. A draft model
        takes as many blocks, up to the most that its pool has."""
        left = self.num_bytes - times * apart
        if self.draft is None:
            return max(0, left) // (times * each)
        left -= self.draft.weight_bytes
        of_draft = blocks * self.draft.block_bytes
        return max(0, left // (times * (each + of_draft)), (left - self.draft.most) // (times * each))


def _lacks(
    config: SettledConfig, sizes: Sizes, room: Room, concurrency: int, blocks: int, num_hosted: int
) -> dict[str, int | float]:
    """What to give for so many sequences of so many blocks. With marks the memory is parted between these and KV; and
    between ranks that share it."""
    lacks: dict[str, int | float] = {}
    if concurrency > config.max_running:
        lacks["max_running"] = concurrency
        if config.max_batch_tokens < concurrency:
            lacks["max_batch_tokens"] = concurrency
    num_marks = MARKS_OF_A_SEQUENCE * concurrency
    if room.shape.full.num_blocks >= concurrency * blocks and _holds(room, sizes, num_marks):
        return lacks
    of_blocks, of_marks = concurrency * blocks * sizes.block_bytes, num_marks * sizes.mark_bytes
    if not of_blocks or not of_marks:
        return {"memory": num_hosted * (of_blocks + of_marks), **lacks}
    share = min(max(math.ceil(100 * of_marks / (of_blocks + of_marks)) / 100, 0.01), 0.99)
    memory = math.ceil(max(of_blocks / (1 - share), of_marks / share)) + sizes.block_bytes + sizes.mark_bytes
    return {"memory": num_hosted * memory, "mark_share": share, **lacks}


def _holds(room: Room, sizes: Sizes, num_marks: int) -> bool:
    """Whether there is room for so many marks."""
    if room.marks is None:
        return True
    slots = num_marks if sizes.state_bytes else 0
    return room.marks.num_slots >= slots and room.marks.num_window_blocks >= num_marks * sizes.window_blocks


def _decode(work: Work, rates: Rates, sizes: Sizes, config: EngineConfig, context: int, num_rows: int) -> Bound:
    """A step in which so many sequences each take a token behind a context."""
    kv = context * sizes.block_bytes / config.block_size + sizes.window_blocks * sizes.window_block_bytes
    read = work.bytes_of_rows(num_rows) + num_rows * (kv + 2 * sizes.state_bytes)
    operations = num_rows * work.operations(context - 1, context)
    return _bound(read, operations, rates)


def _prefill(work: Work, rates: Rates, config: SettledConfig, context: int) -> Bound:
    """A prompt of so many tokens, alone and cold: each chunk of it reads the weights."""
    chunks = [min(config.max_chunk, context - start) for start in range(0, context, config.max_chunk)]
    return _bound(sum(work.bytes_of_rows(chunk) for chunk in chunks), work.operations(0, context), rates)


def _bound(read: float, operations: float, rates: Rates) -> Bound:
    of_reading, of_operations = read / rates.read, operations / rates.operations
    return Bound(max(of_reading, of_operations), of_reading, of_operations)


def _balance(work: Work, rates: Rates) -> float:
    """Rows of a step that are multiplied in the time in which the weights are read."""
    rows = work.row_bytes / rates.read * rates.operations / work.row_operations
    for _ in range(20):  # more rows read more experts
        rows = work.bytes_of_rows(max(1, round(rows))) / rates.read * rates.operations / work.row_operations
    return rows

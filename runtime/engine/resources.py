"""What the options of an engine come to on this machine: a back end, a context, pools of memory."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import NamedTuple

from stemma.kernels.memory import Memory, MemoryShape, allocate
from stemma.kernels.ops import ForkedOps, Ops
from stemma.kernels.select import UnknownBackend, choose_device, select_ops
from stemma.radix import MarkRoom, PrefixCache
from stemma.runtime.core.checking import describe
from stemma.runtime.core.config import LAPTOP, POLICIES, SERVER, EngineConfig, SettledConfig, settle
from stemma.runtime.core.drafts.ahead import Guesser
from stemma.runtime.core.drafts.drafter import FREE_SOURCES, Drafter, Make
from stemma.runtime.core.limits import Limits
from stemma.runtime.core.scheduler import Scheduler
from stemma.runtime.engine.reserve import reserve_of
from stemma.runtime.errors import EngineForked, InvalidRequest
from stemma.runtime.model import MarkNeeds, ModelConfig
from stemma.runtime.parallel.messages import device_of

LEAST_SLOTS = 4
"""A running sequence reads one slot and writes another, and something has to be kept."""

MARKS_OF_A_SEQUENCE = 4
"""That run: where it reads, where it writes, and two to go on from."""

SERVER_BYTES = 40 * 10**9
"""Of a GPU that serves many: an A100 and what came after it; cards for games have 32 GB and less."""

MOST_OF_DRAFTS = 0.25
"""Of the memory for KV, what a draft model's pool takes: as many tokens as the model's own, if that is no more."""

MOST_TOKENS = 1 << 24
"""Of text whose KV takes no memory, because no layer of the model is full."""


def make_ops(config: EngineConfig) -> Ops:
    """The back end that the options name. Raises InvalidRequest if this machine has no such thing, or too few."""
    ranks = config.tensor_parallel
    device = device_of(config.device, 0) if ranks > 1 else config.device
    try:
        ops = select_ops(
            device, config.backend, config.dtype, config.kv_dtype, sharing=ranks, graphs=config.graphs,
            quantization=config.quantization,
        )  # fmt: skip
    except UnknownBackend as error:
        raise InvalidRequest(str(error), error.param) from error
    if ranks > 1:
        from stemma.runtime.parallel.group import check_devices  # brings torch, which the CPU has no need of

        check_devices(config.device, ranks)
    return ops


def on_a_device(config: EngineConfig) -> EngineConfig:
    """The same with a device in place of "auto", which all ranks go by. Raises InvalidRequest."""
    if config.device != "auto":
        return config
    try:
        return replace(config, device=choose_device(config.backend, config.dtype, config.kv_dtype))
    except UnknownBackend as error:
        raise InvalidRequest(str(error), error.param) from error


def settled(config: EngineConfig, ops: Ops) -> SettledConfig:
    """The same for the device of `ops`."""
    total = ops.total_memory()
    return settle(config, SERVER if total is not None and total >= SERVER_BYTES else LAPTOP)


def context_of(config: EngineConfig, model: ModelConfig) -> int:
    """Tokens of one sequence. Raises InvalidRequest if more is asked for than the model was made for."""
    if config.context_length is None:
        return model.context_length
    if not 1 <= config.context_length <= model.context_length:
        raise InvalidRequest(
            f"context_length must be between 1 and the model's {model.context_length}; "
            f"it is {describe(config.context_length)}",
            "context_length",
        )
    return config.context_length


def make_scheduler(config: SettledConfig, room: Room, draft: Guesser | None = None) -> Scheduler:
    """With a cache of that size. draft: a smaller model that guesses."""
    limits = Limits(
        config.max_running, config.max_batch_tokens, config.max_chunk, config.prefix_cache, config.jump_forward,
        config.schedule_policy, None if config.tpot_ms is None else config.tpot_ms / 1000,
    )  # fmt: skip
    num_blocks = room.shape.full.num_blocks
    pinned = int(config.pin_share * num_blocks)
    policy = POLICIES[config.policy]
    cache = PrefixCache(num_blocks, config.block_size, policy, pin_budget=pinned, marks=room.marks)
    return Scheduler(cache, limits, Drafter(_sources(config), config.max_batch_tokens, draft))


def _sources(config: EngineConfig) -> dict[str, Make]:
    """Without a prefix cache nothing is in the tree."""
    return {
        name: FREE_SOURCES[name]
        for name in config.drafts_from
        if name != "none" and (name != "tree" or config.prefix_cache)
    }


def make_memory(ops: Ops, room: Room) -> Memory:
    """Raises InvalidRequest if it does not fit, EngineForked in a fork."""
    try:
        return allocate(ops, room.shape)
    except ForkedOps as error:
        raise EngineForked(str(error)) from error
    except MemoryError as error:
        raise InvalidRequest(f"{error}: lower kv_tokens or memory", "kv_tokens") from error


class Room(NamedTuple):
    """The pools of an engine. marks: what the cache may keep of layers that are not full; None in a model without."""

    shape: MemoryShape
    marks: MarkRoom | None


class Sizes(NamedTuple):
    """Bytes: of a block of full layers, of a window block, of a slot of states. window_blocks: of one mark."""

    block_bytes: int
    window_block_bytes: int
    window_blocks: int
    state_bytes: int

    @property
    def mark_bytes(self) -> int:
        """Of one mark."""
        return self.window_blocks * self.window_block_bytes + self.state_bytes

    def pool_bytes(self, room: Room) -> int:
        """Of all pools."""
        full = room.shape.full.num_blocks * self.block_bytes
        if room.marks is None:
            return full
        return full + room.marks.num_window_blocks * self.window_block_bytes + room.marks.num_slots * self.state_bytes


def sizes_of(config: EngineConfig, model: ModelConfig, ops: Ops) -> Sizes:
    """As the back end lays them out."""
    size, needs = config.block_size, model.marks
    one = make_memory(ops, Room(model.memory_shape(1, size, num_window_blocks=1, num_slots=1), None))
    window_blocks = 0 if needs is None or needs.window is None else -(-(needs.window - 1) // size) + 1
    return Sizes(
        one.full.num_bytes,
        0 if one.window is None else one.window.num_bytes,
        window_blocks,
        0 if one.states is None else one.states.num_bytes,
    )


def room_of(
    config: EngineConfig, model: ModelConfig, ops: Ops, draft: ModelConfig | None = None, machine: int | None = None
) -> Room:
    """As many tokens as asked for, or what the memory holds up to `max_running` full contexts; and marks in their share
    of the memory, all of it where full layers keep nothing, but no more than there are blocks. draft: a smaller model
    that guesses for this one; on a GPU it is left memory. machine: bytes of another host than this one.

    Raises InvalidRequest where there is no room for one sequence.
    """
    size, needs, config = config.block_size, model.marks, settled(config, ops)
    if config.memory is None:
        budget = memory_for_kv(config, model, ops, draft, machine)
    else:
        budget = config.memory // num_hosted(config, ops)
    sizes = sizes_of(config, model, ops)
    if draft is not None and config.memory is None and ops.free_memory() is not None:
        budget -= int(budget * share_of_drafts(sizes.block_bytes, sizes_of(config, draft, ops).block_bytes))
    for_marks = 0 if needs is None else _bytes_for_marks(config, sizes, budget)
    num_blocks = _num_blocks(config, model, sizes.block_bytes, budget - for_marks)
    if num_blocks < 1:
        param = "kv_tokens" if config.kv_tokens is not None else "memory"
        message = f"the KV pool has no room for a block of {size} tokens"
        if ops.free_memory() is not None:
            message += (
                ": weights and the largest step leave none of the GPU's memory; raise memory_share, lower "
                "max_batch_tokens or max_running, or take smaller weights"
            )
        raise InvalidRequest(message, param)
    if needs is None:
        return Room(model.memory_shape(num_blocks, size), None)
    marks = _mark_room(config, needs, sizes, for_marks, num_blocks)
    shape = model.memory_shape(
        num_blocks, size, num_window_blocks=marks.num_window_blocks, num_slots=marks.num_slots
    )  # fmt: skip
    return Room(shape, marks)


def _num_blocks(config: SettledConfig, model: ModelConfig, block_bytes: int, budget: int) -> int:
    asked = 0 if config.kv_tokens is None else config.kv_tokens // config.block_size
    if config.kv_tokens is not None and config.memory is None:
        return asked
    whole = -(-context_of(config, model) // config.block_size)  # blocks of a whole context
    longest = min(config.max_running * whole, MOST_TOKENS // config.block_size)
    return max(asked, min(budget // block_bytes, longest) if block_bytes else longest)


def _bytes_for_marks(config: SettledConfig, sizes: Sizes, budget: int) -> int:
    """Their share, or less where that would be more marks than there are blocks: full layers have the rest."""
    if not sizes.block_bytes:
        return budget
    of_running = MARKS_OF_A_SEQUENCE * config.max_running * sizes.mark_bytes
    num_blocks = max(0, budget - of_running) // (sizes.block_bytes + sizes.mark_bytes)
    return min(int(budget * config.mark_share), of_running + num_blocks * sizes.mark_bytes)


def _mark_room(config: SettledConfig, needs: MarkNeeds, sizes: Sizes, budget: int, num_blocks: int) -> MarkRoom:
    """Slots and window blocks for equally many marks; those of running sequences are among them."""
    size, window_blocks, state_bytes = config.block_size, sizes.window_blocks, sizes.state_bytes
    num_marks = min(budget // sizes.mark_bytes, num_blocks + MARKS_OF_A_SEQUENCE * config.max_running)
    step = -(-config.max_chunk // size) + 1  # window blocks that one step of one sequence takes
    if num_marks * window_blocks < window_blocks + step and sizes.window_block_bytes:
        least = (window_blocks + step) * sizes.window_block_bytes + LEAST_SLOTS * state_bytes
        raise InvalidRequest(
            f"windows need {least:,} bytes for one sequence, and have {budget:,}: raise memory or mark_share, or lower "
            "max_chunk", "memory",
        )  # fmt: skip
    if num_marks < LEAST_SLOTS and needs.has_states:
        raise InvalidRequest(
            f"a state takes {state_bytes:,} bytes, and {LEAST_SLOTS} of them need room, but have {budget:,} bytes: "
            "raise memory or mark_share", "memory",
        )  # fmt: skip
    return MarkRoom(needs.window, num_marks * window_blocks, num_marks if needs.has_states else 0)


def share_of_drafts(block_bytes: int, draft_bytes: int) -> float:
    """Of the memory for KV, by the bytes of a block of both models."""
    return min(MOST_OF_DRAFTS, draft_bytes / max(1, draft_bytes + block_bytes))


def memory_for_kv(
    config: SettledConfig, model: ModelConfig, ops: Ops, draft: ModelConfig | None = None, machine: int | None = None
) -> int:
    """Bytes: of what is free on a GPU, where the weights lie already, the engine's share without what its largest step
    takes, and a draft model's; an eighth of a host's memory, of which each rank has its part."""
    free = ops.free_memory()
    if free is None:
        return (machine or machine_memory(ops)) // 8 // num_hosted(config, ops)
    reserves = [reserve_of(config, each, ops) for each in (model, draft) if each is not None]
    return max(0, int(free * config.memory_share) - sum(reserves))


def num_hosted(config: EngineConfig, ops: Ops) -> int:
    """Ranks that share one memory: a host's; each GPU has its own."""
    return config.tensor_parallel if ops.free_memory() is None else 1


def machine_memory(ops: Ops) -> int:
    """Bytes: what is free on a GPU, all of a host's memory."""
    free = ops.free_memory()
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if free is None else free

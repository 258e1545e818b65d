"""What the options of an engine come to on this machine: a back end, a context, a pool of KV."""

from __future__ import annotations

import os

import torch

from stemma.kernels.memory import MemoryShape, allocate
from stemma.kernels.ops import Ops
from stemma.kernels.select import UnknownBackend, select_ops
from stemma.runtime.core.checking import describe
from stemma.runtime.core.config import EngineConfig
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model import ModelConfig


def make_ops(config: EngineConfig) -> Ops:
    """The back end that the options name. Raises InvalidRequest if this machine has no such thing."""
    try:
        return select_ops(config.device, config.backend, config.dtype, config.kv_dtype)
    except UnknownBackend as error:
        raise InvalidRequest(str(error), error.param) from error


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


def memory_shape(config: EngineConfig, model: ModelConfig, ops: Ops) -> MemoryShape:
    """The pools: as many tokens as asked for, or what the memory holds up to `max_running` full contexts."""
    if config.kv_tokens is not None:
        num_blocks = config.kv_tokens // config.block_size
    else:
        bytes_per_block = allocate(ops, model.memory_shape(1, config.block_size, num_window_blocks=1)).num_bytes
        longest = config.max_running * context_of(config, model) // config.block_size
        num_blocks = min(memory_for_kv(ops.device) // bytes_per_block, longest)
    if num_blocks < 1:
        raise InvalidRequest(f"the KV pool has no room for a block of {config.block_size} tokens", "kv_tokens")
    return model.memory_shape(num_blocks, config.block_size, num_window_blocks=num_blocks)


def memory_for_kv(device: torch.device) -> int:
    """Bytes: most of what is free on a GPU, whose weights lie there already; an eighth of a host's memory."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * 0.85)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8

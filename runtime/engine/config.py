"""What an engine can be told, in one frozen dataclass. The command line's options are made from it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, TypedDict

import torch

from stemma.kernels.ops import KVShape, Ops
from stemma.kernels.select import UnknownBackend, select_ops
from stemma.runtime.core.checking import check_fields, told
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model import ModelConfig

BackendName = Literal["auto", "reference", "cpu", "triton"]
MAX_COUNT = 2**63 - 1
"""Of blocks, tokens and sequences: the greatest that the native kernels can count to."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Options of an engine; the defaults suit a laptop.

    device: "auto", "cpu", "cuda" or another torch device.
    backend: the kernels; "auto" takes the fastest for the device.
    dtype: of weights and activations where the back end lets one choose ("auto", "float32", "float64", ...).
    kv_dtype: of the KV pool ("auto", "int16", "float32", "bfloat16", "int8", as the back end offers).
    block_size: tokens of a KV block.
    kv_tokens: size of the KV pool in tokens; None takes what an eighth of the host's memory, or most of a GPU's, holds.
    context_length: tokens of prompt and completion together; None takes the model's.
    max_running: sequences computed side by side.
    max_batch_tokens: tokens of one step; max_chunk: of one prompt in one step.
    prefix_cache: look prefixes up and keep them; off, every prompt is computed whole.
    jump_forward: append what a grammar forces without asking the model; off, every token is sampled.
    """

    device: str = "auto"
    backend: BackendName = "auto"
    dtype: str = "auto"
    kv_dtype: str = "auto"
    block_size: int = 16
    kv_tokens: int | None = None
    context_length: int | None = None
    max_running: int = 64
    max_batch_tokens: int = 1024
    max_chunk: int = 512
    prefix_cache: bool = True
    jump_forward: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("block_size", "max_running", "max_batch_tokens", "max_chunk", "kv_tokens", "context_length"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= MAX_COUNT:
                raise InvalidRequest(f"{name} must be between 1 and {MAX_COUNT}; it is {told(value)}", name)
        if self.max_batch_tokens < self.max_running:
            raise InvalidRequest(
                f"max_batch_tokens ({self.max_batch_tokens}) must be at least max_running ({self.max_running}): "
                "each running sequence takes a token of a step",
                "max_batch_tokens",
            )

    def make_ops(self) -> Ops:
        """The back end that these options name. Raises InvalidRequest if this machine has no such thing."""
        if self.dtype != "auto" and not isinstance(getattr(torch, self.dtype, None), torch.dtype):
            raise InvalidRequest(
                f"there is no dtype {self.dtype!r}; there are 'auto', 'float32', 'bfloat16', ...", "dtype"
            )
        try:
            torch.device("cpu" if self.device == "auto" else self.device)
        except RuntimeError as error:
            raise InvalidRequest(
                f"there is no device {self.device!r}; there are 'auto', 'cpu', 'cuda'", "device"
            ) from error
        try:
            return select_ops(device=self.device, backend=self.backend, dtype=self.dtype, kv_dtype=self.kv_dtype)
        except UnknownBackend as error:
            raise InvalidRequest(str(error), "backend") from error

    def context(self, model: ModelConfig) -> int:
        """Tokens of one sequence. Raises InvalidRequest if more is asked for than the model was made for."""
        if self.context_length is None:
            return model.context_length
        if not 1 <= self.context_length <= model.context_length:
            raise InvalidRequest(
                f"context_length must be between 1 and the model's {model.context_length}; "
                f"it is {told(self.context_length)}",
                "context_length",
            )
        return self.context_length

    def kv_shape(self, model: ModelConfig, ops: Ops) -> KVShape:
        """The pool: as many tokens as asked for, or what the memory holds up to `max_running` full contexts."""
        if self.kv_tokens is not None:
            num_blocks = self.kv_tokens // self.block_size
        else:
            bytes_per_block = ops.kv(model.kv_shape(1, self.block_size)).num_bytes
            longest = self.max_running * self.context(model) // self.block_size
            num_blocks = min(memory_for_kv(ops.device) // bytes_per_block, longest)
        if num_blocks < 1:
            raise InvalidRequest(f"the KV pool has no room for a block of {self.block_size} tokens", "kv_tokens")
        return model.kv_shape(num_blocks, self.block_size)


def engine_config(options: Mapping[str, Any]) -> EngineConfig:
    """Keyword arguments as a config. Raises InvalidRequest for a name that is no option."""
    known = [field.name for field in fields(EngineConfig)]
    if unknown := set(options) - set(known):
        name = min(unknown)
        raise InvalidRequest(f"there is no option {name!r}; there are {known}", name)
    return EngineConfig(**options)


class EngineOptions(TypedDict, total=False):
    """EngineConfig's fields as keyword arguments."""

    device: str
    backend: BackendName
    dtype: str
    kv_dtype: str
    block_size: int
    kv_tokens: int | None
    context_length: int | None
    max_running: int
    max_batch_tokens: int
    max_chunk: int
    prefix_cache: bool
    jump_forward: bool


def memory_for_kv(device: torch.device) -> int:
    """Bytes: most of what is free on a GPU, whose weights lie there already; an eighth of a host's memory."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * 0.85)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8

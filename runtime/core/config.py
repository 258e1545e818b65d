"""What an engine can be told, in one frozen dataclass. The command line's options are made from it (no torch here)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict

from stemma.radix import Policy, ReuseQueue, by_priority, lfu, lru, slru
from stemma.runtime.core.checking import check_fields, describe
from stemma.runtime.core.order import OrderName
from stemma.runtime.errors import InvalidRequest

BackendName = Literal["auto", "reference", "cpu", "triton"]
PolicyName = Literal["reuse", "lru", "lfu", "slru", "priority"]
DraftsName = Literal["tree", "prompt", "grammar", "none"]
GenerationConfig = Literal["auto", "none"]
Quantization = Literal["fp8"]
POLICIES: Mapping[PolicyName, Policy] = {
    "reuse": ReuseQueue,
    "lru": lru,
    "lfu": lfu,
    "slru": slru,
    "priority": by_priority,
}
MAX_COUNT = 2**63 - 1
"""Of blocks, tokens and sequences: the greatest that the native kernels can count to."""

MAX_GB = 1e9
"""Gigabytes that may be asked for."""
MAX_MS = 3_600_000.0
"""Milliseconds that may be asked for: an hour."""


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Options of an engine. What is None by itself is set when the machine is known (`SettledConfig`).

    device: "cpu", "cuda", "cuda:1" or another torch device; "auto" takes a GPU whose kernels there are, else the CPU.
    backend: the kernels; "auto" takes the fastest for the device.
    dtype: of weights and activations where the back end lets one choose ("auto", "float32", "float64", ...).
    kv_dtype: of the KV pool ("auto", "int16", "float32", "bfloat16", "int8", as the back end offers).
    quantization: "fp8" makes floats of 8 bits of weights of 16 or 32 and of what they multiply, on a GPU of compute
        capability 8.9, 9, 10 or 12; not of routers, experts and the matrix of logits. A GGUF's blocks stay as they are,
        and so does what is stored in FP8, without this option too (docs/kernels-gpu.md).
    block_size: tokens of a KV block.
    memory: bytes for what models remember, of all ranks on a host; None takes an eighth of the host's memory, or
        `memory_share` of a GPU's.
    memory_share: of a GPU's memory that is free behind the weights, what the engine takes: KV, and the largest step's
        needs besides. Of two engines on one card the first is given its part, the second of what is left then.
    graphs: on a GPU, record steps once and replay them; off, every operation is launched by itself.
    kv_tokens: size of the KV pool in tokens; None takes what of `memory` is not for marks. With both, the least.
    mark_share: of `memory`, in models with windows or states: what these keep to go on from (docs/radix.md). It is less
        where that is more than a mark for each block, and all where no layer is full.
    policy: what of the cache goes first when memory is short; "reuse" learns from what comes back (docs/radix.md).
    pin_share: the most of the pool that pins may keep; a pin that goes over it is refused.
    schedule_policy: who of the waiting goes next: "fair" takes turns between tenants (namespaces up to their first
        slash) and in each the longest cached prefix; "lpm" the longest prefix of all, "dfs" one that begins like the
        last one, "fcfs" the first to come (docs/howto/policy.md).
    tpot_ms: milliseconds that a further token may take: prompts are computed in pieces that leave time for it. None
        bounds steps beside streams that somebody reads by what they take without prompts.
    kv_host_gb: of a GPU's host memory, for KV that the pool has no room for (docs/scale/tiers.md).
    kv_disk: a folder for KV that the pool has no room for, and that a restart finds again; for this engine alone.
    kv_disk_gb: the most that is kept there.
    kv_shared: where KV is kept for several engines: redis://host:6379, s3://bucket/prefix or file:///folder.
    kv_shared_gb: the most that is kept in a shared folder; servers and stores have limits of their own.
    context_length: tokens of prompt and completion together; None takes the model's. A model of LongRoPE or dynamic
        scaling is set for a longer context than it was trained on only if asked to.
    max_running: sequences computed side by side; None is 64, on a GPU of at least 40 GB 256.
    max_batch_tokens: tokens of one step; None is 1024, on such a GPU 8192.
    max_chunk: tokens of one prompt in one step; None is 512, on such a GPU 8192.
    prefix_cache: look prefixes up and keep them; off, every prompt is computed whole.
    jump_forward: append what a grammar forces without asking the model; off, every token is sampled.
    drafts_from: where likely tokens are guessed from, which are then verified (docs/drafts.md): cached text that went
        on from here ("tree"), what prompt and output repeat ("prompt"), the "grammar"; "none" guesses nothing.
    generation_config: where a request does not say how to sample: "auto" takes what the model's files recommend.
    tensor_parallel: processes that compute each step together, each with a part of the model's matrices and KV; on
        "cuda" each has a GPU.
    """

    device: str = "auto"
    backend: BackendName = "auto"
    dtype: str = "auto"
    kv_dtype: str = "auto"
    quantization: Quantization | None = None
    block_size: int = 16
    memory: int | None = None
    memory_share: float = 0.9
    graphs: bool = True
    kv_tokens: int | None = None
    mark_share: float = 0.35
    policy: PolicyName = "reuse"
    pin_share: float = 0.5
    schedule_policy: OrderName = "fair"
    tpot_ms: float | None = None
    kv_host_gb: float = 0.0
    kv_disk: str | Path | None = None
    kv_disk_gb: float = 16.0
    kv_shared: str | None = None
    kv_shared_gb: float = 64.0
    context_length: int | None = None
    max_running: int | None = None
    max_batch_tokens: int | None = None
    max_chunk: int | None = None
    prefix_cache: bool = True
    jump_forward: bool = True
    drafts_from: tuple[DraftsName, ...] = ("tree", "prompt", "grammar")
    generation_config: GenerationConfig = "auto"
    tensor_parallel: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        for name in (
            "block_size", "max_running", "max_batch_tokens", "max_chunk", "memory", "kv_tokens", "context_length",
            "tensor_parallel",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not 1 <= value <= MAX_COUNT:
                raise InvalidRequest(f"{name} must be between 1 and {MAX_COUNT}; it is {describe(value)}", name)
        if not 0 <= self.pin_share <= 1:
            raise InvalidRequest(f"pin_share must be between 0 and 1; it is {describe(self.pin_share)}", "pin_share")
        if self.tpot_ms is not None and not 0 < self.tpot_ms <= MAX_MS:
            raise InvalidRequest(
                f"tpot_ms must be above 0 and at most {MAX_MS:g}; it is {describe(self.tpot_ms)}", "tpot_ms"
            )  # fmt: skip
        for name in ("mark_share", "memory_share"):
            if not 0 < (share := getattr(self, name)) < 1:
                raise InvalidRequest(f"{name} must be between 0 and 1; it is {describe(share)}", name)
        for name in ("kv_host_gb", "kv_disk_gb", "kv_shared_gb"):
            if not 0 <= (value := getattr(self, name)) <= MAX_GB or (value == 0 and name != "kv_host_gb"):
                raise InvalidRequest(f"{name} must be above 0 and at most {MAX_GB:g}; it is {describe(value)}", name)
        if "none" in self.drafts_from and len(self.drafts_from) > 1:
            raise InvalidRequest('drafts_from is "none" alone, or names of sources', "drafts_from")
        running, tokens = self.max_running, self.max_batch_tokens
        if running is not None and tokens is not None and tokens < running:
            raise InvalidRequest(
                f"max_batch_tokens ({tokens}) must be at least max_running ({running}): "
                "each running sequence takes a token of a step",
                "max_batch_tokens",
            )


@dataclass(frozen=True, slots=True)
class SettledConfig(EngineConfig):
    """Options of an engine on a machine."""

    max_running: int = 64
    max_batch_tokens: int = 1024
    max_chunk: int = 512


class StepSizes(NamedTuple):
    """What steps are made of where nobody says it."""

    max_running: int
    max_batch_tokens: int
    max_chunk: int


LAPTOP = StepSizes(64, 1024, 512)
SERVER = StepSizes(256, 8192, 8192)
"""On a GPU with much memory, which is idle in part with fewer rows (docs/kernels-gpu.md)."""


def settle(config: EngineConfig, sizes: StepSizes) -> SettledConfig:
    """The same with whole numbers: those that were given, and of `sizes` the others, as far as they go with these."""
    if isinstance(config, SettledConfig):
        return config
    given = {each.name: getattr(config, each.name) for each in fields(EngineConfig)}
    running, tokens = given["max_running"], given["max_batch_tokens"]
    given["max_running"] = running or min(sizes.max_running, tokens or sizes.max_batch_tokens)
    given["max_batch_tokens"] = tokens or max(sizes.max_batch_tokens, given["max_running"])
    given["max_chunk"] = given["max_chunk"] or sizes.max_chunk
    return SettledConfig(**given)


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
    quantization: Quantization | None
    block_size: int
    memory: int | None
    memory_share: float
    graphs: bool
    kv_tokens: int | None
    mark_share: float
    policy: PolicyName
    pin_share: float
    schedule_policy: OrderName
    tpot_ms: float | None
    kv_host_gb: float
    kv_disk: str | Path | None
    kv_disk_gb: float
    kv_shared: str | None
    kv_shared_gb: float
    context_length: int | None
    max_running: int | None
    max_batch_tokens: int | None
    max_chunk: int | None
    prefix_cache: bool
    jump_forward: bool
    drafts_from: tuple[DraftsName, ...]
    generation_config: GenerationConfig
    tensor_parallel: int

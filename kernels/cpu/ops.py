"""`CpuOps`: the protocol `Ops` on kernels compiled for this machine. Activations are arrays of float32.

An operation is one call of native code that runs on all threads with Python's lock released. What an operation returns
lives in a buffer of that operation: the next call of the same operation in the same thread may write over it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from stemma.kernels.changes import Changes, LogProbs, change_array
from stemma.kernels.cpu.attention import tiles
from stemma.kernels.cpu.attention.kv import CpuKV, allocate, put_blocks
from stemma.kernels.cpu.attention.paged import PagedKernels
from stemma.kernels.cpu.attention.plan import CpuPlan, make_plan
from stemma.kernels.cpu.attention.tiles import PLAN, part_floats, planned_rows
from stemma.kernels.cpu.buffers import Floats
from stemma.kernels.cpu.calls import Calls
from stemma.kernels.cpu.grouped import GroupedCalls, HeadLinear, pack_heads
from stemma.kernels.cpu.machine import compile
from stemma.kernels.cpu.machine.cores import physical_cores
from stemma.kernels.cpu.machine.target import Target, host_target
from stemma.kernels.cpu.machine.threads import ThreadPool, add_worker
from stemma.kernels.cpu.machine.words import word_of, word_of_two
from stemma.kernels.cpu.products import groups
from stemma.kernels.cpu.products.coded import Packing
from stemma.kernels.cpu.products.experts import AT_ONCE, CpuExperts, pack_experts
from stemma.kernels.cpu.products.linear import add_operations
from stemma.kernels.cpu.products.pack import PackedLinear, pack
from stemma.kernels.cpu.products.shares import CALL
from stemma.kernels.cpu.rows.activations import GROUP, CpuRope, add_prepare, make_rope
from stemma.kernels.cpu.rows.arrays import ArrayRows, array_log_probs
from stemma.kernels.cpu.rows.embed import CpuEmbedding, embedding
from stemma.kernels.cpu.rows.gates import ACTIVATIONS, CAP, PLAIN, add_gate
from stemma.kernels.cpu.rows.norms import CpuNorm, add_norm_add, address_of, make_norm, normed_rows
from stemma.kernels.cpu.rows.sampling import sample_warm_rows
from stemma.kernels.cpu.rows.table import add_table
from stemma.kernels.cpu.stateful import CpuStateOps
from stemma.kernels.cpu.steps import CpuExecutor, NativeCall, add_replay
from stemma.kernels.cpu.weight_kernels import WeightKernels
from stemma.kernels.experts import Activation, ExpertsSpec, GatedActivation, SharedExpert, ungated
from stemma.kernels.limits import StepLimits, Widths
from stemma.kernels.memory import Memory, MemoryShape
from stemma.kernels.ops import (
    AttentionMetadata,
    AttentionSpec,
    BlockCopy,
    HeadNorms,
    HeadShape,
    Int32Array,
    KVShape,
    Network,
    SamplingRows,
    StepExecutor,
)
from stemma.kernels.sampled import AtOnce
from stemma.kernels.weights import StoredWeight


class CpuOps(AtOnce):
    """The CPU back end: one object, one pool of threads; callers of several threads take turns.

    target: the instruction set, found by `host_target()`, which raises UnsupportedCPU where there is none.
    kv_dtype: int16 (16 bits and a scale for each token and head); float32 (twice the memory, exact, slower); bfloat16
    (as much memory as int16, moves near-ties); int8 (half, errors of some percent). "auto": int16.
    """

    name = "cpu"

    def __init__(
        self, target: Target | None = None, num_threads: int | None = None, kv_dtype: str = "auto",
        cache_dir: Path | None = None,
    ) -> None:  # fmt: skip
        self.target = target or host_target()
        self.num_threads = num_threads or physical_cores()
        self.kv_dtype = "int16" if kv_dtype == "auto" else kv_dtype
        self._tile_rows = planned_rows(self.target, self.kv_dtype)
        self.cache_dir = cache_dir or compile.default_cache_dir()
        self._library = compile.load("rows", self._write_rows, self.target, (), self.cache_dir)
        names = ["prepare_float", "prepare_quantized", "norm_add", "largest", "mask"]
        self._kernels = {name: self._library.address(name) for name in names}
        self._weights = WeightKernels(self.target, self.cache_dir)
        self.product = self._library.function("linear", 1 + len(CALL))
        self._each_row = self._library.function("each_row", 8)
        self._gate_rows = self._library.function("gate_rows", 7)
        self._replay = self._library.function("replay", 3)
        pool = ThreadPool(self._library, self.num_threads, max(groups.SCRATCH_BYTES, tiles.SCRATCH_BYTES))
        self._calls = Calls(pool)
        self._readers = ThreadPoolExecutor(self.num_threads, "reader")
        self._paged = PagedKernels(self.target, self.kv_dtype, self.cache_dir)
        self.states = CpuStateOps(self._calls, self.target, self.cache_dir)
        self.rows = ArrayRows()

    def free_memory(self) -> None:
        return None

    def _write_rows(self, module: ir.Module) -> None:
        add_worker(module)
        add_prepare(module, self.target)
        add_gate(module)
        add_table(module)
        add_norm_add(module)
        add_operations(module, self.target)
        add_replay(module)

    # Packing ---------------------------------------------------------------------------------------------------------
    def linear(
        self, parts: Sequence[StoredWeight], biases: Sequence[StoredWeight] = (), exact: bool = False
    ) -> PackedLinear:
        kernels = self._kernels | self._weights.kernels_of(parts)
        return pack(parts, biases, Packing(kernels, self.target, self.num_threads, self._readers))

    def embedding(self, weight: StoredWeight, scale: float = 1.0) -> CpuEmbedding:
        return embedding(weight, self._weights.embed_of, scale)

    def norm(self, weight: StoredWeight, epsilon: float) -> CpuNorm:
        return make_norm(weight, None, epsilon, centred=False)

    def layer_norm(self, weight: StoredWeight, bias: StoredWeight | None, epsilon: float) -> CpuNorm:
        return make_norm(weight, bias, epsilon, centred=True)

    def rope(self, cos: npt.NDArray[np.float32], sin: npt.NDArray[np.float32]) -> CpuRope:
        return make_rope(cos, sin)

    def kv(self, shape: KVShape) -> CpuKV:
        self._calls.pool.check()
        return allocate(shape, self.kv_dtype, self.target)

    def reserve(self, shape: MemoryShape, num_heads: int, limits: StepLimits, widths: Widths) -> int:
        return 0

    def executor(
        self, network: Network, num_heads: int, memory: Memory, limits: StepLimits | None = None
    ) -> StepExecutor:
        return CpuExecutor(self, network, num_heads, memory)

    # Steps that are recorded (steps.py) ------------------------------------------------------------------------------
    @contextmanager
    def recorded(self) -> Iterator[list[NativeCall]]:
        """Collect the native calls that this thread makes; they are made as well."""
        calls: list[NativeCall] = []
        self._calls.buffers.calls = calls
        try:
            yield calls
        finally:
            self._calls.buffers.calls = None

    def buffers(self) -> tuple[Floats, ...]:
        """The memory that this thread's operations return; calls that were recorded write to it."""
        return self._calls.buffers.memory()

    def replay(self, commands: npt.NDArray[np.int64], plans: Sequence[tuple[CpuPlan, KVShape]], num_heads: int) -> None:
        """Make recorded calls again, for a step with these plans."""
        for plan, shape in (*plans, *plans[:-1]):  # all read one place, which moves when a later one needs more
            self._give_parts(plan, num_heads, shape)
        self._calls.run(self._replay, commands.ctypes.data, len(commands))

    # A step ----------------------------------------------------------------------------------------------------------
    def plan(self, metadata: AttentionMetadata, shape: KVShape) -> CpuPlan:
        self._calls.pool.wake()
        busy = -(-8 * self.num_threads // shape.num_kv_heads)
        return make_plan(metadata, shape.block_size, busy, self._tile_rows)

    def embed(self, embedding: CpuEmbedding, ids: Int32Array) -> Floats:
        if not embedding.kernel:
            return embedding.rows(ids)
        ids = np.ascontiguousarray(ids, dtype=np.int32)
        width = embedding.weight.shape[1]
        out, address = self._calls.take(f"embed {embedding.address}", (len(ids), width))
        addresses = embedding.address, ids.ctypes.data, address
        self._calls.run(self._each_row, embedding.kernel, len(ids), *addresses, width, word_of(embedding.scale))
        return out

    def norm_linear(self, x: Floats, norm: CpuNorm | None, linear: PackedLinear) -> Floats:
        num_rows = x.shape[0]
        out, address = self._calls.take("norm_linear", (num_rows, linear.out_features))
        self._product(x, address_of(norm), linear, address)
        return out

    def rope_write(
        self, qkv: Floats, heads: HeadShape, rope: CpuRope | None, norms: HeadNorms | None,
        kv: CpuKV, layer: int, plan: CpuPlan,
    ) -> Floats:  # fmt: skip
        q_norm, k_norm, behind, v_norm = norms or HeadNorms(None, None)
        out, address = self._calls.take("rope_write", (plan.num_rows, heads.num_heads, heads.head_dim))
        self._calls.run(
            self._paged.rope_write(heads, kv.shape), qkv.ctypes.data, address, address_of(q_norm), address_of(k_norm),
            address_of(v_norm), int(behind),
            rope.cos_address if rope else 0, rope.sin_address if rope else 0,
            kv.key_addresses[layer], kv.value_addresses[layer],
            kv.block_stride, plan.positions, plan.slots, plan.num_rows, self.num_threads,
        )  # fmt: skip
        return out

    def attention(self, q: Floats, kv: CpuKV, layer: int, plan: CpuPlan, spec: AttentionSpec) -> Floats:
        num_rows, num_heads, head_dim = q.shape
        kernel = self._paged.attend(num_heads, kv.shape, spec)
        out, address = self._calls.take("attention", (num_rows, num_heads * (kv.shape.value_dim or head_dim)))
        self._give_parts(plan, num_heads, kv.shape)
        addresses = kv.key_addresses[layer], kv.value_addresses[layer]
        self._calls.run(kernel.call, q.ctypes.data, address, *addresses, kv.block_stride, plan.address, kernel.spec)
        return out

    def _give_parts(self, plan: CpuPlan, num_heads: int, shape: KVShape) -> None:
        """Memory for the partial results of a plan."""
        if plan.num_parts:
            size = (plan.num_parts, num_heads, part_floats(shape.value_dim or shape.head_dim))
            plan.words[PLAN.index("parts")] = self._calls.take("parts", size)[1]

    def head_linear(self, weights: Sequence[StoredWeight]) -> HeadLinear:
        return pack_heads([self.linear([weight]) for weight in weights])

    def experts(
        self, spec: ExpertsSpec, router: Any, correction: StoredWeight | None, gate_up: Sequence[Any],
        down: Sequence[Any], shared: SharedExpert | None = None, scales: StoredWeight | None = None,
    ) -> CpuExperts:  # fmt: skip
        return pack_experts(spec, router, (correction, scales), gate_up, down, shared)

    @functools.cached_property
    def _grouped(self) -> GroupedCalls:
        return GroupedCalls(self._calls, self.target, self.cache_dir)

    def multiply_heads(self, x: Floats, linear: HeadLinear) -> Floats:
        rows, inputs, outputs = x.shape[0], linear.in_features, linear.out_features
        out, address = self._calls.take("multiply_heads", (rows, linear.heads * outputs))
        from_, to = (x.ctypes.data, x.shape[1], inputs), (address, out.shape[1], outputs)
        self._grouped.multiply_heads(from_, linear, to, rows)
        return out

    def latent_write(self, latent: Floats, norm: CpuNorm, rope: CpuRope, kv: CpuKV, layer: int, plan: CpuPlan) -> None:
        self._calls.run(
            self._paged.latent_write(kv.shape), latent.ctypes.data, norm.address, rope.cos_address, rope.sin_address,
            kv.key_addresses[layer], kv.block_stride, plan.positions, plan.slots, plan.num_rows,
        )  # fmt: skip

    def latent_queries(self, q: Floats, keys: HeadLinear, rope: CpuRope, plan: CpuPlan) -> Floats:
        rows, latent, turned = q.shape[0], keys.out_features, 2 * rope.cos.shape[1]
        size = keys.in_features + turned
        out, address = self._calls.take("latent_queries", (rows, keys.heads, latent + turned))
        to = address, keys.heads * (latent + turned), latent + turned
        self._grouped.multiply_heads((q.ctypes.data, q.shape[1], size), keys, to, rows)
        kernel = self._paged.turn_tails(keys.heads, latent, turned)
        self._calls.run(kernel, q.ctypes.data, size, address, rope.cos_address, rope.sin_address, plan.positions, rows)
        return out

    def norm_experts_add(
        self, x: Floats, norm: CpuNorm | None, experts: CpuExperts, residual: Floats | None,
        scale: float = 1.0,
    ) -> Floats:  # fmt: skip
        out = self._calls.take("norm_experts", tuple(x.shape))[0] if residual is None else residual
        for first in range(0, x.shape[0], AT_ONCE):
            rows = x[first : first + AT_ONCE]
            shared = (0, 0) if experts.shared is None else self._shared(rows, norm, experts)
            work, outputs = self._grouped.work(experts, rows.shape[0])
            self._product(rows, address_of(norm), experts.router, outputs)
            to = out[first : first + AT_ONCE]
            self._grouped.add_experts(rows, norm, experts, work, to, (scale, float(residual is not None)), shared)
        return out

    def _shared(self, x: Floats, norm: CpuNorm | None, experts: CpuExperts) -> tuple[int, int]:
        """The addresses of the shared expert's results, and of its gate's or 0."""
        assert experts.shared is not None
        gate_up, down, gate = experts.shared
        results, gates = self._calls.take("shared", (x.shape[0], down.out_features))[1], 0
        if experts.spec.gated:
            inner = self.norm_gated(x, norm, gate_up, experts.spec.activation)
        else:
            inner = self.norm_activated(x, norm, gate_up, ungated(experts.spec.activation))
        self._product(inner, 0, down, results)
        if gate is not None:
            gates = self._calls.take("shared_gate", (x.shape[0], 1))[1]
            self._product(x, address_of(norm), gate, gates)
        return results, gates

    def linear_add(self, x: Floats, linear: PackedLinear, residual: Floats, scale: float = 1.0) -> Floats:
        self._product(x, 0, linear, residual.ctypes.data, add=1, scale=scale)
        return residual

    def linear_norm_add(
        self, x: Floats, linear: PackedLinear, norm: CpuNorm, residual: Floats, scale: float = 1.0
    ) -> Floats:
        num_rows, width = residual.shape
        products, address = self._calls.take("linear_norm_add", (num_rows, width))
        self._product(x, 0, linear, address)
        return self.norm_add(products, norm, residual, scale)

    def norm_add(
        self, x: Floats, norm: CpuNorm, residual: Floats | None, scale: float = 1.0, keep: float = 1.0
    ) -> Floats:
        out = self._calls.take("norm_add", tuple(x.shape))[0] if residual is None else residual
        width, factors = norm.weight.shape[0], word_of_two(scale, 0.0 if residual is None else keep)
        parts, addresses = x.shape[0] * (x.shape[1] // width), (x.ctypes.data, norm.address, out.ctypes.data)
        self._calls.run(self._each_row, self._kernels["norm_add"], parts, *addresses, width, factors)
        return out

    def norm_gated(self, x: Floats, norm: CpuNorm | None, gate_up: PackedLinear, activation: GatedActivation) -> Floats:
        num_rows = x.shape[0]
        if gate_up.gate_strips:
            out, target = self._calls.take("norm_gated", (num_rows, gate_up.out_features // 2))
            chosen = ACTIVATIONS[activation]
            self._product(x, address_of(norm), gate_up, target, gate=gate_up.gate_strips, activation=chosen)
            return out
        both, address = self._calls.take("gate_up", (num_rows, gate_up.out_features))
        self._product(x, address_of(norm), gate_up, address)
        return self.gated(both, activation)

    def gated(self, both: Floats, activation: GatedActivation) -> Floats:
        num_rows, half = both.shape[0], both.shape[1] // 2
        out, target = self._calls.take("norm_gated", (num_rows, half))
        chosen = ACTIVATIONS[activation]
        self._calls.run(self._gate_rows, both.ctypes.data, target, num_rows, half, self.num_threads, chosen)
        return out

    def norm_activated(self, x: Floats, norm: CpuNorm | None, up: PackedLinear, activation: Activation) -> Floats:
        out, address = self._calls.take("norm_activated", (x.shape[0], up.out_features))
        self._product(x, address_of(norm), up, address, activation=ACTIVATIONS[activation])
        return out

    def logits(
        self, x: Floats, rows: Int32Array, norm: CpuNorm, head: PackedLinear, softcap: float | None = None
    ) -> Floats:
        rows = np.ascontiguousarray(rows, dtype=np.int32)
        out, address = self._calls.take("logits", (len(rows), head.out_features))
        chosen, scale = (PLAIN, 1.0) if softcap is None else (CAP, softcap)
        chosen_rows = rows.ctypes.data, len(rows)
        self._product(x, norm.address, head, address, rows=chosen_rows, activation=chosen, scale=scale)
        return out

    def norm_rows(self, x: Floats, rows: Int32Array, norm: CpuNorm) -> Floats:
        return normed_rows(x[rows], norm)

    def _product(
        self, x: Floats, norm: int, linear: PackedLinear, out: int, *, rows: tuple[int, int] | None = None,
        add: int = 0, gate: int = 0, activation: int = PLAIN, scale: float = 1.0,
    ) -> None:  # fmt: skip
        """rows: the address of those that are multiplied, and their number."""
        row_ids, num_rows = rows or (0, x.shape[0])
        prepared = self._calls.take("prepared", (min(num_rows, linear.block_rows) + GROUP, linear.stride // 4))[1]
        self._calls.run(
            self.product, x.ctypes.data, norm, row_ids, num_rows, linear.in_features, linear.address, out, add,
            gate, prepared, self.num_threads, word_of(scale), activation,
        )  # fmt: skip

    # KV blocks and logits --------------------------------------------------------------------------------------------
    def copy_blocks(self, kv: CpuKV, copies: Sequence[BlockCopy]) -> None:
        for source, destination, _ in copies:  # whole blocks: what lies behind the copied tokens is not read
            kv.memory[destination] = kv.memory[source]

    def read_blocks(self, kv: CpuKV, blocks: Int32Array) -> bytes:
        return kv.memory[blocks].tobytes()

    def write_blocks(self, kv: CpuKV, blocks: Int32Array, data: bytes) -> None:
        put_blocks(kv, blocks, data)

    def adjust(self, logits: Floats, changes: Changes) -> None:
        change_array(logits, changes.places)
        if len(changes.masks.rows):
            rows, words = (np.ascontiguousarray(array) for array in (changes.masks.rows, changes.masks.words))
            addresses = logits.ctypes.data, words.ctypes.data, rows.ctypes.data
            self._calls.run(self._each_row, self._kernels["mask"], len(rows), *addresses, logits.shape[1], 0)

    def log_probs(self, logits: Floats, tokens: Int32Array, count: int) -> LogProbs:
        return array_log_probs(logits, tokens, count)

    def sample(self, logits: Floats, rows: SamplingRows) -> Int32Array:
        logits = np.ascontiguousarray(logits)
        tokens = np.empty(len(logits), dtype=np.int32)
        addresses = logits.ctypes.data, 0, tokens.ctypes.data
        self._calls.run(self._each_row, self._kernels["largest"], len(logits), *addresses, logits.shape[1], 0)
        sample_warm_rows(logits, rows, tokens)
        return tokens

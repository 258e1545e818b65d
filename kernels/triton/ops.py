"""`TritonOps`: the protocol on NVIDIA and AMD GPUs, over the launches of its neighbour.

Products with dense weights are torch's (cuBLAS, hipBLASLt). On CPU tensors everything runs in Triton's interpreter,
if TRITON_INTERPRET=1 was set before triton was imported: for tests, thousands of times slower than a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from stemma.kernels.changes import Changes, LogProbs
from stemma.kernels.experts import Activation, ExpertsSpec, GatedActivation, SharedExpert, ungated
from stemma.kernels.limits import Report, StepLimits, Steps, Widths
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
from stemma.kernels.tensors import TensorRows, definite, free_memory, total_memory, upload
from stemma.kernels.triton import kv as pool
from stemma.kernels.triton.ahead import LastTokens, LogProbsOnTheWay, OnTheWay, Turn
from stemma.kernels.triton.composed import TritonExperts, by_heads, norm_together, turned
from stemma.kernels.triton.cut import Cutting, cut, piece_of
from stemma.kernels.triton.fp8 import eight_of
from stemma.kernels.triton.fp8_launches import Fp8Kernels
from stemma.kernels.triton.graphs import CudaRecorder, GraphExecutor, cut_pools
from stemma.kernels.triton.home import Home
from stemma.kernels.triton.keys import Room, reserved_bytes
from stemma.kernels.triton.kv import TritonKV
from stemma.kernels.triton.launches import Kernels, Launcher, TritonSpec
from stemma.kernels.triton.packing import (
    DenseLinear,
    PackedLinear,
    Table,
    TritonEmbedding,
    TritonLinear,
    TritonNorm,
    TritonRope,
    pack,
    part_of,
)
from stemma.kernels.triton.plan import AttentionPlan, TritonPlan, attention_plan, step_plan
from stemma.kernels.triton.product_launches import ProductKernels
from stemma.kernels.triton.products import Products, norms_rows
from stemma.kernels.triton.sampling_launches import (
    Fields,
    SamplingKernels,
    log_probs_size,
    packed_fields,
    read_log_probs,
)
from stemma.kernels.triton.sending import Sender
from stemma.kernels.triton.stacking import group
from stemma.kernels.triton.state_ops import TritonStateOps
from stemma.kernels.triton.targets import KVType, Target, check_activation, kv_element, target_of
from stemma.kernels.triton.warming import RUNNING, Stage, WarmedExecutor, compile_all, compiles, rehearse
from stemma.kernels.weights import StoredWeight, dequantize


class TritonOps:
    """Triton kernels on one device.

    dtype: of activations and dense weights: bfloat16 or float16; in the interpreter also float32.
    kv_type: the elements of the KV pool: as the activations, or 8 bits with a scale per token and head.
    graphs: record steps once and replay them.
    quantization: of matrices that would be dense, but for those that are to be exact.
    target, launch: the architecture to make kernels for and what to do with them, if not run them on this device.

    Raises UnsupportedDevice for a device or a type the kernels are not made for.
    """

    name = "triton"
    runs_ahead = True

    def __init__(
        self, device: torch.device, dtype: torch.dtype = torch.bfloat16, kv_type: KVType = "activation",
        target: Target | None = None, launch: Launcher = RUNNING, graphs: bool = True,
        quantization: str | None = None,
    ) -> None:  # fmt: skip
        target = target_of(device) if target is None else target
        self._eight = eight_of(target, quantization)
        check_activation(dtype)
        self.device = device = definite(device)
        self._home, self._graphs, launch = Home(device), graphs, Stage(launch)
        self._stage = launch
        self.dtype = dtype
        self._element = kv_element(target, kv_type, dtype)
        self._kernels = Kernels(target, dtype, launch)
        self._products = ProductKernels(target, dtype, launch)
        self._fp8 = Fp8Kernels(target, dtype, device, launch)
        self._multiply = Products(self._products, self._fp8)
        self._sampling = SamplingKernels(target, launch)
        self._specs: dict[AttentionSpec, TritonSpec] = {}
        self.states = TritonStateOps(device, dtype, target, launch)
        self.rows = TensorRows()
        self.turn = Turn(partial(LastTokens, device, dtype, launch))
        self._sender = Sender(device)
        self._table: Table | None = None  # the last embedding's, until it is tied

    def free_memory(self) -> int | None:
        return free_memory(self.device)

    def total_memory(self) -> int | None:
        return total_memory(self.device)

    def free_unused(self) -> None:
        torch.cuda.empty_cache()

    def on_device(self) -> AbstractContextManager[None]:
        return self._home.enter()

    # Packing ---------------------------------------------------------------------------------------------------------
    def linear(
        self, parts: Sequence[StoredWeight], biases: Sequence[StoredWeight] = (), exact: bool = False
    ) -> TritonLinear:
        tied = part_of(self._table, parts[0]) if len(parts) == 1 and not biases else None
        if tied is not None:
            self._table = None
            return tied
        return pack(parts, biases, self._sender, self.dtype, "none" if exact else self._eight)

    def embedding(self, weight: StoredWeight, scale: float = 1.0) -> TritonEmbedding:
        """The table is packed as a matrix and kept in mind: where it is the head's too, it lies on the device once. So
        rows are unpacked and scaled when they are read."""
        table = pack([replace(weight, ordered=None)], [], self._sender, self.dtype)
        assert isinstance(table, DenseLinear | PackedLinear), "no matrix of 8 bits was asked for"
        self._table = weight, table
        return TritonEmbedding(table, scale)

    def norm(self, weight: StoredWeight, epsilon: float) -> TritonNorm:
        return TritonNorm(self._floats(weight), epsilon)

    def layer_norm(self, weight: StoredWeight, bias: StoredWeight | None, epsilon: float) -> TritonNorm:
        added = None if bias is None else self._floats(bias)
        return TritonNorm(self._floats(weight), epsilon, added, centred=True)

    def _floats(self, weight: StoredWeight) -> torch.Tensor:
        return torch.from_numpy(dequantize(weight)).to(self.device, torch.float32)

    def rope(self, cos: npt.NDArray[np.float32], sin: npt.NDArray[np.float32]) -> TritonRope:
        return TritonRope(*(torch.from_numpy(np.ascontiguousarray(table)).to(self.device) for table in (cos, sin)))

    def kv(self, shape: KVShape) -> TritonKV:
        return pool.allocate(shape, self._element, self.device)

    def executor(
        self, network: Network, num_heads: int, memory: Memory, limits: StepLimits | None = None
    ) -> StepExecutor:
        self._table = None
        if self.device.type == "cuda" and self._graphs:
            recorder = CudaRecorder(self.device)
            return GraphExecutor(self, network, num_heads, memory, recorder, limits or StepLimits())
        return WarmedExecutor(self, network, memory, limits or StepLimits())

    def warm(
        self, steps: Sequence[Steps], memory: Memory, limits: StepLimits, report: Report, *, samples: bool = True
    ) -> int:
        launch = self._stage.launch
        if not compiles(launch):
            return 0
        return compile_all(launch, rehearse(self, steps, memory, limits, samples=samples), report)

    def reserve(self, shape: MemoryShape, num_heads: int, limits: StepLimits, widths: Widths) -> int:
        pools = cut_pools(self, num_heads, shape)
        room = Room.of(limits, pools, shape.states is not None)
        return reserved_bytes(room, pools, widths, limits, self.dtype.itemsize)

    # Plans -----------------------------------------------------------------------------------------------------------
    def plan(self, metadata: AttentionMetadata, shape: KVShape) -> TritonPlan:
        return step_plan(metadata, shape, self.device)

    def cutting(self, num_heads: int, shape: KVShape) -> Cutting:
        """How a pool's attention is cut into rectangles."""
        group = num_heads // shape.num_kv_heads
        narrow, wide = self._kernels.attention_tiles(group, shape.head_dim, self._element.itemsize)
        piece = piece_of(self._element.itemsize, group, shape.head_dim)
        return Cutting(group, narrow.rows, wide.rows, piece, shape.block_size)

    def _attention_plan(self, plan: TritonPlan, num_heads: int) -> AttentionPlan:
        if num_heads not in plan.attention:
            assert plan.metadata is not None, "a layer has other heads than its step was planned for"
            cutting = self.cutting(num_heads, plan.shape)
            pieces = cut(plan.metadata, cutting)
            plan.attention[num_heads] = attention_plan(plan.metadata, pieces, cutting, plan.shape, self.device)
        return plan.attention[num_heads]

    # A step ----------------------------------------------------------------------------------------------------------
    def embed(self, embedding: TritonEmbedding, ids: Int32Array | torch.Tensor) -> torch.Tensor:
        """`ids` may be a tensor on the device, which a captured graph reads again."""
        return self.turn.last.embed(embedding.table, self._upload(ids), embedding.scale)

    def norm_linear(self, x: torch.Tensor, norm: TritonNorm | None, linear: TritonLinear) -> torch.Tensor:
        if norms_rows(linear):
            return self._multiply(x, linear, norm=norm)
        return self._multiply(x if norm is None else self._norm(x, norm), linear)

    def rope_write(
        self, qkv: torch.Tensor, heads: HeadShape, rope: TritonRope | None, norms: HeadNorms | None,
        kv: TritonKV, layer: int, plan: TritonPlan,
    ) -> torch.Tensor:  # fmt: skip
        q = qkv.new_empty((len(qkv), heads.num_heads, heads.head_dim))
        single = norm_together(qkv, heads, norms or HeadNorms(None, None))
        places = plan.positions, plan.slots
        self._kernels.rope_write(qkv, heads, rope, single, kv, layer, places, q)
        return q

    def attention(
        self, q: torch.Tensor, kv: TritonKV, layer: int, plan: TritonPlan, spec: AttentionSpec
    ) -> torch.Tensor:
        known = self._specs.get(spec)
        if known is None:
            known = self._specs[spec] = TritonSpec.of(spec, self.device)
        out = q.new_empty((*q.shape[:2], kv.shape.value_dim or kv.shape.head_dim))
        pieces = self._attention_plan(plan, q.shape[1])
        self._kernels.attend(q, kv, layer, plan.positions, pieces, known, out)
        return out.view(len(q), -1)

    def head_linear(self, weights: Sequence[StoredWeight]) -> torch.Tensor:
        return torch.stack([torch.from_numpy(dequantize(weight)).to(self.dtype) for weight in weights]).to(self.device)

    def experts(
        self, spec: ExpertsSpec, router: Any, correction: StoredWeight | None, gate_up: Sequence[Any],
        down: Sequence[Any], shared: SharedExpert | None = None, scales: StoredWeight | None = None,
    ) -> TritonExperts:  # fmt: skip
        added, factors = (None if each is None else self._floats(each) for each in (correction, scales))
        both, back = group(gate_up, self.dtype), group(down, self.dtype)
        return TritonExperts(spec, router, added, len(gate_up), both, back, shared, factors)

    def multiply_heads(self, x: torch.Tensor, linear: torch.Tensor) -> torch.Tensor:
        return by_heads(x.view(len(x), len(linear), -1), linear).reshape(len(x), -1)

    def latent_write(
        self, latent: torch.Tensor, norm: TritonNorm, rope: TritonRope, kv: TritonKV, layer: int, plan: TritonPlan
    ) -> None:
        width = len(norm.weight)
        normed = self._norm(latent[:, :width].contiguous(), norm)
        key = torch.cat((normed, turned(latent[:, None, width:], rope, plan.positions)[:, 0]), dim=-1)
        none, heads = latent.new_empty(0), HeadShape(0, 1, latent.shape[1])
        places = plan.positions, plan.slots
        self._kernels.rope_write(key, heads, None, HeadNorms(None, None), kv, layer, places, none)

    def latent_queries(self, q: torch.Tensor, keys: torch.Tensor, rope: TritonRope, plan: TritonPlan) -> torch.Tensor:
        plain, tail = q.view(len(q), len(keys), -1).tensor_split([keys.shape[2]], dim=-1)
        return torch.cat((by_heads(plain, keys), turned(tail, rope, plan.positions)), dim=-1)

    def norm_experts_add(
        self, x: torch.Tensor, norm: TritonNorm | None, experts: TritonExperts, residual: torch.Tensor | None,
        scale: float = 1.0,
    ) -> torch.Tensor:  # fmt: skip
        """Entries sorted by expert on the device: nothing here waits for it."""
        x = x if norm is None else self._norm(x, norm)
        spec = experts.spec
        outputs = self._multiply(x, experts.router)
        chosen, weights = self._products.choose(spec, outputs, experts.correction, experts.scales)
        groups = self._products.sort_entries(chosen, experts.num_experts)
        products = self._multiply.grouped(x, experts.gate_up, groups)
        parts = self._multiply.grouped(self._active(products, spec), experts.down, groups)
        beside = gate = None
        if experts.shared is not None:
            beside = self._multiply(self._active(self._multiply(x, experts.shared.gate_up), spec), experts.shared.down)
            gate = None if experts.shared.gate is None else self._multiply(x, experts.shared.gate)
        out = torch.empty_like(x) if residual is None else residual
        self._products.sum_experts(parts, weights, (beside, gate), residual, out, scale)
        return out

    def _active(self, products: torch.Tensor, spec: ExpertsSpec) -> torch.Tensor:
        return (
            self.gated(products, spec.activation) if spec.gated else self._activated(products, ungated(spec.activation))
        )

    def linear_norm_add(
        self, x: torch.Tensor, linear: TritonLinear, norm: TritonNorm, residual: torch.Tensor,
        scale: float = 1.0,
    ) -> torch.Tensor:  # fmt: skip
        return torch.add(residual, self._norm(self._multiply(x, linear), norm), alpha=scale)

    def norm_add(
        self, x: torch.Tensor, norm: TritonNorm, residual: torch.Tensor | None, scale: float = 1.0, keep: float = 1.0
    ) -> torch.Tensor:
        normed = self._norm(x.reshape(-1, len(norm.weight)), norm).view(x.shape)
        return normed * scale if residual is None else torch.add(residual * keep, normed, alpha=scale)

    def norm_activated(
        self, x: torch.Tensor, norm: TritonNorm | None, up: TritonLinear, activation: Activation
    ) -> torch.Tensor:
        return self._activated(self.norm_linear(x, norm, up), activation)

    def _activated(self, products: torch.Tensor, activation: Activation) -> torch.Tensor:
        out = torch.empty_like(products)
        self._kernels.activated(products, activation, out)
        return out

    def linear_add(
        self, x: torch.Tensor, linear: TritonLinear, residual: torch.Tensor, scale: float = 1.0
    ) -> torch.Tensor:
        return self._multiply(x, linear, residual, scale)

    def norm_gated(
        self, x: torch.Tensor, norm: TritonNorm | None, gate_up: TritonLinear, activation: GatedActivation
    ) -> torch.Tensor:
        return self.gated(self.norm_linear(x, norm, gate_up), activation)

    def gated(self, both: torch.Tensor, activation: GatedActivation) -> torch.Tensor:
        out = both.new_empty((len(both), both.shape[1] // 2))
        self._kernels.gated(both, activation, out)
        return out

    def logits(
        self, x: torch.Tensor, rows: Int32Array | torch.Tensor, norm: TritonNorm, head: TritonLinear,
        softcap: float | None = None,
    ) -> torch.Tensor:  # fmt: skip
        """`rows` may be a tensor on the device, which a captured graph reads again."""
        products = self._multiply(self._norm(x, norm, self._upload(rows)), head)
        if self.turn.logits is None:
            logits = products.to(torch.float32)
        else:
            logits = self.turn.logits.room(products).copy_(products)
        return logits if softcap is None else logits.div_(softcap).tanh_().mul_(softcap)

    def norm_rows(self, x: torch.Tensor, rows: Int32Array, norm: TritonNorm) -> torch.Tensor:
        return self._norm(x, norm, self._upload(rows)).to(torch.float32)

    def _upload(self, array: npt.NDArray[Any] | torch.Tensor) -> torch.Tensor:
        if isinstance(array, torch.Tensor):
            return array
        return upload(array, self.device)

    def _norm(self, x: torch.Tensor, norm: TritonNorm, rows: torch.Tensor | None = None) -> torch.Tensor:
        out = x.new_empty((len(x) if rows is None else len(rows), x.shape[1]))
        self._kernels.norm(x, norm, rows, out)
        return out

    # KV blocks and logits --------------------------------------------------------------------------------------------
    def copy_blocks(self, kv: TritonKV, copies: Sequence[BlockCopy]) -> None:
        for wave in pool.waves(copies) if kv.shape.num_layers else ():
            table = upload(np.array(wave, dtype=np.int32), self.device)
            for tensor in kv.tensors:
                self._kernels.copy(pool.as_integers(tensor), table)

    def read_blocks(self, kv: TritonKV, blocks: Int32Array) -> bytes:
        return kv.read(blocks)

    def write_blocks(self, kv: TritonKV, blocks: Int32Array, data: bytes) -> None:
        kv.write(blocks, data)

    def adjust(self, logits: torch.Tensor, changes: Changes) -> None:
        if changes:
            self._sampling.adjust(logits, changes)

    def log_probs(self, logits: torch.Tensor, tokens: Int32Array, count: int) -> LogProbs:
        found = self._log_probs(logits, upload(tokens, self.device), count)
        return read_log_probs(found.cpu().numpy(), len(logits), count)

    def begin_log_probs(
        self, logits: torch.Tensor, sampled: OnTheWay, rows: Int32Array, count: int
    ) -> LogProbsOnTheWay:
        tokens = sampled.there
        if len(rows) != len(tokens):
            tokens = tokens.index_select(0, upload(rows, self.device))
        found = self._log_probs(logits, tokens, count)
        return LogProbsOnTheWay(sampled, found, partial(read_log_probs, rows=len(rows), count=count))

    def _log_probs(self, logits: torch.Tensor, tokens: torch.Tensor, count: int) -> torch.Tensor:
        found = logits.new_empty(log_probs_size(len(logits), count))
        if len(logits):
            self._sampling.log_probs(logits, tokens, count, found)
        return found

    def sample(self, logits: torch.Tensor, rows: SamplingRows) -> Int32Array:
        return self.begin_sample(logits, rows).tokens()

    def begin_sample(self, logits: torch.Tensor, rows: SamplingRows) -> OnTheWay:
        turn = self.turn
        tokens = turn.last.room(len(logits))
        if len(logits):
            if rows is not turn.fields[0]:  # who asks for the same again is answered from there
                turn.fields = rows, Fields.of(upload(packed_fields(rows), self.device))
            self._sampling.sample(logits, turn.fields[1], tokens)
        return turn.last.send(tokens)

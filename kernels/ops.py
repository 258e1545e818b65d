"""The protocol `Ops`: everything a model and a runner ask of a device. What a back end does inside is its own.

Activations are rows as the back end has them (`rows.py`); an operation's result may be written over by the next call of
the same operation in the same thread. Weights, norms, KV and plans are handles that only the back end which made them
reads. `reference.py` is the specification: every other back end is compared with it.

Positions of the KV, for a block size of 4, a sequence of 10 tokens and the block table [7, 2, 5]:

    position      0  1  2  3 | 4  5  6  7 | 8  9
    slot         28 29 30 31 | 8  9 10 11 | 20 21        slot = block * block_size + position % block_size
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from stemma.kernels.changes import Changes, LogProbs
from stemma.kernels.experts import Activation as Activation
from stemma.kernels.experts import ExpertsSpec, SharedExpert
from stemma.kernels.experts import GatedActivation as GatedActivation
from stemma.kernels.limits import Report, StepLimits, Steps, Turns, Warms, Widths
from stemma.kernels.rows import RowOps, Rows
from stemma.kernels.sampled import Reported, Sampled
from stemma.kernels.states import StateMetadata, StateOps
from stemma.kernels.weights import StoredWeight

Int32Array = npt.NDArray[np.int32]

KV_SPLIT = 256
"""Tokens of KV that are reduced as one piece, a constant on purpose: partial sums are merged in order of position, so
that the result does not depend on what else is in the batch or in the cache (invariant 1 of docs/architecture.md)."""


class ForkedOps(RuntimeError):
    """A back end with threads was used in a process that was forked after it was made: they do not exist there."""


def check_process(made_in: int) -> None:
    """Raises ForkedOps in another process than that in which a back end was made."""
    if os.getpid() != made_in:
        raise ForkedOps(
            f"the kernels' threads belong to process {made_in} and do not exist in its fork {os.getpid()}: "
            "load the model in the child, or start children by 'spawn' or 'forkserver'"
        )


class HeadShape(NamedTuple):
    """How the rows of a fused QKV projection divide: `num_heads + 2 * num_kv_heads` heads of `head_dim`."""

    num_heads: int
    num_kv_heads: int
    head_dim: int


@dataclass(frozen=True, slots=True)
class AttentionSpec:
    """How one layer's queries weigh the keys that they see.

    scale: of the products of queries and keys, usually 1 / sqrt(head_dim).
    window: how many tokens a row sees, the last of them itself; None is all (Beltagy et al. 2020).
    softcap: scores become `softcap * tanh(score / softcap)` (Gemma 2); None is off.
    sinks: for each head a score that takes part in the softmax and adds nothing (gpt-oss); () is off.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks: tuple[float, ...] = ()


class HeadNorms(NamedTuple):
    """Norms of queries and keys, and of values.

    q, k: RMS norms of (head_dim,), one for all heads, or of all heads together, (num_heads * head_dim,); or layer norms
        without a bias, each head by itself with weights of its own, (num_heads * head_dim,); None is none.
    after_rope: whether heads are rotated first (Hunyuan).
    v: an RMS norm of (head_dim,) (Gemma 4).
    """

    q: Any | None
    k: Any | None
    after_rope: bool = False
    v: Any | None = None


class KVShape(NamedTuple):
    """The paged KV pool of one model.

    value_dim: None if keys have values beside them, of head_dim too; else values are the first value_dim numbers of the
    keys themselves (latent attention, DeepSeek V2) and take no memory.
    """

    num_layers: int
    num_blocks: int
    block_size: int
    num_kv_heads: int
    head_dim: int
    value_dim: int | None = None


class BlockCopy(NamedTuple):
    """Copy on write: the first `num_tokens` tokens of block `source` become those of block `destination`, a new one,
    in which the back end may change what stands behind them."""

    source: int
    destination: int
    num_tokens: int


class SharedPrefix(NamedTuple):
    """Sequences `[first, last)` of the metadata begin with the same `num_blocks` physical blocks."""

    first: int
    last: int
    num_blocks: int


@dataclass(frozen=True, slots=True)
class AttentionMetadata:
    """Where the tokens of one step stand: host arrays, made by the runner, the same for all layers.

    The tokens of sequence i are rows `[query_starts[i], query_starts[i + 1])`, the last ones of its context:

        context of sequence i   |<------- cached KV ------->|<- this step's tokens ->|
                                0                           |                        context_lens[i]

    positions: (tokens,) position of each row in its sequence.
    slots: (tokens,) where the row's KV is written; -1 writes none, where it lies in the blocks already.
    query_starts: (sequences + 1,) rows of each sequence.
    context_lens: (sequences,) tokens of KV after this step's write.
    block_tables: (sequences, widest) physical blocks in order, padded with 0.
    shared_prefixes: disjoint runs of sequences with a common beginning, a hint that never changes a result.
    window: where they stand in the pool of layers with a window. An entry of 0 stands for a block behind the window of
        all of a sequence's rows in this step, and whatever block 0 holds never matters. Its shared_prefixes are those
        of its own tables: sequences that share full blocks need not share these.
    states: the slots of layers with a state. Both are None for a model without such layers.
    """

    positions: Int32Array
    slots: Int32Array
    query_starts: Int32Array
    context_lens: Int32Array
    block_tables: Int32Array
    shared_prefixes: tuple[SharedPrefix, ...] = ()
    window: AttentionMetadata | None = None
    states: StateMetadata | None = None


@dataclass(frozen=True, slots=True)
class SamplingRows:
    """How each row of logits is sampled; arrays of (rows,).

    temperature: 0 is greedy (the lowest id among the largest logits).
    top_k: 0 is off. top_p: 1 is off. min_p: 0 is off.
    uniform: a number in [0, 1) for each row, drawn by the caller: the same number gives the same token in any batch.
    """

    temperature: npt.NDArray[np.float32]
    top_k: Int32Array
    top_p: npt.NDArray[np.float32]
    min_p: npt.NDArray[np.float32]
    uniform: npt.NDArray[np.float64]


class Linear(Protocol):
    """A packed matrix, or several with one input fused along the outputs, with an optional bias."""

    @property
    def in_features(self) -> int:
        """Columns."""

    @property
    def out_features(self) -> int:
        """Rows, of all the fused matrices together."""


class KV(Protocol):
    """The KV pool of one model: all layers, all blocks."""

    @property
    def shape(self) -> KVShape:
        """Its size."""

    @property
    def num_bytes(self) -> int:
        """Memory of the pool."""

    @property
    def format(self) -> str:
        """How its bytes are read: blocks can be exchanged between pools of one format and shape."""


class Network(Protocol):
    """What a step runs: operations of `Ops` alone, because back ends record them (but `forward_rows`, which takes rows
    too). Host arrays, or tensors on the device where that is recorded; `plans` and `memory` are those of memory.py."""

    def forward(self, ids: Any, plans: Any, memory: Any) -> Rows:
        """Run a step's tokens, writing their KV and states: (tokens,) -> (tokens, hidden)."""

    def forward_rows(self, ids: Any, plans: Any, memory: Any, read: Any) -> Rows:
        """The rows of that which `read` names (memory.py), for which alone the last layer computes more than KV and
        states: (tokens,) -> (rows, hidden)."""

    def logits(self, hidden: Rows, rows: Any) -> Rows:
        """Logits of some rows of `hidden`: float32 (rows, vocabulary)."""


class StepExecutor(Turns, Protocol):
    """Runs whole steps of one network on one memory."""

    def __call__(self, ids: Int32Array, metadata: AttentionMetadata, rows: Int32Array) -> Rows:
        """Compute the tokens that the metadata describes and write their KV; float32 logits (len(rows), vocabulary) of
        rows, which rise. Without any there is KV and no logits. The next step may write over these."""

    def record(self, report: Report, beside: Sequence[Steps] = ()) -> None:
        """Prepare what can be prepared before the first step, telling `report` how much is done. Writes nothing to the
        memory. beside: ways in which steps of this network are computed without this executor."""


class Ops(Warms, Protocol):
    """One back end. Handles are `Any` where they come back: each back end reads those that it made, and no others."""

    name: str
    runs_ahead: bool
    """Whether the device works through what it is asked for in its own time, one thing behind the other. Then an id of
    a step may be negative: -1 - r is the token that the last `begin_sample` chose in row r, for r < MOST_AHEAD."""

    @property
    def states(self) -> StateOps:
        """The operations of layers with a state."""

    @property
    def rows(self) -> RowOps:
        """What else is done to rows."""

    def free_memory(self) -> int | None:
        """Bytes that are free on the device; None where its memory is the host's."""

    def total_memory(self) -> int | None:
        """Bytes of the device's memory, free or not; likewise."""

    def free_unused(self) -> None:
        """Give memory back to the device that is kept for later operations: something did not fit."""

    def on_device(self) -> AbstractContextManager[None]:
        """Inside, this thread's work goes to this back end's device: all but `free_memory` is called inside. Threads
        may be inside at the same time, and what one of them starts comes behind what another has started."""

    # Packing: once, when a model is loaded ----------------------------------------------------------------
    def linear(self, parts: Sequence[StoredWeight], biases: Sequence[StoredWeight] = (), exact: bool = False) -> Linear:
        """Pack matrices (out_i, in) that share their input; the outputs stand one after the other. exact: not smaller
        than they are stored, whatever the back end was told to make of others (routers, logits)."""

    def embedding(self, weight: StoredWeight, scale: float = 1.0) -> Any:
        """Pack an embedding table (vocabulary, hidden). scale: what its rows are multiplied by when they are read."""

    def norm(self, weight: StoredWeight, epsilon: float) -> Any:
        """An RMS norm (Zhang and Sennrich 2019) with its weight (features,)."""

    def layer_norm(self, weight: StoredWeight, bias: StoredWeight | None, epsilon: float) -> Any:
        """A layer norm (Ba et al. 2016), which stands wherever an RMS norm may, but for those of heads."""

    def rope(self, cos: npt.NDArray[np.float32], sin: npt.NDArray[np.float32]) -> Any:
        """Rotary tables (positions, head_dim / 2) for the pairs (i, i + head_dim / 2) (Su et al. 2021).

        Interleaved pairs and heads of which a part is rotated come to this form when a model is loaded: the rows of Q
        and K change places within each head, which changes no product of the two, and what is not rotated has cosine 1.
        """

    def head_linear(self, weights: Sequence[StoredWeight]) -> Any:
        """Pack a matrix (out, in) for each head; all have one shape."""

    def experts(
        self, spec: ExpertsSpec, router: Linear, correction: StoredWeight | None,
        gate_up: Sequence[Linear], down: Sequence[Linear], shared: SharedExpert | None = None,
        scales: StoredWeight | None = None,
    ) -> Any:  # fmt: skip
        """Experts that stand in one layer, each with a gated MLP (Jacobs et al. 1991, Shazeer et al. 2017).

        router: hidden -> experts. correction: (experts,), added to the scores by which experts are chosen.
        scales: (experts,), what the weight of each is multiplied by after all.
        """

    def kv(self, shape: KVShape) -> KV:
        """Allocate a KV pool. Raises MemoryError if it does not fit the device."""

    # A step ----------------------------------------------------------------
    def executor(self, network: Network, num_heads: int, memory: Any, limits: StepLimits | None = None) -> StepExecutor:
        """The fastest way this back end has to run the network's steps, with the operations below. num_heads: of
        queries. memory: as memory.py has it. limits: of the steps to make room for."""

    def reserve(self, shape: Any, num_heads: int, limits: StepLimits, widths: Widths) -> int:
        """Bytes of the device that steps of these limits need beside weights and memory. shape: of the memory, whatever
        its number of blocks; 0 where memory is the host's."""

    def plan(self, metadata: AttentionMetadata, shape: KVShape) -> Any:
        """Prepare a step: upload the metadata, choose splits."""

    def embed(self, embedding: Any, ids: Int32Array) -> Rows:
        """Rows of the table -> (tokens, hidden). Two tables do not write over each other's results."""

    def norm_linear(self, x: Rows, norm: Any | None, linear: Any) -> Rows:
        """`linear(norm(x))`: (tokens, hidden) -> (tokens, out_features). No norm leaves x as it is."""

    def rope_write(
        self, qkv: Rows, heads: HeadShape, rope: Any | None, norms: HeadNorms | None,
        kv: Any, layer: int, plan: Any,
    ) -> Rows:  # fmt: skip
        """Norm the heads of Q and K if asked, rotate them if asked, write K and V to their slots.

        qkv: (tokens, (num_heads + 2 * num_kv_heads) * head_dim) -> Q as (tokens, num_heads, head_dim). Without KV
        heads, of a layer that reads what another one has written, nothing is written.
        """

    def multiply_heads(self, x: Rows, linear: Any) -> Rows:
        """Each head by its own matrix: (tokens, heads * in) -> (tokens, heads * out)."""

    def latent_write(self, latent: Rows, norm: Any, rope: Any, kv: Any, layer: int, plan: Any) -> None:
        """Norm the first numbers of a latent, rotate those behind them, write both as the token's key, of one head.

        latent: (tokens, head_dim). What is normed is as wide as the norm, what is rotated has twice rope's angles.
        """

    def latent_queries(self, q: Rows, keys: Any, rope: Any, plan: Any) -> Rows:
        """Queries for latent keys (DeepSeek V2, section 2.1, with its keys' matrix absorbed in the queries).

        q: (tokens, heads * (in + rotated)); keys: a head_linear (in -> latent). Each head's first numbers are
        multiplied, those behind them rotated -> (tokens, heads, latent + rotated).
        """

    def attention(self, q: Rows, kv: Any, layer: int, plan: Any, spec: AttentionSpec) -> Rows:
        """Causal attention of this step's rows over what they see of their contexts.

        q: (tokens, num_heads, head_dim) -> (tokens, num_heads * head_dim); where the KV has a value_dim, that many.
        """

    def linear_add(self, x: Rows, linear: Any, residual: Rows, scale: float = 1.0) -> Rows:
        """`residual + scale * linear(x)`; may work in place on `residual`, which the caller must not use again."""

    def linear_norm_add(self, x: Rows, linear: Any, norm: Any, residual: Rows, scale: float = 1.0) -> Rows:
        """`residual + scale * norm(linear(x))`; may work in place on `residual`."""

    def norm_add(self, x: Rows, norm: Any, residual: Rows | None, scale: float = 1.0, keep: float = 1.0) -> Rows:
        """`keep * residual + scale * norm(x)`; may work in place on `residual`, and without one is the norm alone. An
        RMS norm that is narrower than a row norms each part as wide by itself."""

    def norm_gated(self, x: Rows, norm: Any | None, gate_up: Any, activation: GatedActivation) -> Rows:
        """`activation(gate) * up` of `gate_up(norm(x))`, gate first -> (tokens, out_features / 2) (Shazeer 2020)."""

    def gated(self, both: Rows, activation: GatedActivation) -> Rows:
        """The same of products that are there already: (tokens, 2 * inner) -> (tokens, inner), bit for bit."""

    def norm_activated(self, x: Rows, norm: Any | None, up: Any, activation: Activation) -> Rows:
        """`activation(up(norm(x)))` -> (tokens, out_features), an MLP without a gate."""

    def norm_experts_add(
        self, x: Rows, norm: Any | None, experts: Any, residual: Rows | None, scale: float = 1.0
    ) -> Rows:
        """`residual + scale * the weighted sum of each token's experts of norm(x)`; may work in place on `residual`,
        and without one is the sum alone."""

    def logits(self, x: Rows, rows: Int32Array, norm: Any, head: Any, softcap: float | None = None) -> Rows:
        """`head(norm(x[rows]))` -> float32 (rows, vocabulary), with a soft cap like that of scores if asked."""

    def norm_rows(self, x: Rows, rows: Int32Array, norm: Any) -> Rows:
        """`norm(x[rows])` -> float32 (rows, hidden), what embeddings are made of."""

    # KV blocks and logits ----------------------------------------------------------------
    def copy_blocks(self, kv: Any, copies: Sequence[BlockCopy]) -> None:
        """Run copies in order, in every layer: a later one may read what an earlier one wrote."""

    def read_blocks(self, kv: Any, blocks: Int32Array) -> bytes:
        """The KV bytes of these blocks, in this back end's own form (for snapshots)."""

    def write_blocks(self, kv: Any, blocks: Int32Array, data: bytes) -> None:
        """Put back what `read_blocks` returned. Raises ValueError if the size does not fit."""

    def adjust(self, logits: Rows, changes: Changes) -> None:
        """In place: float32 (rows, vocabulary)."""

    def log_probs(self, logits: Rows, tokens: Int32Array, count: int) -> LogProbs:
        """Log-probabilities in float32 (rows, vocabulary) of a token of each row, and the `count` most likely of each.
        One row's do not hang on others."""

    def sample(self, logits: Rows, rows: SamplingRows) -> Int32Array:
        """One token a row. Order: temperature, top-k, top-p (of what top-k left), min-p; then, over the kept tokens in
        ascending id order, the first whose cumulative probability exceeds `uniform` times their sum."""

    def begin_sample(self, logits: Rows, rows: SamplingRows) -> Sampled:
        """The same; only its `tokens()` waits for the device, also for a step without rows."""

    def begin_log_probs(self, logits: Rows, sampled: Any, rows: Int32Array, count: int) -> Reported:
        """`log_probs` of tokens that were just sampled, the r-th of row `rows[r]`; only its `log_probs()` waits."""

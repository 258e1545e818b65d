"""Layers that keep a state: what a slot holds, where a step reads and writes it, and the operations on it.

A slot is the memory of one sequence, or of one mark, in all layers with a state: it is overwritten at each position,
so it stands for the tokens up to one position and no other. Numbers are float32 whatever activations are (float64 in a
reference of float64): a state is never rounded.

    sequence i           pieces rows[i] ... rows[i + 1]
    tokens of the step   |------ piece 0 ------|--- piece 1 ---|- piece 2 -|
    slots                7 -> 3                3 -> 9          9 -> 4          sources 7 3 9, targets 3 9 4
                         before the step       a mark          behind the step

No piece writes to a slot from which its sequence's first piece reads, so a step that is computed again gives the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from stemma.kernels.rows import Rows
from stemma.kernels.weights import StoredWeight

Int32Array = npt.NDArray[np.int32]
ZEROS = -1
"""The source of a piece that begins a sequence."""


class LayerState(NamedTuple):
    """What one layer keeps in a slot.

    conv: (channels, earlier inputs) of its short convolution; (0, 0) is none.
    recurrent: (heads, rows, columns); (0, 0, 0) is none. A delta rule's rows are of keys, its columns of values;
    Mamba-2's rows are of a head's outputs, its columns of its state.
    """

    conv: tuple[int, int] = (0, 0)
    recurrent: tuple[int, int, int] = (0, 0, 0)

    @property
    def conv_size(self) -> int:
        """Numbers."""
        return self.conv[0] * self.conv[1]

    @property
    def size(self) -> int:
        """Numbers."""
        heads, rows, columns = self.recurrent
        return self.conv_size + heads * rows * columns


class StateShape(NamedTuple):
    """The slots of one model. layers: of those with a state, in order."""

    num_slots: int
    layers: tuple[LayerState, ...]

    @property
    def slot_bytes(self) -> int:
        """Of one slot."""
        return 4 * sum(layer.size for layer in self.layers)


@dataclass(frozen=True, slots=True)
class StateMetadata:
    """The pieces of one step, the same for all layers: host arrays of int32, made by the runner.

    rows: (sequences + 1,) pieces of each sequence, one behind the other. starts: (pieces + 1,) the step's tokens that
    each piece covers; none is empty. sources, targets: (pieces,) slots; a source may be ZEROS. A sequence's next piece
    reads what the one before has written. positions: (sequences,) of each sequence's first token, for back ends that
    compute many tokens at once and want to do the same whatever the step; None is unknown.
    """

    rows: Int32Array
    starts: Int32Array
    sources: Int32Array
    targets: Int32Array
    positions: Int32Array | None = None


@dataclass(frozen=True, slots=True)
class DeltaRuleSpec:
    """Sizes of a gated delta rule.

    grouped: which key head a value head has: "repeat" gives neighbours the same one (head h has h // (value_heads /
    key_heads)), "tile" gives head h the key head h % key_heads.
    """

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    grouped: Literal["repeat", "tile"] = "repeat"

    @property
    def width(self) -> int:
        """Of queries, keys and values together."""
        return 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim


@dataclass(frozen=True, slots=True)
class Mamba2Spec:
    """Sizes of a Mamba-2 scan. low, high: what time steps are held between."""

    heads: int
    head_dim: int
    groups: int
    state: int
    low: float = 0.0
    high: float = float("inf")

    @property
    def width(self) -> int:
        """Of inputs, B and C together."""
        return self.heads * self.head_dim + 2 * self.groups * self.state


class States(Protocol):
    """The slots of one model on one back end."""

    @property
    def shape(self) -> StateShape:
        """Their number, and what is in one."""

    @property
    def num_bytes(self) -> int:
        """Memory of all."""

    @property
    def format(self) -> str:
        """How the bytes are read: slots can be exchanged between pools of one format and shape."""


class StateOps(Protocol):
    """A back end's operations for layers with a state. Handles are `Any`, as in `Ops`.

    Tokens of a sequence are computed one after the other in one order, so on a CPU a result depends neither on pieces
    nor on chunks or company, bit for bit. Inputs may be columns of a wider product (`x[:, a:b]`).
    """

    def allocate(self, shape: StateShape) -> States:
        """Slots of zeros. Raises MemoryError if they do not fit the device."""

    def plan(self, metadata: StateMetadata, shape: StateShape) -> Any:
        """Prepare a step."""

    def conv(self, weight: StoredWeight, bias: StoredWeight | None) -> Any:
        """A depthwise convolution (channels, taps); the last tap is the token's own."""

    def delta_rule(self, spec: DeltaRuleSpec, decay: StoredWeight, dt_bias: StoredWeight) -> Any:
        """A gated delta rule. decay, dt_bias: (value_heads,); decay is log A, of A > 0."""

    def mamba2(self, spec: Mamba2Spec, decay: StoredWeight, skip: StoredWeight, dt_bias: StoredWeight) -> Any:
        """A Mamba-2 scan. decay (log A, of A > 0), skip (D), dt_bias: (heads,)."""

    def short_conv(
        self, x: Rows, conv: Any, activation: Literal["silu", "none"], states: Any, layer: int, plan: Any
    ) -> Rows:
        """Causal convolution along each sequence (Gu and Dao 2023, section 3.4): (tokens, channels) of both."""

    def gated_delta(self, qkv: Rows, beta: Rows, step: Rows, rule: Any, states: Any, layer: int, plan: Any) -> Rows:
        """The gated delta rule (Yang et al. 2024, "Gated delta networks", equation 10), S of each value head:

            S = exp(-A softplus(step + dt_bias)) S;  S += k (sigmoid(beta) (v - k S));  o = q S

        with q and k of length 1 (rsqrt(sum of squares + 1e-6)), and q divided by sqrt(key_dim).
        qkv: (tokens, spec.width); beta, step: (tokens, value_heads) -> (tokens, value_heads * value_dim).
        """

    def selective_scan(self, x: Rows, step: Rows, scan: Any, states: Any, layer: int, plan: Any) -> Rows:
        """Mamba-2 (Dao and Gu 2024, section 7), h of each head:

            t = clamp(softplus(step + dt_bias), low, high);  h = exp(-A t) h + t x B;  y = h C + D x

        x: (tokens, spec.width), inputs, then B, then C of each group of heads; step: (tokens, heads) ->
        (tokens, heads * head_dim).
        """

    def gated_norm(self, x: Rows, gate: Rows, norm: Any, groups: int, *, gate_first: bool) -> Rows:
        """`norm(x) * silu(gate)`, or `norm(x * silu(gate))`; each of `groups` equal parts of a row by itself. The
        norm's weight is as wide as a row, or as one part, for all alike."""

    def gate(self, x: Rows, gate: Rows, activation: Literal["none", "sigmoid", "silu"]) -> Rows:
        """`x * activation(gate)`, (tokens, width) each."""

    def read(self, states: Any, slots: Sequence[int]) -> bytes:
        """The bytes of these slots, in this back end's own form (for snapshots)."""

    def write(self, states: Any, slots: Sequence[int], data: bytes) -> None:
        """Put back what `read` returned. Raises ValueError if the size does not fit."""

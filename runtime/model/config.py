"""What is known of a model before its weights are read: its sizes, and how it differs from Llama, part by part. Pure
data: no file is opened here. A family's file makes it of the settings in a model's files; the parts compute by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from stemma.kernels.experts import ExpertsSpec
from stemma.kernels.memory import MemoryShape
from stemma.kernels.ops import Activation, HeadShape, KVShape
from stemma.kernels.states import DeltaRuleSpec, LayerState, Mamba2Spec, StateShape


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary position embedding: frequency i is `theta ** (-2 i / rotated) / factors[i]`.

    factors: (rotated / 2,) divisors of the frequencies, which every supported scaling comes down to; () is none.
    amplitude: what cosines and sines are multiplied by (the attention factor of yarn and longrope).
    """

    theta: float
    factors: tuple[float, ...] = ()
    amplitude: float = 1.0


Mixer = Literal["attention", "delta", "mamba", "conv", "attention and mamba", "none"]
"""What a layer has where Llama has attention: one with a state, or both side by side, or nothing."""
STATE_MIXERS = frozenset({"delta", "mamba", "conv", "attention and mamba"})


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer has of its own.

    rope: None rotates nothing. window: tokens that a row sees, the last of them itself; None is all.
    mlp: whether there is an MLP, or experts, behind the mixer. intermediate: of it; None is the model's.
    kv_from: the layer before whose keys and values it reads, and makes none; None makes its own.
    keys_are_values: what is projected is both, before either is normed or rotated.
    """

    rope: RopeConfig | None
    window: int | None = None
    mixer: Mixer = "attention"
    mlp: bool = True
    intermediate: int | None = None
    kv_from: int | None = None
    keys_are_values: bool = False

    @property
    def attends(self) -> bool:
        return self.mixer in ("attention", "attention and mamba")

    @property
    def has_kv(self) -> bool:
        """Of its own."""
        return self.attends and self.kv_from is None

    @property
    def has_state(self) -> bool:
        return self.mixer in STATE_MIXERS


@dataclass(frozen=True, slots=True)
class Attention:
    """How a family's attention differs from Llama's.

    scale: of the products of queries and keys; None is 1 / sqrt(head_dim).
    rotated: the first dimensions of each head, which are rotated; None is all.
    interleaved: whether pairs are neighbours, (0, 1), (2, 3), ..., not halves.
    norms: of Q and K, by head or of all heads together, or "each": a layer norm of each head, with weights of its own.
    norms_after_rope: they are rotated first. value_norm: each head of V is normed too, without a weight.
    bias, output_bias: of Q, K and V, and of the projection behind.
    sinks: each head has a score that takes part in the softmax and adds nothing.
    read, added: what it reads, and what it adds, is multiplied by these.
    place: what the part is called in a layer.
    gated: of each head, the rows of Q are followed by as many that gate, by a sigmoid, what it says.
    """

    scale: float | None = None
    softcap: float | None = None
    rotated: int | None = None
    interleaved: bool = False
    norms: Literal["head", "width", "each"] | None = None
    norms_after_rope: bool = False
    value_norm: bool = False
    bias: bool = False
    output_bias: bool = False
    sinks: bool = False
    gated: bool = False
    q_norm: str = "q_norm"
    k_norm: str = "k_norm"
    output: str = "o_proj"
    read: float = 1.0
    added: float = 1.0
    place: str = "self_attn"


@dataclass(frozen=True, slots=True)
class Latent:
    """Latent attention (DeepSeek V2): keys and values of all heads are made of one latent, which is what the KV holds.

    rank: of the latent. query_rank: of what queries are made of; None makes them of the residual stream.
    plain, rotated: dimensions of each head's queries and keys; value: of its values.
    """

    rank: int
    query_rank: int | None
    plain: int
    rotated: int
    value: int


@dataclass(frozen=True, slots=True)
class DeltaRule:
    """Gated delta rule (Yang et al. 2024) of the layers that have one. taps: of the short convolution before it."""

    spec: DeltaRuleSpec
    taps: int


class MambaScales(NamedTuple):
    """What a Mamba-2 layer multiplies: what it reads, the parts of its projection, and what it adds."""

    read: float = 1.0
    gate: float = 1.0
    inputs: float = 1.0
    b: float = 1.0
    c: float = 1.0
    steps: float = 1.0
    added: float = 1.0


@dataclass(frozen=True, slots=True)
class Mamba:
    """Mamba-2 (Dao and Gu 2024) of the layers that have it. taps: of the short convolution before the scan.

    bias, conv_bias, output_bias: of the projection, of the convolution, and of the projection behind.
    norm: whether the gate is in what is normed, or comes behind the norm; None is a gate alone.
    place: what the part is called in a layer.
    """

    spec: Mamba2Spec
    taps: int
    bias: bool = False
    conv_bias: bool = True
    output_bias: bool = False
    norm: Literal["gate first", "gate last"] | None = "gate first"
    place: str = "mixer"
    scales: MambaScales = field(default_factory=MambaScales)


@dataclass(frozen=True, slots=True)
class ShortConv:
    """Gated short convolutions (LFM2) of the layers that have one. taps: with the token's own."""

    taps: int
    bias: bool = False


@dataclass(frozen=True, slots=True)
class MLP:
    """How a family's MLP differs from Llama's. gate, up, down: what its matrices are called, and gate_up one that is
    both; no gate is None. place: what the part is called in a layer. gate_scale, added: what the gate is multiplied by
    before its activation, and what the part adds."""

    activation: Activation = "silu"
    bias: bool = False
    place: str = "mlp"
    gate_up: str = "gate_up_proj"
    gate: str | None = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"
    gate_scale: float = 1.0
    added: float = 1.0


@dataclass(frozen=True, slots=True)
class Experts:
    """A family's mixture of experts, where the MLP of other layers stands.

    dense: layers that have an MLP as in other models. intermediate: of one expert; shared_intermediate: of the one that
    all tokens have. bias: of router and experts. correction: added to the scores by which experts are chosen.
    beside: the layers with experts have the MLP too, as Gemma 4 does (parts/beside.py).
    place: what the part is called in a layer; gate, up, down: the matrices of each of its `experts`; no gate is None.
    """

    count: int
    intermediate: int
    spec: ExpertsSpec
    dense: frozenset[int] = frozenset()
    bias: bool = False
    correction: bool = False
    beside: bool = False
    place: str = "mlp"
    router: str = "gate"
    gate: str | None = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"
    shared: str | None = None
    shared_intermediate: int = 0
    shared_gate: str | None = None


@dataclass(frozen=True, slots=True)
class LayerInputs:
    """What each token gives to each layer beside the stream (Gemma 3n, 4). size: of one layer's. vocab_size: rows of
    the table that they are read from."""

    size: int
    vocab_size: int


@dataclass(frozen=True, slots=True)
class Norms:
    """A family's norms, by the names of their tensors in a layer; None has none there.

    kind: RMS norm, or layer norm (with a bias, or without).
    one_more: whether they multiply by 1 + weight.
    parallel: the MLP reads what the attention reads, by the same norm (`mlp` is None), and both are added.
    """

    attention: str | None = "input_layernorm"
    behind_attention: str | None = None
    mlp: str | None = "post_attention_layernorm"
    behind_mlp: str | None = None
    last: str = "model.norm"
    kind: Literal["rms", "layer"] = "rms"
    bias: bool = False
    one_more: bool = False
    parallel: bool = False


@dataclass(frozen=True, slots=True)
class Scales:
    """What is multiplied: embeddings as they are read, what each part adds, logits; and the logits' soft cap."""

    embedding: float = 1.0
    residual: float = 1.0
    logits: float = 1.0
    logits_softcap: float | None = None


class MarkNeeds(NamedTuple):
    """What must be kept to go on at a position, beside the KV of all before it.

    window: the most tokens that a row of a layer with a window sees; None without such layers.
    """

    window: int | None
    has_states: bool


class Place(NamedTuple):
    """Where a layer's KV lies: in which pool, as which of its layers."""

    in_window: bool
    layer: int


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A decoder-only language model: sizes first, then how it differs from Llama.

    context_length: tokens that the model may attend to.
    rope: of most layers. layers: what each has of its own; () is full attention with `rope` in all.
    window_heads: of layers with a window, where they are others.
    """

    name: str
    family: str
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    hidden: int
    intermediate: int
    vocab_size: int
    context_length: int
    norm_epsilon: float
    rope: RopeConfig
    tied_embeddings: bool
    layers: tuple[Layer, ...] = ()
    attention: Attention = field(default_factory=Attention)
    mlp: MLP = field(default_factory=MLP)
    norms: Norms = field(default_factory=Norms)
    scales: Scales = field(default_factory=Scales)
    experts: Experts | None = None
    latent: Latent | None = None
    delta: DeltaRule | None = None
    mamba: Mamba | None = None
    conv: ShortConv | None = None
    window_heads: HeadShape | None = None
    layer_inputs: LayerInputs | None = None

    @property
    def heads(self) -> HeadShape:
        if self.latent is not None:
            return HeadShape(self.num_heads, 1, self.latent.rank + self.latent.rotated)
        return HeadShape(self.num_heads, self.num_kv_heads, self.head_dim)

    def layer(self, index: int) -> Layer:
        """What a layer has of its own."""
        return self.layers[index] if self.layers else Layer(self.rope)

    def window(self, index: int) -> int | None:
        """Tokens that a row of a layer sees; None where that is all that there can be."""
        window = self.layer(index).window
        if window is None or (window >= self.context_length and self.window_heads is None):
            return None
        return min(window, self.context_length)

    def heads_of(self, index: int) -> HeadShape:
        """Of a layer with attention."""
        return self.heads if self.window_heads is None or self.window(index) is None else self.window_heads

    def place(self, index: int) -> Place:
        """Where the KV of a layer with attention lies."""
        of = self.layer(index).kv_from
        if of is not None:
            return self.place(of)
        in_window = self.window(index) is not None
        before = (other for other in range(index) if self.layer(other).has_kv)
        return Place(in_window, sum((self.window(other) is not None) == in_window for other in before))

    def state_index(self, index: int) -> int:
        """Which of the layers with a state a layer is."""
        return sum(self.layer(other).has_state for other in range(index))

    @property
    def marks(self) -> MarkNeeds | None:
        """What is needed to go on at a position; None where its KV is all."""
        windows = [window for index in range(self.num_layers) if (window := self.window(index)) is not None]
        has_states = any(self.layer(index).has_state for index in range(self.num_layers))
        return MarkNeeds(max(windows, default=None), has_states) if windows or has_states else None

    def memory_shape(
        self, num_blocks: int, block_size: int, *, num_window_blocks: int = 0, num_slots: int = 0
    ) -> MemoryShape:
        """The pools of this model; those that its layers do not need are left out."""
        owners = [index for index in range(self.num_layers) if self.layer(index).has_kv]
        num_windows = sum(self.place(index).in_window for index in owners)
        states = tuple(self._layer_state for index in range(self.num_layers) if self.layer(index).has_state)
        heads = self.window_heads or self.heads
        window = self._pool(heads, num_windows, num_window_blocks, block_size) if num_windows else None
        full = self._pool(self.heads, len(owners) - num_windows, num_blocks, block_size)
        return MemoryShape(full, window, StateShape(num_slots, states) if states else None)

    def _pool(self, heads: HeadShape, num_layers: int, num_blocks: int, block_size: int) -> KVShape:
        _, kv_heads, head_dim = heads
        value_dim = None if self.latent is None else self.latent.rank
        return KVShape(num_layers, num_blocks, block_size, kv_heads, head_dim, value_dim)

    @property
    def _layer_state(self) -> LayerState:
        """What each layer with a state keeps."""
        if self.delta is not None:
            rule = self.delta.spec
            return LayerState((rule.width, self.delta.taps - 1), (rule.value_heads, rule.key_dim, rule.value_dim))
        if self.mamba is not None:
            scan = self.mamba.spec
            return LayerState((scan.width, self.mamba.taps - 1), (scan.heads, scan.head_dim, scan.state))
        assert self.conv is not None, "layers with a state, and nothing that says which"
        return LayerState((self.hidden, self.conv.taps - 1))


@dataclass(frozen=True, slots=True)
class GenerationDefaults:
    """What the model's authors recommend; None where they say nothing.

    eos_ids: tokens that end an answer, in ascending order.
    do_sample: whether they recommend to sample at all; False is the likeliest token each time.
    """

    eos_ids: tuple[int, ...]
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    do_sample: bool | None = None


@dataclass(frozen=True, slots=True)
class EmbeddingDefaults:
    """How a model that was made for embeddings makes them.

    pooling: of the last token's state or the mean of all; None where the files do not say. normalize: to length 1.
    prompts: texts that are put before others, by name ("query", "document").
    """

    pooling: Literal["last", "mean"] | None
    normalize: bool
    prompts: Mapping[str, str]

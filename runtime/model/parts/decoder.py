"""The decoder: blocks of attention and MLP on one residual stream, by a `ModelConfig`. Every family is this network;
what is its own is in its configuration. Knows nothing of files, requests or sampling."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

from stemma.kernels.memory import Memory, Plans, ReadRows
from stemma.kernels.ops import Int32Array, Ops
from stemma.kernels.rows import Rows
from stemma.kernels.weights import dequantize
from stemma.runtime.model.config import ModelConfig, RopeConfig
from stemma.runtime.model.parts.attention import SelfAttention
from stemma.runtime.model.parts.beside import MLPAndExperts
from stemma.runtime.model.parts.delta import GatedDelta
from stemma.runtime.model.parts.experts import ExpertMLP
from stemma.runtime.model.parts.latent import LatentAttention
from stemma.runtime.model.parts.layer_inputs import InputTable, LayerInput
from stemma.runtime.model.parts.mamba import MambaMixer
from stemma.runtime.model.parts.mlp import DenseMLP
from stemma.runtime.model.parts.rope import rope_tables
from stemma.runtime.model.parts.short_conv import GatedConv
from stemma.runtime.model.parts.tensors import take_norm
from stemma.runtime.model.weights import WeightSource


class Block(Protocol):
    """One layer."""

    def __call__(self, x: Rows, memory: Memory, plans: Plans) -> Rows:
        """The residual stream with what this layer adds."""

    def of_rows(self, x: Rows, memory: Memory, plans: Plans, read: ReadRows, ops: Ops) -> Rows:
        """The same, for the rows that are read alone, of which there are some or none."""


class Mixer(Protocol):
    """What a layer has where Llama has attention."""

    def add(self, x: Rows, memory: Memory, plans: Plans) -> Rows:
        """The residual stream with what this layer's rows see, or remember."""


class Serial(NamedTuple):
    """The MLP, or the experts, read what the mixer has added to. Some layers have only one of them."""

    mixer: Mixer | None
    mlp: DenseMLP | ExpertMLP | MLPAndExperts | None

    def __call__(self, x: Rows, memory: Memory, plans: Plans) -> Rows:
        if self.mixer is not None:
            x = self.mixer.add(x, memory, plans)
        return x if self.mlp is None else self.mlp.add(x)

    def of_rows(self, x: Rows, memory: Memory, plans: Plans, read: ReadRows, ops: Ops) -> Rows:
        x = _mixed(self.mixer, x, memory, plans, read, ops)
        return self.mlp.add(x) if len(read.rows) and self.mlp is not None else x


class Parallel(NamedTuple):
    """Both read the same (Wang and Komatsuzaki 2021)."""

    mixer: Mixer
    mlp: DenseMLP

    def __call__(self, x: Rows, memory: Memory, plans: Plans) -> Rows:
        inner = self.mlp.inner(x)
        return self.mlp.add_inner(inner, self.mixer.add(x, memory, plans))

    def of_rows(self, x: Rows, memory: Memory, plans: Plans, read: ReadRows, ops: Ops) -> Rows:
        inner = self.mlp.inner(ops.rows.take(x, read.rows)) if len(read.rows) else None
        x = _mixed(self.mixer, x, memory, plans, read, ops)
        return x if inner is None else self.mlp.add_inner(inner, x)


def _mixed(mixer: Mixer | None, x: Rows, memory: Memory, plans: Plans, read: ReadRows, ops: Ops) -> Rows:
    """The rows that are read, with what they see; others write their KV and states."""
    if isinstance(mixer, SelfAttention):
        return mixer.add_rows(x, memory, plans, read)
    return ops.rows.take(x if mixer is None else mixer.add(x, memory, plans), read.rows)


class SideBySide(NamedTuple):
    """Attention and a state read the same, and both are added (Falcon-H1)."""

    attention: Mixer
    mamba: MambaMixer

    def add(self, x: Rows, memory: Memory, plans: Plans) -> Rows:
        """The residual stream with both."""
        inner = self.mamba.inner(x, memory, plans)
        return self.mamba.add_inner(inner, self.attention.add(x, memory, plans))


class Decoder:
    """The network. Shapes: x (tokens, hidden)."""

    def __init__(self, config: ModelConfig, weights: WeightSource, ops: Ops) -> None:
        self.config, self.ops = config, ops
        size = (config.vocab_size, config.hidden)
        table = weights.take("model.embed_tokens.weight", *size)
        self._embedding = ops.embedding(table, config.scales.embedding)
        self._norm = take_norm(config, weights, ops, config.norms.last)
        self._scaled_norm = take_norm(config, weights, ops, config.norms.last, scale=config.scales.logits)
        head = table if config.tied_embeddings else weights.take("lm_head.weight", *size)
        self._head = ops.linear([head], exact=True)
        layers = range(config.num_layers)
        ropes = {_rotation(config, layer) for layer in layers}
        tables = {rotation: _rope(config, ops, *rotation) for rotation in ropes}
        scalars = [_scalar(weights, layer) for layer in layers]
        inputs = config.layer_inputs
        within = scalars if inputs is None else [1.0] * config.num_layers  # what comes last scales the stream
        self._blocks = [
            _block(config, layer, weights, ops, tables[_rotation(config, layer)], within[layer]) for layer in layers
        ]
        self._inputs, self._own_inputs = None, []
        if inputs is not None:
            self._inputs = InputTable(config, inputs, weights, ops)
            self._own_inputs = [LayerInput(config, inputs, at, weights, ops, scalars[at]) for at in layers]

    def forward(self, ids: Int32Array, plans: Plans, memory: Memory) -> Rows:
        x = self.ops.embed(self._embedding, ids)
        inputs = None if self._inputs is None else self._inputs.read(ids, x)
        for layer, block in enumerate(self._blocks):
            x = block(x, memory, plans)
            if inputs is not None:
                x = self._own_inputs[layer].add(x, inputs)
        return x

    def forward_rows(self, ids: Int32Array, plans: Plans, memory: Memory, read: ReadRows) -> Rows:
        if self._inputs is not None:
            return self.ops.rows.take(self.forward(ids, plans, memory), read.rows)
        x = self.ops.embed(self._embedding, ids)
        for block in self._blocks[:-1]:
            x = block(x, memory, plans)
        return self._blocks[-1].of_rows(x, memory, plans, read, self.ops)

    def hidden_states(self, hidden: Rows, rows: Int32Array) -> Rows:
        return self.ops.norm_rows(hidden, rows, self._norm)

    def logits(self, hidden: Rows, rows: Int32Array) -> Rows:
        return self.ops.logits(hidden, rows, self._scaled_norm, self._head, self.config.scales.logits_softcap)


def _rotation(config: ModelConfig, layer: int) -> tuple[RopeConfig | None, int]:
    """Of a layer, and the numbers of a head that it has."""
    head_dim = config.heads_of(layer).head_dim if config.latent is None else config.latent.rotated
    return config.layer(layer).rope, head_dim


def _scalar(weights: WeightSource, layer: int) -> float:
    """What the stream is multiplied by behind a layer, in families whose files say it (Gemma 4)."""
    name = f"model.layers.{layer}.layer_scalar"
    return float(dequantize(weights.take(name, 1))[0]) if weights.has(name) else 1.0


def _rope(config: ModelConfig, ops: Ops, rope: RopeConfig | None, head_dim: int) -> Any:
    if rope is None:
        return None
    return ops.rope(*rope_tables(rope, config.context_length, head_dim, config.attention.rotated or head_dim))


def _block(config: ModelConfig, layer: int, weights: WeightSource, ops: Ops, rope: Any, whole: float) -> Block:
    """whole: what the stream is multiplied by behind it."""
    own, norms, experts = config.layer(layer), config.norms, config.experts
    before = _norm(config, layer, weights, ops, norms.attention, config.attention.read) if own.attends else None
    between = _norm(config, layer, weights, ops, norms.mlp, config.mlp.gate_scale) if own.mlp else None
    mixer = _mixer(config, layer, weights, ops, before, rope)
    if norms.parallel:
        assert mixer is not None, "a layer with nothing beside its MLP"
        return Parallel(mixer, DenseMLP(config, layer, weights, ops, before))
    if not own.mlp:
        return Serial(mixer, None)
    if experts is not None and experts.beside:
        return Serial(mixer, MLPAndExperts(config, experts, layer, weights, ops, between, whole))
    if experts is not None and layer not in experts.dense:
        return Serial(mixer, ExpertMLP(config, experts, layer, weights, ops, between))
    return Serial(mixer, DenseMLP(config, layer, weights, ops, between, whole))


def _norm(
    config: ModelConfig, layer: int, weights: WeightSource, ops: Ops, name: str | None, scale: float
) -> Any:  # fmt: skip
    return None if name is None else take_norm(config, weights, ops, f"model.layers.{layer}.{name}", scale=scale)


def _mixer(config: ModelConfig, layer: int, weights: WeightSource, ops: Ops, norm: Any, rope: Any) -> Mixer | None:
    """norm: what attention reads; others have one of their own."""
    kind = config.layer(layer).mixer
    if kind == "none":
        return None
    if kind == "mamba":
        return _mamba(config, layer, weights, ops)
    if kind == "delta":
        return GatedDelta(config, layer, weights, ops)
    if kind == "conv":
        return GatedConv(config, layer, weights, ops)
    attention: Mixer
    if config.latent is None:
        attention = SelfAttention(config, layer, weights, ops, norm, rope)
    else:
        attention = LatentAttention(config, config.latent, layer, weights, ops, norm, rope)
    return SideBySide(attention, _mamba(config, layer, weights, ops)) if kind == "attention and mamba" else attention


def _mamba(config: ModelConfig, layer: int, weights: WeightSource, ops: Ops) -> MambaMixer:
    assert config.mamba is not None, "a layer of Mamba-2, and nothing that says its sizes"
    return MambaMixer(config, config.mamba, layer, weights, ops)

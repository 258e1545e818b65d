"""What is known of a model before its weights are read. Pure data: no file is opened here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stemma.kernels.ops import HeadShape, KVShape


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary position embedding: frequency i is `theta ** (-2 i / head_dim) / factors[i]`.

    factors: (head_dim / 2,) divisors of the frequencies, which every supported scaling comes down to; () is none.
    """

    theta: float
    factors: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a decoder-only transformer with RMS norms, rotary positions and a gated MLP.

    context_length: tokens the model may attend to. For a model with a sliding window it is the window: up to there
        sliding and full attention are the same.
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

    @property
    def heads(self) -> HeadShape:
        return HeadShape(self.num_heads, self.num_kv_heads, self.head_dim)

    def kv_shape(self, num_blocks: int, block_size: int) -> KVShape:
        """The shape of a KV pool of this model."""
        return KVShape(self.num_layers, num_blocks, block_size, self.num_kv_heads, self.head_dim)


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

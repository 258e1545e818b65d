"""Models of a given shape whose weights are made on the device: random, or on a pretended GPU none at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from stemma.kernels.triton import packing
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.packing import DenseLinear
from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import GenerationDefaults, ModelConfig
from stemma.runtime.model.families.folder_config import read_config
from stemma.runtime.model.load import LoadedModel, assemble
from stemma.runtime.model.parts.decoder import Decoder
from stemma.runtime.model.tiny import byte_tokenizer

ONE = np.uint16(0x3F80)
"""1.0 in bfloat16: what norms multiply by."""


class Shape(NamedTuple):
    """Of a Llama."""

    name: str
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int

    @property
    def weight_bytes(self) -> int:
        """What a step reads of 16-bit weights: layers and head, of the embedding a few rows."""
        width = (self.heads + 2 * self.kv_heads) * self.head_dim
        of_layer = self.hidden * (width + self.heads * self.head_dim + 3 * self.intermediate)
        return 2 * (self.layers * of_layer + self.vocabulary * self.hidden)

    @property
    def kv_token_bytes(self) -> int:
        """16-bit KV of one token."""
        return 2 * 2 * self.layers * self.kv_heads * self.head_dim


LLAMA_8B = Shape("Llama-3-8B", 32, 4096, 14_336, 32, 8, 128, 128_256)
TINY = Shape("tiny", 2, 64, 128, 4, 2, 16, 320)


class ShapedOps(TritonOps):
    """Triton kernels over weights of which only the shape was given."""

    def linear(
        self, parts: Sequence[StoredWeight], biases: Sequence[StoredWeight] = (), exact: bool = False
    ) -> DenseLinear:
        assert not biases
        rows, columns = sum(part.shape[0] for part in parts), parts[0].shape[1]
        return DenseLinear(self._random(rows, columns), None, columns, rows)

    def embedding(self, weight: StoredWeight, scale: float = 1.0) -> Any:
        table = self._random(*weight.shape)
        if not hasattr(packing, "TritonEmbedding"):  # a build before tables were kept as matrices are
            return table
        return packing.TritonEmbedding(DenseLinear(table, None, *reversed(weight.shape)), scale)

    def _random(self, rows: int, columns: int) -> torch.Tensor:
        made = torch.empty(rows, columns, device=self.device, dtype=self.dtype)
        return made.normal_(0.0, columns**-0.5)


class _Shapes:
    """A `WeightSource` without numbers: views of a single one. Keeps what was asked for."""

    def __init__(self) -> None:
        self.tensors: dict[str, StoredWeight] = {}

    def has(self, name: str) -> bool:
        return name in self.tensors

    def take(self, name: str, *shape: int) -> StoredWeight:
        return self.tensors.setdefault(name, StoredWeight("BF16", shape, np.broadcast_to(ONE, shape)))


class _NoOps:
    """Packs nothing."""

    def __getattr__(self, _name: str) -> Any:
        return lambda *_, **__: None


def config_of(shape: Shape, context: int) -> ModelConfig:
    sizes = {
        "model_type": "llama", "num_hidden_layers": shape.layers, "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads, "head_dim": shape.head_dim, "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate, "vocab_size": shape.vocabulary, "max_position_embeddings": context,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
    }  # fmt: skip
    return read_config(sizes, shape.name)


def shaped_model(shape: Shape, ops: ShapedOps, context: int = 16_384) -> LoadedModel:
    """A Llama of that shape with a tokenizer of bytes; ids beyond it have no text."""
    config, source = config_of(shape, context), _Shapes()
    Decoder(config, source, _NoOps())  # type: ignore[arg-type]
    return assemble(Checkpoint(config, source.tensors, byte_tokenizer(), GenerationDefaults((256,))), ops)

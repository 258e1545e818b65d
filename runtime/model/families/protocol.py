"""What the layers above ask of a model. One file for each family implements it."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from stemma.kernels.ops import KV, Int32Array, Ops
from stemma.runtime.model.config import ModelConfig
from stemma.runtime.model.weights import Weights


class Model(Protocol):
    """A network with its packed weights. Has no state of its own: what a step reads and writes is the KV."""

    config: ModelConfig
    ops: Ops

    def forward(self, ids: Int32Array, plan: Any, kv: KV) -> torch.Tensor:
        """Run a step's tokens, writing their KV: (tokens,) -> (tokens, hidden). `plan` comes from `ops.plan`."""

    def hidden_states(self, hidden: torch.Tensor, rows: Int32Array) -> torch.Tensor:
        """Some of the rows that `forward` returned, behind the last norm: float32 (rows, hidden)."""

    def logits(self, hidden: torch.Tensor, rows: Int32Array) -> torch.Tensor:
        """Logits of some of the rows that `forward` returned: float32 (rows, vocab_size)."""


class BuildModel(Protocol):
    """A family's constructor."""

    def __call__(self, config: ModelConfig, weights: Weights, ops: Ops) -> Model:
        """Pack the weights into a model."""

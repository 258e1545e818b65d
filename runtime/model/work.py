"""What one step of a model does, counted: bytes of weights and KV that it reads, operations that it does.

The count is that of the roofline (Williams et al. 2009): a row multiplies each weight once, which is two operations,
and its attention two numbers for each head, dimension and position that it sees.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import NamedTuple

from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import ModelConfig

EXPERT = re.compile(r"\.experts\.")
TABLE = "embed_tokens"


class Attended(NamedTuple):
    """Layers of one kind. operations: of one row for each position that it sees. window: the most it sees, or None."""

    operations: int
    window: int | None


class Work(NamedTuple):
    """Of one model.

    weight_bytes: of all weights, as they are stored. row_bytes: of those that every row reads; the rest are experts'.
    expert_bytes, expert_share: of all experts, and the share of them that one row reads.
    row_operations: of one row, without attention. attended: what attention adds.
    parameters: numbers in all weights.
    """

    weight_bytes: int
    row_bytes: int
    expert_bytes: int
    expert_share: float
    row_operations: int
    attended: tuple[Attended, ...]
    parameters: int

    def bytes_of_rows(self, num_rows: int) -> float:
        """Bytes of weights that a step of so many rows reads. Rows choose their experts independently of each other."""
        return self.row_bytes + self.expert_bytes * (1 - (1 - self.expert_share) ** num_rows)

    def operations(self, first: int, last: int) -> float:
        """Operations of the rows at the positions [first, last) of one sequence."""
        total = float((last - first) * self.row_operations)
        for layers in self.attended:
            total += layers.operations * (_seen(last, layers.window) - _seen(first, layers.window))
        return total


def _seen(num_rows: int, window: int | None) -> int:
    """Positions that the first so many rows of a sequence see, all together."""
    if window is None or num_rows <= window:
        return num_rows * (num_rows + 1) // 2
    return window * (window + 1) // 2 + (num_rows - window) * window


def work_of(checkpoint: Checkpoint) -> Work:
    """Counted from the tensors of a model that was read, of which no number is looked at."""
    config, tensors = checkpoint.config, checkpoint.tensors
    num_bytes = {name: tensor.num_bytes for name, tensor in tensors.items()}
    experts = {name for name in tensors if EXPERT.search(name)}
    tables = {name for name in tensors if _is_table(name, config)}
    every_row = tensors.keys() - experts - tables
    chosen = 0.0 if config.experts is None else config.experts.spec.top_k / config.experts.count
    return Work(
        weight_bytes=sum(num_bytes.values()),
        row_bytes=sum(num_bytes[name] for name in every_row),
        expert_bytes=sum(num_bytes[name] for name in experts),
        expert_share=chosen,
        row_operations=2 * (_matrices(checkpoint, every_row) + int(chosen * _matrices(checkpoint, experts))),
        attended=_attended(config),
        parameters=sum(math.prod(tensor.shape) for tensor in tensors.values()),
    )


def _is_table(name: str, config: ModelConfig) -> bool:
    """Whether a row reads one line of it only: a table of embeddings that is not the head too."""
    return TABLE in name and not (config.tied_embeddings and "per_layer" not in name)


def _matrices(checkpoint: Checkpoint, names: Collection[str]) -> int:
    shapes = [checkpoint.tensors[name].shape for name in names]
    return sum(math.prod(shape) for shape in shapes if len(shape) > 1)


def _attended(config: ModelConfig) -> tuple[Attended, ...]:
    counted: dict[int | None, int] = {}
    for index in range(config.num_layers):
        if config.layer(index).attends:
            num_heads, _, head_dim = config.heads_of(index)
            value_dim = head_dim if config.latent is None else config.latent.rank
            window = config.window(index)
            counted[window] = counted.get(window, 0) + 2 * num_heads * (head_dim + value_dim)
    return tuple(Attended(operations, window) for window, operations in counted.items())


def kv_formula(config: ModelConfig, token_bytes: float) -> str:
    """How a token's bytes come about in the layers that see everything, such as `2 x 30 layers x 3 KV heads x ...`.

    token_bytes: as the back end lays them out, scales beside the numbers included."""
    shape = config.memory_shape(1, 1).full
    if not shape.num_layers:
        return "no layer sees everything"
    sides = 2 if shape.value_dim is None else 1
    number = token_bytes / (sides * shape.num_layers * shape.num_kv_heads * shape.head_dim)
    of_all = f"{shape.num_layers} layers x {shape.num_kv_heads} KV heads x {shape.head_dim} dimensions"
    return f"{'2 x ' if sides == 2 else ''}{of_all} x {number:.4g} bytes"

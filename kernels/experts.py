"""Mixtures of experts: how a layer's router weighs them, and what a layer may have beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

Activation = Literal["silu", "gelu", "gelu_tanh", "relu2"]
"""Of an MLP. gelu is the exact one, gelu_tanh its approximation, relu2 the square of relu."""

GatedActivation = Literal["silu", "gelu", "gelu_tanh", "relu2", "clamped_silu"]
"""Of an MLP with a gate. clamped_silu is gpt-oss's: gates at most 7, ups within 7,
`gate * sigmoid(1.702 * gate) * (up + 1)`."""

Score = Literal["softmax", "sigmoid", "softmax of the chosen"]
"""What becomes of a router's outputs: softmax over all experts (Qwen), sigmoid of each (DeepSeek V3), or softmax over
those that are chosen by the outputs themselves (gpt-oss, Granite)."""


@dataclass(frozen=True, slots=True)
class ExpertsSpec:
    """How each token's experts are chosen and weighed. Of equal ones the lower comes first.

    top_k: how many experts a token has.
    renormalise: whether the weights of those chosen are divided by their sum.
    scaling: what weights are multiplied by after all.
    groups, top_groups: experts stand in so many groups, and are chosen from so many of these (DeepSeek).
    group_score: the best score of a group (V2), or the sum of its two best (V3).
    gated: whether an expert, and the one that all share, has a gate; without one its `gate_up` is the up alone.
    """

    top_k: int
    score: Score = "softmax"
    renormalise: bool = False
    scaling: float = 1.0
    groups: int = 1
    top_groups: int = 1
    group_score: Literal["best", "two best"] = "best"
    activation: GatedActivation = "silu"
    gated: bool = True


def ungated(activation: GatedActivation) -> Activation:
    """That of experts without a gate."""
    assert activation != "clamped_silu", "what is clamped has a gate"
    return activation


class SharedExpert(NamedTuple):
    """An MLP that every token has beside those that are chosen for it.

    gate_up, down: what `Ops.linear` made. gate: one with a single output, whose sigmoid the MLP's output is multiplied
    by, or None.
    """

    gate_up: Any
    down: Any
    gate: Any | None = None

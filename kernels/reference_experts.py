"""The specification of mixtures of experts in plain torch: every token's experts, one expert after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from stemma.kernels.experts import ExpertsSpec

Product = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class ReferenceExperts:
    """gate_up, down: of each expert. shared: its gate_up, down and gate, if there is one. scales: of the weights."""

    spec: ExpertsSpec
    router: Product
    correction: torch.Tensor | None
    gate_up: Sequence[Product]
    down: Sequence[Product]
    shared: tuple[Product, Product, Product | None] | None
    scales: torch.Tensor | None = None


def expert_weights(spec: ExpertsSpec, outputs: torch.Tensor, correction: torch.Tensor | None) -> torch.Tensor:
    """A router's outputs (tokens, experts) -> the weights of all experts, 0 for those not chosen.

    correction: added to the scores that experts are chosen by, not to those that weigh them (Wang et al. 2024,
    "Auxiliary-loss-free load balancing").
    """
    scores = outputs
    if spec.score != "softmax of the chosen":
        scores = outputs.sigmoid() if spec.score == "sigmoid" else outputs.softmax(-1)
    choice = scores if correction is None else scores + correction
    if spec.groups > 1:
        by_group = choice.view(len(choice), spec.groups, -1)
        of_groups = by_group.topk(2 if spec.group_score == "two best" else 1, dim=-1).values.sum(-1)
        best = torch.zeros_like(of_groups).scatter(1, _largest(of_groups, spec.top_groups), 1.0) > 0
        choice = by_group.masked_fill(~best[..., None], float("-inf")).reshape(choice.shape)
    chosen = _largest(choice, spec.top_k)
    weights = scores.gather(1, chosen)
    if spec.score == "softmax of the chosen":
        weights = weights.softmax(-1)
    if spec.renormalise:
        weights = weights / weights.sum(-1, keepdim=True)
    return torch.zeros_like(scores).scatter(1, chosen, weights * spec.scaling)


def _largest(scores: torch.Tensor, count: int) -> torch.Tensor:
    return scores.sort(dim=-1, descending=True, stable=True).indices[:, :count]


def apply_experts(
    x: torch.Tensor, experts: ReferenceExperts, gate: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """The weighted sum of each token's experts, and of the shared one. gate: gates and ups, side by side, to one."""
    weights = expert_weights(experts.spec, experts.router(x), experts.correction)
    weights = weights if experts.scales is None else weights * experts.scales
    total = torch.zeros_like(x)
    for index, (gate_up, down) in enumerate(zip(experts.gate_up, experts.down, strict=True)):
        rows = weights[:, index].nonzero()[:, 0]
        total[rows] += weights[rows, index, None] * down(gate(gate_up(x[rows])))
    if experts.shared is not None:
        gate_up, down, shared_gate = experts.shared
        shared = down(gate(gate_up(x)))
        total += shared if shared_gate is None else shared_gate(x).sigmoid() * shared
    return total

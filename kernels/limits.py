"""What the steps of an executor hold at most, and how wide a model's rows are: what back ends make room for. Knows
nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

Report = Callable[[int, int], None]
"""What is told how many of how many are done."""

Steps = Callable[[Any, Any, Any], Any]
"""Computes steps as a `StepExecutor` does: ids, metadata, rows -> logits."""

SCORED_ROWS = 512
"""Of prompts whose log-probabilities are asked for, in one step: a step of more is computed in parts if need be."""

WORKSPACE_BYTES = 64 << 20
"""What libraries of products keep for each stream that they run on."""


class StepLimits(NamedTuple):
    """max_running: sequences. max_batch_tokens: of a step. context_length: tokens of one sequence."""

    max_running: int = 64
    max_batch_tokens: int = 1024
    context_length: int = 8192


class Warms(Protocol):
    """What a back end does before the first step."""

    def warm(
        self, steps: Sequence[Steps], memory: Any, limits: StepLimits, report: Report, *, samples: bool = True
    ) -> int:
        """Compile what these ways of computing steps, within limits, may have the device do, and what is done to the
        memory's blocks and, where it `samples`, to logits; `report` is told how much is done. Nothing is written.
        Returns how many things were compiled: none where nothing need be."""


class Turns(Protocol):
    """What has all steps of an engine computed by one thread."""

    def take_turn(self) -> None:
        """This thread computes them from now on, and samples from them."""


class Widths(NamedTuple):
    """Numbers of a model's rows. inner: what MLPs make of a token, of all that one layer makes at once. experts: that
    compute a token, each a row as wide as the residual stream."""

    hidden: int
    inner: int
    vocabulary: int
    experts: int = 0


def eager_rows(limits: StepLimits) -> int:
    """Rows of logits that a step of operations one by one is given room for."""
    return min(limits.max_batch_tokens, limits.max_running + SCORED_ROWS)


def step_bytes(limits: StepLimits, widths: Widths, heads: int, itemsize: int) -> int:
    """What the largest step needs while it runs operation by operation: its activations; its logits, as the product
    makes them and in float32; and once more the logits of those that change theirs. heads: numbers of a token's
    queries, keys and values. itemsize: bytes of an activation."""
    of_token = (4 + widths.experts) * widths.hidden + 3 * widths.inner + 2 * heads
    activations = limits.max_batch_tokens * of_token * itemsize
    changed = min(limits.max_running, limits.max_batch_tokens)
    return activations + (eager_rows(limits) * (itemsize + 4) + changed * 4) * widths.vocabulary

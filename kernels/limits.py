"""What the steps of an executor hold at most, and how wide a model's rows are: what back ends make room for. Knows
nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

Report = Callable[[int, int], None]
"""What is told how many of how many are done."""


class StepLimits(NamedTuple):
    """max_running: sequences. max_batch_tokens: of a step. context_length: tokens of one sequence."""

    max_running: int = 64
    max_batch_tokens: int = 1024
    context_length: int = 8192


class Widths(NamedTuple):
    """Numbers of a model's rows. inner: what MLPs make of a token, of all that one layer makes at once."""

    hidden: int
    inner: int
    vocabulary: int

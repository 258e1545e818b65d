"""What one step of a scheduler may hold."""

from __future__ import annotations

from dataclasses import dataclass

from stemma.runtime.core.order import OrderName


@dataclass(frozen=True, slots=True)
class Limits:
    """What one step may hold.

    max_running: sequences that hold KV at once. max_batch_tokens: tokens computed in a step, of all sequences.
    max_chunk: tokens of one prompt computed in a step (chunked prefill). reuse: look prefixes up and keep them.
    jump_forward: append what grammar matchers force. order: who of the waiting goes next. tpot: seconds that a further
    token may take; None bounds a step beside streams that are read by what it takes without prompts.
    """

    max_running: int = 64
    max_batch_tokens: int = 1024
    max_chunk: int = 1024
    reuse: bool = True
    jump_forward: bool = True
    order: OrderName = "fair"
    tpot: float | None = None

"""What a replica last said of how busy it is. Nothing is reckoned here."""

from __future__ import annotations

from typing import NamedTuple


class Load(NamedTuple):
    """Of one replica.

    waiting_tokens: of prompts that it accepted and has neither found in its cache nor computed yet.
    running: sequences that it has begun and not ended. capacity: how many of them may run at once.
    kv_share: of its KV memory, what running sequences hold: 0 to 1. What is only cached does not count.
    draining: it ends what it has, and takes nothing new.
    at: when it was asked, by the clock of whoever chooses: what was sent to it later is not in these numbers.
    """

    waiting_tokens: int
    running: int
    kv_share: float
    capacity: int
    draining: bool = False
    at: float = 0.0

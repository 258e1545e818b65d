"""What a step of an engine takes, and how much it holds: figures of a machine and a model."""

from __future__ import annotations

from typing import NamedTuple


class Machine(NamedTuple):
    """Seconds of a step = step + row * sequences that take a token + read * tokens of KV before those
    + token * tokens of a prompt + pair * (tokens of a prompt x KV before them).

    pool_tokens: of KV. max_chunk: tokens of a prompt in a step; max_running: sequences side by side.
    """

    step: float
    row: float
    read: float
    token: float
    pair: float
    pool_tokens: int
    max_chunk: int = 512
    max_running: int = 64

    def seconds(self, num_rows: int, num_read: int, num_prompt: int = 0, num_before: int = 0) -> float:
        """Of a step; `num_before`: tokens before the prompt's chunk."""
        pairs = num_prompt * (num_before + num_prompt / 2)
        return self.step + self.row * num_rows + self.read * num_read + self.token * num_prompt + self.pair * pairs


SMALL_ON_CPU = Machine(0.0033, 0.00084, 3.3e-6, 0.00081, 2.4e-7, 100_000)
"""SmolLM2-135M on two cores of an AMD EPYC with AVX-512 VNNI: prompts of 512 and 2,048 tokens took 0.448 and 2.17 s,
decode steps 4.5, 8.4 and 20.7 ms for 1, 4 and 16 sequences of 76 tokens, 36.8 ms for 8 of 1,012."""

"""How much of prompts a step may have beside decodes, how many may decode, and when a prompt would be through.

All by what steps cost (`step_cost`). Chunks of prompts run beside decodes as in Sarathi-Serve (Agrawal et al. 2024);
there the budget is found beforehand for a machine, here it follows from what is learnt.
"""

from __future__ import annotations

from stemma.runtime.core.step_cost import MOST, NOTHING, Load, StepCost

STRETCH = 2.0
"""What a step with prompts may take beside streams that somebody reads, as a multiple of the step without prompts and
drafts; where a time a token is asked for, that is the bound instead."""

AIM = 0.7
"""Of the time that a token may take: what a step is planned for. Some take longer than was learnt."""

LEAST_CHUNK = 8
"""Tokens of prompts that every step may have, however long it takes, and while nothing is known: prompts always go on.
Also what chunks are multiples of, so that steps come in few sizes."""

FIRST_DECODES = 4
"""Sequences that may decode side by side under a target, while nothing is known."""


class Pace:
    """cost: what is learnt from steps. tpot: seconds that a further token may take; None bounds steps by STRETCH, where
    streams are read.
    """

    def __init__(self, cost: StepCost, tpot: float | None, max_chunk: int, max_batch_tokens: int) -> None:
        self.cost = cost
        self._tpot = tpot
        self._max_chunk = max_chunk
        self._max_batch_tokens = max_batch_tokens

    @property
    def has_target(self) -> bool:
        """Whether a further token may take so long and no longer."""
        return self._tpot is not None

    def admits(self, num_decodes: int, num_read: int) -> bool:
        """Whether so many may decode side by side, with so much KV. One always may."""
        if self._tpot is None or num_decodes <= 1:
            return True
        if not self.cost.knows_decodes:
            return num_decodes <= FIRST_DECODES
        return self.cost.seconds(Load(0, num_decodes, num_read)) <= AIM * self._tpot

    def budget(self, decodes: Load, context: int, *, is_read: bool, num_drafts: int = 0, spent: float = 0.0) -> int:
        """Tokens of prompts beside these decodes, of which so many are drafts. context: of the first prompt's tokens,
        those before. is_read: whether somebody reads one of them while it is made. spent: seconds of the step that are
        gone already."""
        if not decodes.num_decoded or (self._tpot is None and not is_read):
            return MOST
        if not self.cost.is_known:
            return LEAST_CHUNK
        if self._tpot is None:
            plain = decodes._replace(num_decoded=decodes.num_decoded - num_drafts)
            bound = STRETCH * self.cost.seconds(plain)  # whose drafts there are has more tokens; the others only wait
        else:
            bound = AIM * self._tpot - spent
        num_tokens = self.cost.chunk(decodes, context, bound)
        return max(num_tokens // LEAST_CHUNK, 1) * LEAST_CHUNK

    def most_decoded(self, num_read: int) -> int:
        """Tokens that sequences past their prompts, with so much KV, may have in a step, drafts among them."""
        if self._tpot is None or not self.cost.is_known:
            return MOST
        return self.cost.most_decoded(num_read, AIM * self._tpot)

    def prefill_seconds(self, num_tokens: int, context: int, decodes: Load, *, is_read: bool) -> float:
        """How long it takes, beside these decodes, until so many tokens of a prompt are computed; 0 while nobody
        knows."""
        if not self.cost.knows_prompts:
            return 0.0
        chunk = min(self.budget(decodes, context, is_read=is_read), self._max_chunk, self._max_batch_tokens)
        num_steps = -(-num_tokens // chunk)
        pairs = num_tokens * (context + num_tokens / 2)
        whole = self.cost.seconds(Load(num_tokens, 0, 0, pairs))
        others = self.cost.seconds(decodes)
        return whole + others + (num_steps - 1) * max(others, self.cost.seconds(NOTHING))

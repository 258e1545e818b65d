"""How many blocks requests will need: an estimate from the lengths of those that finished. Never touches the cache.

A request that has written g tokens is taken to end at a quantile of the finished ones that wrote more than g, or at
its own limit. Reserving for the limit wastes the pool; reserving nothing makes requests evict and preempt each other.
Others call it admission control by predicted output length (LightLLM's past-future scheduler, Gong et al. 2025).
"""

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple


class Progress(NamedTuple):
    """A running or waiting request: tokens in its blocks, blocks it has, tokens of output so far and at most."""

    num_tokens: int
    num_blocks: int
    num_output: int
    max_output: int


class AdmissionEstimator:
    """Learns output lengths from the last `memory` requests that finished."""

    def __init__(self, block_size: int, *, quantile: float = 0.75, memory: int = 512) -> None:
        if not 0.0 < quantile <= 1.0:
            raise ValueError(f"quantile must be above 0 and at most 1, got {quantile}")
        self._block_size = block_size
        self._quantile = quantile
        self._recent: deque[int] = deque()
        self._sorted: list[int] = []
        self._memory = memory
        self._expected: dict[int, int] = {}  # by the output so far, as long as nobody finishes
        self._misses = 0.0  # how far off the estimates were of late: 0 never too small, 1 always

    def finished(self, num_output: int) -> None:
        """A request ended by itself or at its limit after that many tokens."""
        if self._sorted:
            too_small = num_output > self._expected_output(0)
            self._misses += (float(too_small) - self._misses) / 64
        self._expected.clear()
        self._recent.append(num_output)
        insort(self._sorted, num_output)
        if len(self._recent) > self._memory:
            del self._sorted[bisect_right(self._sorted, self._recent.popleft()) - 1]

    def expected_output(self, num_output: int, max_output: int) -> int:
        """Tokens of output that a request will have in the end; its limit while nothing is known."""
        if not self._sorted:
            return max_output
        return max(min(self._expected_output(num_output), max_output), num_output)

    def blocks_needed(self, request: Progress, num_prompt_left: int = 0) -> int:
        """Blocks still to allocate for a request: its prompt's rest (hits count as there) and its output's.

        At most one block of a sequence is filled in part, so the waste of a correct estimate is below one block.
        """
        output = self.expected_output(request.num_output, request.max_output) - request.num_output
        total = -(-(request.num_tokens + num_prompt_left + output) // self._block_size)
        return max(total - request.num_blocks, 0)

    def blocks_needed_by_all(self, requests: Iterable[tuple[int, int, int, int]]) -> int:
        """The sum of `blocks_needed`, of the numbers of each `Progress`: one call for all, since it is asked for all
        that run whenever one more may."""
        size, expected, is_known, total = self._block_size, self._expected, bool(self._sorted), 0
        for num_tokens, num_blocks, num_output, end in requests:
            if is_known:
                likely = expected.get(num_output) or self._expected_output(num_output)
                if likely < end:
                    end = likely if likely > num_output else num_output
                elif end < num_output:
                    end = num_output
            missing = -(-(num_tokens + end - num_output) // size) - num_blocks
            if missing > 0:
                total += missing
        return total

    def _expected_output(self, num_output: int) -> int:
        """The quantile among those that wrote more; raised while estimates turn out too small too often."""
        known = self._expected.get(num_output)
        if known is None:
            known = self._expected[num_output] = self._quantile_above(num_output)
        return known

    def _quantile_above(self, num_output: int) -> int:
        longer = bisect_right(self._sorted, num_output)
        left = len(self._sorted) - longer
        if left == 0:
            return num_output + max(num_output // 4, self._block_size)
        share = min(max(self._quantile, self._quantile + self._misses - (1 - self._quantile)), 1.0)
        return self._sorted[longer + min(int(share * left), left - 1)]

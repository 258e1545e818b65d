"""Random worlds (benchmarks/radix_worlds.py): everything in any order, every readable cell of KV compared each time."""

import pytest

from benchmarks.radix_worlds import BLOCK_SIZES, World


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_nobody_reads_what_is_not_its_own(block_size: int) -> None:
    for seed in range(6):
        World(1000 * block_size + seed, block_size).run(150)

"""Random worlds (benchmarks/radix_worlds.py): everything in any order, every readable cell of KV compared each time."""

import pytest
from radix_worlds import BLOCK_SIZES, World

from stemma.radix import tree


@pytest.mark.parametrize("block_size", BLOCK_SIZES)
def test_nobody_reads_what_is_not_its_own(block_size: int) -> None:
    for seed in range(6):
        World(1000 * block_size + seed, block_size).run(150)


@pytest.mark.parametrize("max_alone", [0, 1, 4])
def test_misses_are_explained_as_a_look_at_everything_would(max_alone: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the text of most namespaces kept together."""
    monkeypatch.setattr(tree, "MAX_ALONE", max_alone)
    for seed in range(8):
        world = World(50 + seed)
        world.operations += (world.match,) * 12
        world.namespaces += [f"tenant {number}" for number in range(4)]
        world.run(150)

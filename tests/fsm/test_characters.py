"""Sets of characters without their case: what is quick for a letter says the same as all that is alike, one by one."""

import random

import pytest

from stemma.fsm.syntax import characters

ALIKE = {characters.ignoring_case: characters._case_orbits, characters.folding_case: characters._folded}


@pytest.mark.parametrize("ignoring", ALIKE, ids=lambda function: function.__name__)
@pytest.mark.parametrize("size", [1, 2, 40, 900, 9_000])
def test_a_set_without_its_case_holds_all_that_is_like_its_characters(ignoring, size: int) -> None:
    chance = random.Random(size)
    alike = ALIKE[ignoring]()
    for start in [65, 0x17F, 0x3B0, 0xFB05, *(chance.randrange(0x1E000) for _ in range(6))]:
        ranges = characters.union(((start, start + size - 1), (120, 122)))
        found = ignoring(ranges)
        expected = {other for code, orbit in alike.items() if characters.contains(ranges, code) for other in orbit}
        assert all(characters.contains(found, code) for code in expected)
        assert found == characters.union((*ranges, *((code, code) for code in expected)))

"""How often a source is right, learnt level by level, from all sequences and from this one."""

from __future__ import annotations

import pytest

from stemma.runtime.core.drafts.trust import BOUNDS, LEVELS, NUM_LEVELS, Trust

FIRST = (0.5,) * NUM_LEVELS


def test_each_bound_begins_a_level():
    assert [LEVELS[bound] for bound in BOUNDS] == list(range(1, NUM_LEVELS))
    assert LEVELS[0] == 0


def test_chances_are_of_all_tokens_before_as_well():
    assert Trust(FIRST).chances(0, 3) == [0.5, 0.25, 0.125]
    assert len(Trust(FIRST).chances(0, 60)) == 5, "what is hardly ever kept is left out"


def test_what_one_sequence_sees_the_others_begin_with():
    trust = Trust(FIRST)
    one, before = trust.of_sequence(), trust.of_sequence().share(9)
    for _ in range(100):
        one.saw(40, 3, is_wrong=False)
    assert trust.of_sequence().share(9) > 0.8 > before
    assert trust.of_sequence().share(2) == 0.5, "other levels were not seen"


def test_a_sequence_that_disappoints_is_trusted_less_at_every_level_and_others_are_not():
    trust = Trust((0.8,) * NUM_LEVELS)
    one, other = trust.of_sequence(), trust.of_sequence()
    for _ in range(8):
        one.saw(2, 0, is_wrong=True)
    assert one.share(9) < 0.2
    assert other.share(9) == pytest.approx(0.8)
    for _ in range(40):
        one.saw(2, 1, is_wrong=False)
    assert one.share(9) > 0.7, "what is right again is trusted again"


def test_a_sequence_that_does_better_than_others_is_trusted_more_at_every_level():
    trust = Trust((0.6,) * NUM_LEVELS)
    one = trust.of_sequence()
    for _ in range(8):
        one.saw(2, 1, is_wrong=False)
    assert one.share(9) > 0.8
    for _ in range(8):
        one.saw(2, 0, is_wrong=True)
    assert one.share(9) < 0.65, "what goes wrong is trusted no more than elsewhere"


def test_behind_a_token_that_is_right_the_next_one_of_its_level_is_likelier():
    """As it would be, had it been seen: what was seen less counts more."""
    trust, at = Trust(FIRST), BOUNDS[-1]
    first, second, third = trust.chances(at, 3)
    assert (first, second, third) == pytest.approx((0.5, 0.5 * 0.6, 0.5 * 0.6 * 4 / 6))
    for _ in range(200):
        trust.saw(at, 0, is_wrong=True)
        trust.saw(at, 1, is_wrong=False)
    assert trust.chances(at, 2) == pytest.approx([0.5, 0.25], abs=0.005)


def test_what_is_new_is_learnt_whatever_was_seen():
    trust = Trust(FIRST)
    for _ in range(5000):
        trust.saw(0, 0, is_wrong=True)
    for _ in range(1500):
        trust.saw(0, 1, is_wrong=False)
    assert trust.share(0) > 0.8

"""What a step takes is learnt from steps, and what one of them says is not believed at once."""

from __future__ import annotations

import random

import pytest

from stemma.runtime.core.drafts.step_cost import SIZES, StepCost

CURVE = {1: 1.0, 2: 1.3, 3: 1.7, 4: 1.9, 6: 2.8, 8: 3.0, 12: 4.2, 16: 5.4, 24: 7.2, 32: 9.4, 48: 13.6, 64: 17.8}


def learnt(scale=lambda step: 0.005, num_steps=2000):
    cost, draw = StepCost(), random.Random(0)
    for step in range(num_steps):
        size = draw.choice([*CURVE])
        cost.took(size, scale(step) * CURVE[size] * draw.uniform(0.95, 1.05))
    return cost


@pytest.mark.parametrize("scale", [lambda step: 0.005, lambda step: 0.002 + 0.00001 * step], ids=["still", "growing"])
def test_the_shape_is_learnt_whatever_the_scale_does(scale):
    cost = learnt(scale)
    for size, expected in CURVE.items():
        assert cost.of(size) == pytest.approx(expected, rel=0.12)
    assert cost.of(20) == pytest.approx(6.3, rel=0.12)
    assert cost.relative(scale(2000)) == pytest.approx(1.0, rel=0.1)


def test_more_tokens_never_cost_less():
    cost, draw = StepCost(), random.Random(1)
    for _ in range(500):
        cost.took(draw.choice(SIZES), draw.uniform(0.001, 0.1))
        costs = [cost.of(number) for number in range(1, 129)]
        assert costs == sorted(costs)
        assert costs[0] == 1


def test_one_interrupted_step_changes_little():
    cost = learnt()
    cost.took(8, 5.0)
    assert cost.of(8) < 1.1 * CURVE[8]
    assert cost.relative(0.005) > 0.85


def test_bad_luck_is_forgotten():
    cost = StepCost()
    for _ in range(10):
        cost.took(1, 0.005)
    for _ in range(5):
        cost.took(2, 5.0)
    unlucky = cost.of(2)
    for _ in range(3000):
        cost.took(1, 0.005)
    assert cost.of(2) < 1.2 < unlucky


def test_a_size_is_not_judged_by_the_steps_that_prepare_it():
    cost = StepCost()
    for _ in range(20):
        cost.took(1, 0.005)
    before = cost.of(16)
    cost.took(16, 0.1)
    assert cost.of(16) == before
    for _ in range(30):
        cost.took(16, 0.02)
    assert cost.of(16) == pytest.approx(4.0, rel=0.1)

"""What a step takes is learnt from steps, and what one of them says is not believed at once."""

from __future__ import annotations

import random

import pytest

from stemma.runtime.core.step_cost import BOUND, KNOTS, MOST, Load, StepCost

CURVE = {1: 1.0, 2: 1.3, 3: 1.7, 4: 1.9, 6: 2.8, 8: 3.0, 12: 4.2, 16: 5.4, 24: 7.2, 32: 9.4, 48: 13.6, 64: 17.8}


def machine(load: Load) -> float:
    """Seconds on a machine of the tests."""
    return 4e-3 + 5e-4 * load.num_prompt + 2e-4 * load.num_decoded + 1e-8 * load.num_read + 2e-9 * load.num_pairs


def taught(num_steps=400, noise=0.0, hiccups=0.0, seed=0) -> StepCost:
    """It has seen steps of all kinds."""
    cost, numbers = StepCost(), random.Random(seed)
    for _ in range(num_steps):
        prompt = numbers.choice([0, 0, 16, 64, 256])
        decoded = numbers.randrange(0, 16) if prompt else numbers.randrange(1, 16)
        load = Load(prompt, decoded, decoded * numbers.randrange(2000), prompt * numbers.randrange(2000))
        seconds = machine(load) * (1 + noise * numbers.uniform(-1, 1))
        cost.learn(load, seconds * (50 if numbers.random() < hiccups else 1))
    return cost


def relative(cost: StepCost, count: int) -> float:
    return cost.seconds(Load(0, count)) / cost.seconds(Load(0, 1))


LOADS = [Load(0, 8, 8000), Load(64, 8, 8000, 64 * 500), Load(256, 1, 100, 256 * 1000), Load(16, 0, 0, 0)]


@pytest.mark.parametrize(("noise", "hiccups", "within"), [(0, 0, 0.03), (0.2, 0, 0.15), (0.1, 0.03, 0.25)])
def test_what_steps_cost_is_learnt_whatever_the_machine_does_between(noise, hiccups, within):
    cost = taught(noise=noise, hiccups=hiccups)
    for load in LOADS:
        assert cost.seconds(load) == pytest.approx(machine(load), rel=within)


def test_a_machine_that_becomes_slower_is_learnt_anew():
    cost = taught()
    numbers = random.Random(1)
    for _ in range(2000):
        load = Load(numbers.choice([0, 64]), numbers.randrange(1, 16), 4000, 0)
        cost.learn(load, 2 * machine(load))
    assert cost.seconds(Load(64, 8, 4000)) == pytest.approx(2 * machine(Load(64, 8, 4000)), rel=0.1)


def test_long_decodes_that_are_all_alike_leave_what_is_known_of_prompts():
    """Steps that never vary say nothing of one factor apart from the others; none may drift away for that."""
    cost, chance = StepCost(), random.Random(1)
    for turn in range(4):
        for step in range(3000):
            load = Load(0, 8, 8 * (300 + step % 5))
            cost.learn(load, machine(load) * chance.uniform(0.9, 1.4))
        for step in range(6 + turn):
            load = Load(16, 8, 2400, 16.0 * 16 * step)
            cost.learn(load, machine(load) * chance.uniform(0.9, 1.4))
        for num_prompt in (8, 64, 512):
            load = Load(num_prompt, 8, 2400)
            assert cost.seconds(load) == pytest.approx(machine(load), rel=0.6)
        assert cost.seconds(Load(0, 8, 2400)) >= 0


@pytest.mark.parametrize("seconds", [lambda step: 0.005, lambda step: 0.004 + 1e-6 * step], ids=["still", "growing"])
def test_any_shape_of_decoded_tokens_is_learnt(seconds):
    cost, draw = StepCost(), random.Random(0)
    for step in range(4000):
        size = draw.choice([*CURVE])
        cost.learn(Load(0, size, 100 * size), seconds(step) * CURVE[size] * draw.uniform(0.95, 1.05))
    for size, expected in CURVE.items():
        found = cost.seconds(Load(0, size, 100 * size)) / cost.seconds(Load(0, 1, 100))
        assert found == pytest.approx(expected, rel=0.12)


def test_rows_that_are_free_up_to_some_number_are_learnt_as_such():
    """As on a GPU, where weights are read once for all rows until its arithmetic is full."""
    cost, draw = StepCost(), random.Random(0)
    for _ in range(4000):
        size = draw.randrange(1, 100)
        cost.learn(Load(0, size), 0.01 * max(1.0, size / 32) * draw.uniform(0.95, 1.05))
    assert relative(cost, 16) == pytest.approx(1.0, abs=0.06)
    assert relative(cost, 96) == pytest.approx(3.0, rel=0.1)
    assert relative(cost, 2 * BOUND) == pytest.approx(8.0, rel=0.15)


def test_more_tokens_never_cost_less():
    cost, draw = StepCost(), random.Random(1)
    for _ in range(500):
        cost.learn(Load(0, draw.choice(KNOTS) + 1), draw.uniform(0.001, 0.1))
        costs = [cost.seconds(Load(0, count)) for count in range(2 * BOUND)]
        assert costs == sorted(costs)
        assert costs[1] > 0


def test_one_interrupted_step_changes_little():
    cost = taught()
    before = cost.seconds(Load(0, 8, 8000))
    for load in (Load(0, 8, 8000), Load(64, 8, 8000)):
        cost.learn(load, 5.0)
    for _ in range(100):
        cost.learn(Load(0, 8, 8000), machine(Load(0, 8, 8000)))
    assert cost.seconds(Load(0, 8, 8000)) == pytest.approx(before, rel=0.1)


def test_bad_luck_is_forgotten():
    """A number of rows that was slow when it was seen is not for ever, or no draft would be tried again."""
    cost = StepCost()
    for _ in range(100):
        cost.learn(Load(0, 1), 0.005)
    for _ in range(50):
        cost.learn(Load(0, 4), 0.05)
    unlucky = relative(cost, 4)
    for _ in range(8000):
        cost.learn(Load(0, 1), 0.005)
    assert relative(cost, 4) < 1.6 < 2 < unlucky


def test_a_size_is_not_judged_by_the_steps_that_prepare_it():
    cost = StepCost()
    for _ in range(20):
        cost.learn(Load(0, 1), 0.005)
    before = relative(cost, 16)
    for _ in range(2):
        cost.learn(Load(0, 16), 0.5)
    for _ in range(14):
        cost.learn(Load(0, 1), 0.005)
    assert relative(cost, 16) == pytest.approx(before, rel=0.05)
    for _ in range(60):
        cost.learn(Load(0, 16), 0.02)
    assert relative(cost, 16) == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize("prepare", [1.0, 1.1, 30.0])
def test_a_size_that_is_far_dearer_than_its_like_is_known_behind_a_few_steps(prepare):
    """Drafts of many sequences make steps of sizes that were never seen, and are chosen by what these seem to cost."""
    cost = StepCost()
    for step in range(400):
        size = (1, 2, 3, 4, 6, 8)[step % 6]
        cost.learn(Load(0, size), 0.004 + 1e-5 * size)
    for step in range(6):
        for size in (96, 128):
            cost.learn(Load(0, size), 1.1e-3 * size * (prepare if step < 2 else 1.0))
    for size in (96, 128):
        assert cost.seconds(Load(0, size)) == pytest.approx(1.1e-3 * size, rel=0.2)
    assert cost.seconds(Load(0, 4)) == pytest.approx(0.004, rel=0.1)


def test_a_clock_that_stands_still_teaches_nothing():
    cost = StepCost()
    for _ in range(100):
        cost.learn(Load(16, 4, 100, 100), 0.0)
        cost.learn(Load(0, 4, 100), 0.0)
    assert not cost.is_known
    assert cost.seconds(Load(0, 4)) > 0


def test_steps_of_any_length_are_learnt_from():
    """Whatever a clock says, what is learnt stays a number above nothing."""
    cost, draw = StepCost(), random.Random(3)
    for _ in range(3000):
        prompt = draw.choice([0, 0, 1, 7, 500])
        cost.learn(Load(prompt, draw.randrange(300), draw.randrange(10**6), prompt * 1e3), 10 ** draw.uniform(-9, 2))
        assert 0 < cost.seconds(Load()) <= cost.seconds(Load(1, 5, 100, 100)) < 1e3


@pytest.mark.parametrize("seconds", [0.0045, 0.006, 0.02, 0.5])
def test_as_many_are_decoded_as_the_time_allows(seconds):
    cost = taught()
    most = cost.most_decoded(0, seconds)
    assert cost.seconds(Load(0, most)) <= seconds + 1e-9 < cost.seconds(Load(0, most + 1)) + 2e-9
    assert cost.most_decoded(4000, seconds) <= most
    assert cost.most_decoded(0, 0.0) == 0


def test_where_rows_are_free_any_number_is_decoded():
    cost = StepCost()
    for step in range(4000):
        cost.learn(Load(0, 1 + step % 120), 0.01)
    assert cost.most_decoded(0, 0.02) > 1000
    assert cost.most_decoded(0, 0.02) <= MOST

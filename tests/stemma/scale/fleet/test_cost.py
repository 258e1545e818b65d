"""What computing costs, as replicas report it."""

from __future__ import annotations

import random

import pytest

from stemma.runtime.errors import InvalidRequest
from stemma.scale.fleet import PrefillCost


def test_a_line_is_found_through_noise():
    chance, cost = random.Random(2), PrefillCost()
    for _ in range(300):
        tokens = chance.randint(16, 4000)
        cost.learn("a", tokens, (0.02 + 1e-4 * tokens) * chance.uniform(0.9, 1.1))
    start, each = cost.line("a")
    assert start + each * 2000 == pytest.approx(0.22, rel=0.05)
    assert each == pytest.approx(1e-4, rel=0.1)


def test_a_replica_that_said_nothing_is_taken_for_the_average_and_a_slow_one_is_not():
    cost = PrefillCost()
    for tokens in (100, 300, 500) * 20:
        cost.learn("fast", tokens, 1e-4 * tokens)
        cost.learn("slow", tokens, 3e-4 * tokens)
    assert cost.line("slow")[1] > 2 * cost.line("fast")[1]
    assert cost.line("fast")[1] < cost.line("new")[1] < cost.line("slow")[1]


def test_reports_of_one_length_say_what_that_length_costs():
    cost = PrefillCost()
    for _ in range(10):
        cost.learn("a", 512, 0.5)
    start, each = cost.line("a")
    assert start + 512 * each == pytest.approx(0.5)
    assert start >= 0
    assert each > 0


@pytest.mark.parametrize("count", [1, 2, 3, 5, 20, 300])
@pytest.mark.parametrize("seed", range(20))
def test_a_hit_is_worth_most_of_a_prompt_however_uneven_reports_of_like_prompts_are(count, seed):
    chance, cost = random.Random(seed), PrefillCost()
    for _ in range(count):
        cost.learn(chance.choice("ab"), chance.randint(300, 400), chance.uniform(0.05, 1.0))
    for replica in "ab":
        start, each = cost.line(replica)
        assert start + each * 16 < 0.5 * (start + each * 368)


def test_nothing_is_known_until_somebody_reports_and_after_that_replica_is_forgotten_the_average_stays():
    cost = PrefillCost()
    assert cost.line("a") is None
    cost.learn("a", 10, 0.1)
    cost.forget("a")
    assert cost.line("a") == cost.line("b") != None  # noqa: E711


@pytest.mark.parametrize(("tokens", "seconds"), [(0, 1.0), (1, -1.0), (1, float("nan")), (1, float("inf"))])
def test_what_no_replica_can_report_is_refused(tokens, seconds):
    with pytest.raises(InvalidRequest, match="must be"):
        PrefillCost().learn("a", tokens, seconds)

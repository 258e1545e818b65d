"""As many replicas compute prompts as have enough of them, by what they say; bounds and delays are Serve's."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("ray.serve", reason="ray[serve] is not installed: pip install 'stemma-llm[scale]'")

from ray import cloudpickle
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy

from stemma.scale.ray.graph import PROMPTS
from stemma.scale.ray.growing import ASKED, by_prompts


def context(told: dict[str, dict[str, float]] | None, there: int = 2):
    config = AutoscalingConfig(min_replicas=1, max_replicas=8, target_ongoing_requests=2)
    return SimpleNamespace(aggregated_metrics=told, target_num_replicas=there, config=config)


@pytest.mark.parametrize(
    ("told", "wanted"),
    [
        ({ASKED: {"a": 6.0, "b": 4.0}}, 5.0),
        ({ASKED: {"a": 0.0, "b": 1.0}}, 0.5),
        ({ASKED: {"a": 0.0}}, 0.0),
        ({"running_requests": {"a": 9.0}}, 2),
        ({}, 2),
        (None, 2),
    ],
)
def test_it_is_what_was_told_over_the_target(told, wanted):
    assert by_prompts(context(told)) == (wanted, {})


def test_serves_controller_needs_none_of_our_code():
    """What Serve carries there is the function itself, not where it is."""
    carried = AutoscalingPolicy(policy_function=PROMPTS).get_serialized_policy_def()
    assert b"by_prompts" in carried
    assert cloudpickle.loads(carried) is not by_prompts
    assert cloudpickle.loads(carried)(context({ASKED: {"a": 6.0}})) == (3.0, {})

"""How many replicas compute prompts for others. Serve counts requests that come through it; theirs come past it, so
they say themselves how many they have. Serve copies this file's code into its controller: nothing here needs ours."""

from __future__ import annotations

from typing import Any

from ray.serve.config import AutoscalingContext

ASKED = "prompts"
"""What a replica tells: prompts that it computes for others, and those that wait for it."""


def by_prompts(context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
    """As many replicas as have `target_ongoing_requests` prompts each; Serve bounds it, and waits before it follows.
    Where nobody has said anything yet, as many as there are to be."""
    told = (context.aggregated_metrics or {}).get(ASKED)
    if not told:
        return context.target_num_replicas, {}
    return sum(told.values()) / context.config.target_ongoing_requests, {}

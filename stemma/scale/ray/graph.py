"""What Serve deploys: one entrance, or several, before the replicas. A file of Serve's names `build` and its values.

applications:
  - name: stemma
    import_path: stemma.scale.ray.graph:build
    args: {model: ..., engine: {...}, server: {...}, scale: {replicas: 2}}
"""

from __future__ import annotations

from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig

from stemma.scale.ray.entrance import Entrance
from stemma.scale.ray.replica import Replica
from stemma.scale.spec import Spec, spec_of

NAME = "stemma"
ENTRANCE, REPLICA, PREFILL = "Entrance", "Replica", "Prefill"
BUILD = f"{__name__}:build"
STATS_SECONDS = 0.5
"""How often a replica says how busy it is."""
HEALTH_SECONDS = 5.0
HEALTH_TIMEOUT_SECONDS = 60.0
"""A replica that answers nothing for so long is replaced."""
ROUTER = "stemma.scale.ray.router:FleetRouter"
PROMPTS = "stemma.scale.ray.growing:by_prompts"
MANY = 10_000
"""Requests of an entrance at once: it is the replicas who refuse."""


def build(args: dict[str, Any]) -> Application:
    """The graph that Serve deploys. Raises InvalidRequest for what is no deployment."""
    return graph(spec_of(args))


def graph(spec: Spec) -> Application:
    """The same of options that have been read."""
    scale = spec.scale
    entrances = serve.deployment(
        name=ENTRANCE,
        num_replicas=scale.entrances,
        max_ongoing_requests=MANY,
        ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=scale.drain_seconds,
        graceful_shutdown_wait_loop_s=0.5,
    )(serve.ingress()(Entrance))
    one = spec.of_one()
    if scale.has_roles:
        by_prompts = {
            "target_ongoing_requests": scale.target_prompts,
            "policy": AutoscalingPolicy(policy_function=PROMPTS),
        }
        computing = _how_many(scale.prefill_replicas, scale.max_prefill_replicas, **by_prompts)
        answering = _how_many(
            scale.decode_replicas, scale.max_decode_replicas, target_ongoing_requests=scale.target_running
        )
        prefill = _replicas(spec, PREFILL, computing).bind(one, "prefill")
        made: Application = entrances.bind(
            _replicas(spec, REPLICA, answering, prefill=PREFILL).bind(one, "decode"), one, prefill
        )
    else:
        how_many = _how_many(scale.replicas, scale.max_replicas, target_ongoing_requests=scale.target_running)
        made = entrances.bind(_replicas(spec, REPLICA, how_many).bind(one), one)
    return made


def _replicas(spec: Spec, name: str, how_many: dict[str, Any], prefill: str | None = None) -> Any:
    """A deployment of replicas. prefill: the one whose replicas compute prompts for these."""
    scale = spec.scale
    resources: dict[str, Any] = {"num_cpus": scale.replica_cpus or 1.0}  # Ray makes OMP_NUM_THREADS of it
    if scale.replica_gpus:
        resources["num_gpus"] = scale.replica_gpus
    routing = {"block_size": spec.engine.block_size, "num_routers": scale.entrances}
    return serve.deployment(
        name=name,
        max_ongoing_requests=spec.most_at_once,
        ray_actor_options=resources,
        request_router_config=RequestRouterConfig(
            request_router_class=ROUTER,
            request_router_kwargs=routing if prefill is None else {**routing, "prefill": prefill},
            request_routing_stats_period_s=STATS_SECONDS,
        ),
        health_check_period_s=HEALTH_SECONDS,
        health_check_timeout_s=HEALTH_TIMEOUT_SECONDS,
        graceful_shutdown_timeout_s=scale.drain_seconds,
        graceful_shutdown_wait_loop_s=0.5,
        **how_many,
    )(Replica)


def _how_many(least: int, most: int | None, **by: Any) -> dict[str, Any]:
    """Of a deployment. by: what Serve goes by where there may be more."""
    if most is None or most == least:
        return {"num_replicas": least}
    return {"autoscaling_config": AutoscalingConfig(min_replicas=least, max_replicas=most, **by)}

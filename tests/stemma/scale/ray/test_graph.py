"""What Serve is told to deploy; the files in the docs say the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray.serve", reason="ray[serve] is not installed: pip install 'stemma-llm[scale]'")

import yaml
from ray.serve.schema import ApplicationStatus, DeploymentStatus, ServeDeploySchema

from stemma.runtime.errors import InvalidRequest
from stemma.scale.ray.graph import BUILD, NAME, build, graph
from stemma.scale.ray.run import LOCAL, NoRay, NotDeployed, config_of, deployed, write_config
from stemma.scale.spec import spec_of

PAGE = Path(__file__).parents[4] / "docs/scale/ray.md"


def deployments(args: dict[str, Any]) -> dict[str, Any]:
    """By their names."""
    entrance = build(args)._bound_deployment
    return {"Entrance": entrance, "Replica": entrance.init_args[0]._bound_deployment}


def test_replicas_are_as_many_as_asked_and_have_our_router():
    made = deployments({"scale": {"replicas": 3, "replica_cpus": 2}, "engine": {"kv_tokens": 1000, "block_size": 32}})
    replica = made["Replica"]
    assert (replica.num_replicas, replica.ray_actor_options["num_cpus"]) == (3, 2.0)
    config = replica._deployment_config.request_router_config
    assert config.request_router_class == "stemma.scale.ray.router:FleetRouter"
    assert config.request_router_kwargs == {"block_size": 32, "num_routers": 1}
    assert made["Entrance"].ray_actor_options["num_cpus"] == 0


def test_serve_adds_replicas_where_there_may_be_more():
    config = deployments({"scale": {"replicas": 1, "max_replicas": 4, "target_running": 5}})["Replica"]
    scaling = config._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (1, 4, 5.0)


def test_processes_that_stay_are_told_the_same_when_the_number_changes():
    two, five = (deployments({"scale": {"replicas": n}, "engine": {"kv_tokens": 1000}})["Replica"] for n in (2, 5))
    assert two.init_args == five.init_args


def test_of_two_roles_those_that_answer_know_those_that_compute_prompts():
    args = {"scale": {"prefill_replicas": 2, "decode_replicas": 3}, "engine": {"kv_tokens": 1000}}
    entrance = build(args)._bound_deployment
    decode, _, prefill = (getattr(each, "_bound_deployment", each) for each in entrance.init_args)
    assert [(each.name, each.num_replicas, each.init_args[1]) for each in (decode, prefill)] == [
        ("Replica", 3, "decode"), ("Prefill", 2, "prefill")
    ]  # fmt: skip
    assert decode._deployment_config.request_router_config.request_router_kwargs["prefill"] == "Prefill"
    assert "prefill" not in prefill._deployment_config.request_router_config.request_router_kwargs


def test_serve_adds_replicas_of_each_role_by_what_that_role_has():
    scale = {"prefill_replicas": 1, "decode_replicas": 2, "max_prefill_replicas": 3, "target_prompts": 4}
    spec = spec_of({"scale": scale, "engine": {"kv_tokens": 1000}})
    (decode, _, prefill) = (
        getattr(each, "_bound_deployment", each) for each in graph(spec)._bound_deployment.init_args
    )
    scaling = prefill._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (1, 3, 4.0)
    assert scaling.policy.get_policy().__name__ == "by_prompts"
    assert decode.num_replicas == 2
    assert decode._deployment_config.autoscaling_config is None
    more = spec_of({"scale": {**scale, "max_decode_replicas": 5, "target_running": 7}, "engine": {"kv_tokens": 1000}})
    (decode, *_) = (getattr(each, "_bound_deployment", each) for each in graph(more)._bound_deployment.init_args)
    scaling = decode._deployment_config.autoscaling_config
    assert (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests) == (2, 5, 7.0)
    assert scaling.policy.is_default_policy_function()
    assert decode.init_args[0] == replace(spec, scale=replace(more.scale, max_decode_replicas=None)).of_one()
    (application,) = ServeDeploySchema.model_validate(config_of(more)).applications
    assert spec_of(application.args) == more


def test_what_is_no_deployment_is_refused():
    with pytest.raises(InvalidRequest, match="did you mean 'replicas'"):
        build({"scale": {"replica": 2}})


def blocks(kind: str) -> list[Any]:
    """The YAML of the page that has this in it."""
    found = [part.partition("\n```")[0] for part in PAGE.read_text("utf-8").split("```yaml\n")[1:]]
    return [yaml.safe_load(text) for text in found if kind in text]


def checked(config: dict[str, Any]) -> None:
    """That Serve takes a config, and that its application is one that can be built."""
    (application,) = ServeDeploySchema.model_validate(config).applications
    assert application.import_path == BUILD
    assert spec_of(application.args).scale.replicas >= 1


def test_serve_takes_the_config_of_the_docs():
    (config,) = [each for each in blocks("applications:") if "applications" in each]
    checked(config)


def test_the_manifest_of_the_docs_is_a_service_of_kuberays():
    """Field by field what KubeRay's RayService (ray.io/v1) needs: no package brings its schema."""
    (manifest,) = blocks("kind: RayService")
    assert (manifest["apiVersion"], manifest["kind"]) == ("ray.io/v1", "RayService")
    assert manifest["metadata"]["name"]
    spec = manifest["spec"]
    assert set(spec) <= {"serveConfigV2", "rayClusterConfig"}
    checked(yaml.safe_load(spec["serveConfigV2"]))
    cluster = spec["rayClusterConfig"]
    assert set(cluster) <= {"rayVersion", "headGroupSpec", "workerGroupSpecs", "enableInTreeAutoscaling"}
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert set(group) <= {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        (container,) = group["template"]["spec"]["containers"]
        assert container["name"]
        assert container["image"]
        assert set(container["resources"]) == {"limits", "requests"}
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]


def test_a_file_that_cannot_be_written_is_refused_by_name(tmp_path):
    with pytest.raises(InvalidRequest, match="name another file") as refused:
        write_config(spec_of({}), tmp_path / "no" / "folder.json")
    assert refused.value.param == "write"
    write_config(spec_of({"scale": {"replicas": 3}}), tmp_path / "serve.json")
    checked(yaml.safe_load((tmp_path / "serve.json").read_text()))


def test_a_ray_that_does_not_start_says_what_to_do(monkeypatch):
    def init(**options: object) -> None:
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(NoRay, match="less busy"), deployed(spec_of({}), LOCAL):
        pass


@pytest.mark.parametrize(
    ("deployments", "said"),
    [
        (
            {"Replica": ("DEPLOY_FAILED", "3 times\n  File\nE: no model"), "Entrance": ("UPDATING", "E: yet")},
            "E: no model",
        ),
        ({}, "the route is taken"),
    ],
)
def test_replicas_that_do_not_start_are_an_error_that_says_why(deployments, said, monkeypatch):
    each = {
        name: SimpleNamespace(status=DeploymentStatus[status], message=message)
        for name, (status, message) in deployments.items()
    }
    failed = SimpleNamespace(status=ApplicationStatus.DEPLOY_FAILED, message="the route is taken", deployments=each)
    for name, value in {
        "ray.init": None, "ray.shutdown": None, "ray.serve.start": None, "ray.serve.run_many": None,
        "ray.serve.shutdown": None, "ray.serve.status": SimpleNamespace(applications={NAME: failed}),
    }.items():  # fmt: skip
        monkeypatch.setattr(name, lambda *_, value=value, **__: value)
    with pytest.raises(NotDeployed, match=f"did not start: {said}$"), deployed(spec_of({}), LOCAL):
        pass

"""Ray's words for replicas and requests, and ours."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray.serve", reason="ray[serve] is not installed: pip install 'stemma-llm[scale]'")

from ray.serve._private.common import DeploymentHandleSource, DeploymentID, ReplicaID, RequestMetadata
from ray.serve.request_router import PendingRequest

from stemma.radix.events import BlocksStored
from stemma.scale.fleet import hashes_of
from stemma.scale.ray.asked import Asked
from stemma.scale.ray.router import FleetRouter

PROMPT = list(range(64))


def replica(name: str, rank: int) -> Any:
    return SimpleNamespace(
        replica_id=ReplicaID(name, DeploymentID("Replica", "stemma")), replica_metadata={"rank": rank},
        routing_stats={}, max_ongoing_requests=8, get_queue_len=never,
    )  # fmt: skip


async def never(*, deadline_s: float) -> int:
    return 0


@pytest.fixture
async def router() -> Any:
    made = FleetRouter(DeploymentID("Replica", "stemma"), DeploymentHandleSource.REPLICA)
    made.initialize_state(block_size=16)
    made.update_replicas([replica("a", 0), replica("b", 1)])
    return made


def pending(**asked: Any) -> PendingRequest:
    told = Asked(hashes_of(PROMPT, "", 16), len(PROMPT), **asked)
    return PendingRequest([{}, b"", told], {}, RequestMetadata("id", "internal"))


async def ranks(router: Any, **asked: Any) -> list[list[str]]:
    found = await router.choose_replicas(list(router.curr_replicas.values()), pending(**asked))
    return [[each.replica_id.unique_id for each in rank] for rank in found]


async def test_the_one_that_has_the_prompt_is_tried_first(router):
    router._table.index.apply("b", BlocksStored(b"", hashes_of(PROMPT, "", 16), PROMPT, 16, ""))
    assert await ranks(router) == [["b"], ["a"]]


async def test_an_answer_says_who_took_the_request_not_who_should_have(router):
    request = pending()
    await router.choose_replicas(list(router.curr_replicas.values()), request)
    for name in ("a", "b"):
        router.on_request_routed(request, ReplicaID(name, DeploymentID("Replica", "stemma")), None)
        assert request.args[2].chosen == name


async def test_who_needs_one_replica_is_sent_to_no_other(router):
    assert await ranks(router, to="0") == [["a"], []]
    assert await ranks(router, to="nobody") == []
    assert sorted(map(len, await ranks(router, home="team"))) == [0, 1]


async def test_what_the_chosen_one_misses_is_computed_by_the_other_role():
    prefill = FleetRouter(DeploymentID("Prefill", "two"), DeploymentHandleSource.REPLICA)
    prefill.initialize_state(block_size=16)
    router = FleetRouter(DeploymentID("Replica", "two"), DeploymentHandleSource.REPLICA)
    router.initialize_state(block_size=16, prefill="Prefill")
    router.update_replicas([replica("a", 0)])
    one = replica("p", 0)
    one.replica_metadata["place"] = ("host", 7, "key")
    prefill.update_replicas([one])
    request = pending()
    await router.choose_replicas(list(router.curr_replicas.values()), request)
    assert request.args[2].place == ("host", 7, "key")


async def test_a_replica_that_died_is_forgotten(router):
    router._table.index.apply("b", BlocksStored(b"", hashes_of(PROMPT, "", 16), PROMPT, 16, ""))
    router.on_replica_actor_died(ReplicaID("b", DeploymentID("Replica", "stemma")))
    assert await ranks(router) == [["a"], []]
    assert router._table.index.match(hashes_of(PROMPT, "", 16)) == {}

"""The router in Ray's own form. Serve copies this file's code into whoever calls a replica, so that what has a state
stands elsewhere (`table.py`), and nothing here is more than a way from Ray's words to ours."""

from __future__ import annotations

import atexit
from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from stemma.scale.ray.asked import Asked, Place
from stemma.scale.ray.table import Seen, Table, keep, of_deployment
from stemma.scale.ray.telling import Following


class FleetRouter(RequestRouter):
    """Sends a request to the replica on which it costs least, by what each has cached, in tokens, and how busy it is.

    Takes `block_size`, `num_routers` and `prefill`, the name of a deployment whose replicas compute prompts for this
    one's, as keyword arguments (`request_router_kwargs`).
    """

    _table: Table
    _prefill: str | None
    # How long a replica may take to say how many requests it has. At the 0.1 seconds of Serve's own, one that computes
    # on a busy machine says nothing in time, and its prompts go to where nothing of them is cached.
    queue_len_response_deadline_s = 2.0
    max_queue_len_response_deadline_s = 10.0

    def initialize_state(self, block_size: int = 16, num_routers: int = 1, prefill: str | None = None) -> None:
        """What Serve calls with the keyword arguments of the deployment's config."""
        self._table = Table(block_size, Following, num_routers=num_routers)
        self._prefill = prefill
        keep(self._deployment_id.app_name, self._deployment_id.name, self._table)
        atexit.register(self._table.close)

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        """Serve tells who is there, each time anything of that changes."""
        super().update_replicas(replicas)
        self._table.update([_seen(replica) for replica in replicas])

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        """A request met a replica that is dead."""
        super().on_replica_actor_died(replica_id)
        self._table.drop(replica_id.unique_id)

    def on_request_routed(self, pending_request: PendingRequest, replica_id: ReplicaID, result: Any) -> None:
        """A replica has taken a request: another one than was chosen, where that took no more."""
        _asked(pending_request).taken(replica_id.unique_id)

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """The one that was chosen, then the others, for when that one takes no more."""
        by_name = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        if pending_request is None or not by_name:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True
        asked = _asked(pending_request)
        chosen = self._table.choose(asked, list(by_name))
        if chosen is None:
            return []
        if self._prefill is not None and (others := of_deployment(self._deployment_id.app_name, self._prefill)):
            others.lend(asked)
        is_elsewhere = asked.to or asked.home is not None or asked.kept_by is not None
        rest = [] if is_elsewhere else [r for name, r in by_name.items() if name != chosen]
        return [[by_name[chosen]], rest]


def _asked(pending: PendingRequest) -> Asked:
    given: list[Any] = [*pending.args, *pending.kwargs.values()]
    return next((each for each in given if isinstance(each, Asked)), Asked())


def _seen(replica: RunningReplica) -> Seen:
    metadata = replica.replica_metadata
    place = metadata.get("place")
    return Seen(
        replica.replica_id.unique_id, metadata.get("rank", 0), metadata.get("events"),
        dict(replica.routing_stats or {}), None if place is None else Place(*place),
    )  # fmt: skip

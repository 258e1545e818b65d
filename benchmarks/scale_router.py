"""What choosing a replica costs a request: our router, beside Ray's own prefix router, in one process.

    python benchmarks/scale_router.py [--json FILE] [--rounds 5] [--requests 60] [--tokens 2000] [--replicas 8]

Both are asked for the same requests in turn: families of prompts that share a beginning. Counted is what a request
pays in the caller's process: `choose_replicas`, and for Ray's what it notes behind it (`on_request_routed`, which asks
its actor). Ours needs the prompt's tokens, which the entrance makes of a request: that is told apart. Ray's looks at
characters. What a replica is then spared is told too: it finds the tokens that came with the request (`passed on`),
where behind Ray's router it reads the prompt itself. Medians of rounds, microseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pickle
import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import ray
from ray.llm._internal.serve.routing_policies.prefix_aware.prefix_aware_router import (
    PrefixCacheAffinityRouter,
    PrefixTreeActor,
)
from ray.serve._private.common import DeploymentHandleSource, DeploymentID, ReplicaID, RequestMetadata
from ray.serve.request_router import PendingRequest
from starlette.datastructures import Headers

from stemma.radix.events import BlocksStored
from stemma.runtime.model import load_text
from stemma.runtime.model.pull import default_model
from stemma.runtime.tongues.recognise import recognise
from stemma.scale.ray.asked import Asked
from stemma.scale.ray.reading import Call, PromptReader, make_reader
from stemma.scale.ray.router import FleetRouter
from stemma.scale.spec import Spec
from stemma.server.prompts.prompter import ChatPrompter
from stemma.server.prompts.turns import TurnMemory
from stemma.server.wire.chat import Message

FAMILIES = 6
OF = DeploymentID("Replica", "stemma")


class Replica(SimpleNamespace):
    """What a router looks at of a replica."""

    async def get_queue_len(self, *, deadline_s: float) -> int:
        return 0


def replicas(count: int) -> list[Any]:
    stats = {
        "waiting_tokens": 0, "running": 0, "kv_share": 0.0, "capacity": 64, "draining": False, "steps": 0,
        "prompt_tokens": 0, "prompt_seconds": 0.0,
    }  # fmt: skip
    return [
        Replica(
            replica_id=ReplicaID(f"replica{number}", OF), replica_metadata={"rank": number}, routing_stats=stats,
            max_ongoing_requests=1000, node_id="n", availability_zone=None, multiplexed_model_ids=set(),
        )
        for number in range(count)
    ]  # fmt: skip


def bodies(count: int, tokens: int, round_number: int) -> list[dict[str, Any]]:
    """Requests whose prompts have about so many tokens: long beginnings in families, and a question of their own."""
    rules = [" ".join(f"Rule {word} of {family}." for word in range(tokens // 6)) for family in range(FAMILIES)]
    return [
        {"messages": [
            {"role": "system", "content": rules[number % FAMILIES]},
            {"role": "user", "content": f"Question {round_number} {number}?"},
        ]}
        for number in range(count)
    ]  # fmt: skip


def read(reader: PromptReader, body: dict[str, Any]) -> Asked:
    return reader.read(Call("POST", "/v1/chat/completions", Headers({}), json.dumps(body).encode()))


class Contest:
    """Both routers over the same replicas."""

    def __init__(self, count: int) -> None:
        self.candidates = replicas(count)
        self.ours = FleetRouter(OF, DeploymentHandleSource.REPLICA, use_replica_queue_len_cache=True)
        self.ours.initialize_state(block_size=16)
        self.rays = PrefixCacheAffinityRouter(
            deployment_id=OF, handle_source=DeploymentHandleSource.REPLICA, use_replica_queue_len_cache=True
        )
        self.rays.initialize_state(tree_actor=PrefixTreeActor.remote())
        for router in (self.ours, self.rays):
            router.update_replicas(self.candidates)

    async def choose_ours(self, asked: Asked, number: int) -> float:
        pending = PendingRequest([{}, b"", asked], {}, RequestMetadata(f"o{number}", f"o{number}"))
        began = time.perf_counter()
        ((chosen,), _) = await self.ours.choose_replicas(self.candidates, pending)
        seconds = time.perf_counter() - began
        asked.begun()
        held = BlocksStored(b"", list(asked.hashes), [], 16, "")  # what its events would say
        self.ours._table.index.apply(chosen.replica_id.unique_id, held)
        return seconds

    async def choose_rays(self, body: dict[str, Any], number: int) -> float:
        asked = SimpleNamespace(messages=body["messages"])
        pending = PendingRequest([asked], {}, RequestMetadata(f"r{number}", f"r{number}"))
        for each in self.candidates:
            self.rays.on_new_queue_len_info(each.replica_id, 0)
        began = time.perf_counter()
        ranks = await self.rays.choose_replicas(self.candidates, pending)
        self.rays.on_request_routed(pending, ranks[0][0].replica_id, None)
        return time.perf_counter() - began


class Answering:
    """A replica's part: the prompt of a request that has come."""

    def __init__(self) -> None:
        text = load_text(default_model())
        self._prompter = ChatPrompter(
            text, recognise(text.chat_template, text.tokenizer, text.generation.eos_ids), TurnMemory(0)
        )

    def finds(self, body: dict[str, Any], asked: Asked) -> float:
        """Its tokens came with it; so the way there counts."""
        messages = msgspec.convert(body["messages"], list[Message])
        began = time.perf_counter()
        arrived = pickle.loads(pickle.dumps(asked))
        with self._prompter.readings.offered(arrived.reading):
            self._prompter.encode(messages, [])
        return time.perf_counter() - began

    def reads(self, body: dict[str, Any]) -> float:
        messages = msgspec.convert(body["messages"], list[Message])
        began = time.perf_counter()
        self._prompter.encode(messages, [])
        return time.perf_counter() - began


async def measure(asked: argparse.Namespace) -> list[dict[str, Any]]:
    reader, contest, answering = make_reader(Spec()), Contest(asked.replicas), Answering()
    rounds: dict[str, list[float]] = {"ours": [], "peer": [], "reading": [], "found": [], "read": []}
    prompt_len = 0
    for round_number in range(asked.rounds + 1):
        times: dict[str, list[float]] = {name: [] for name in rounds}
        for number, body in enumerate(bodies(asked.requests, asked.tokens, round_number)):
            began = time.perf_counter()
            made = read(reader, body)
            times["reading"].append(time.perf_counter() - began)
            prompt_len = made.prompt_len
            times["ours"].append(await contest.choose_ours(made, number))
            times["peer"].append(await contest.choose_rays(body, number))
            times["found"].append(answering.finds(body, made))
            times["read"].append(answering.reads(body))
        if round_number:  # the first one fills both
            for name, each in times.items():
                rounds[name].append(statistics.median(each) * 1e6)
    ours, peer, reading, found, again = (statistics.median(each) for each in rounds.values())
    case = f"{asked.replicas} replicas, prompts of {prompt_len} tokens"
    return [
        row(f"{case}: choosing", ours, peer),
        row(f"{case}: choosing, and reading the prompt in both processes", ours + reading + again, peer + again),
        row(f"{case}: choosing, and reading the prompt once, passed on", ours + reading + found, peer + again),
        row(f"{case}: what that is more than a replica alone, which reads it", ours + reading + found - again, peer),
    ]


def row(case: str, ours: float, peer: float) -> dict[str, Any]:
    name = f"PrefixCacheAffinityRouter of Ray {ray.__version__}"
    return {
        "case": case,
        "metric": "a request, us",
        "ours": ours,
        "peer": peer,
        "peer_name": name,
        "ratio": ours / peer,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    for name, default in (("rounds", 5), ("requests", 60), ("tokens", 2000), ("replicas", 8)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    ray.init(address="local", num_cpus=2, object_store_memory=100 << 20, include_dashboard=False, log_to_driver=False)
    try:
        rows = asyncio.run(measure(asked))
    finally:
        ray.shutdown()
    for each in rows:
        print(f"{each['case']}: {each['ours']:.0f} us, {each['peer_name']} {each['peer']:.0f} us: {each['ratio']:.3f}")
    if asked.json is not None:
        asked.json.write_text(json.dumps({"rows": rows}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()

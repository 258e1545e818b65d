"""A deployment of two replicas with the real model, as clients see it; one of them is killed, and one leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest

pytest.importorskip("ray.serve", reason="ray[serve] is not installed: pip install 'stemma-llm[scale]'")

from ray import serve

from stemma.runtime.core.config import EngineConfig
from stemma.runtime.engine import Engine
from stemma.scale.ray.graph import NAME, graph
from stemma.scale.ray.reading import REPLICA_HEADER
from stemma.scale.ray.run import LOCAL, config_of, deployed, sized
from stemma.scale.spec import HERE, ScaleConfig, Spec, spec_of
from stemma.server import ApiKey, ServerConfig, app
from tests.stemma.scale.ray.processes import alive, descendants, named

KEY = {"authorization": "Bearer secret"}
REPLICA = "ray::ServeReplica:stemma:Replica"
FAMILIES = [" ".join(f"Rule {rule} of family {family}: be brief." for rule in range(30)) for family in range(6)]
END_SECONDS = 60.0


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def spec() -> Spec:
    server = ServerConfig(port=free_port(), api_keys=(ApiKey("team", "secret", is_admin=True), ApiKey("other", "key2")))
    return Spec(
        engine=EngineConfig(kv_tokens=16384), server=server,
        scale=ScaleConfig(replicas=2, replica_cpus=1.0, drain_seconds=90.0),
    )  # fmt: skip


@pytest.fixture(scope="module")
def url(spec: Spec) -> Iterator[str]:
    before = descendants()
    with deployed(spec, LOCAL) as found:
        started = descendants() - before
        yield found
    wait_until(lambda: not alive(started))


def wait_until(condition: Callable[[], Any], seconds: float = END_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def chat(system: str, text: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    return {"model": "stemma", "messages": messages, "max_tokens": 4, "temperature": 0, **more}


def post(url: str, body: dict[str, Any], **headers: str) -> httpx.Response:
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers={**KEY, **headers}, timeout=END_SECONDS)


def hits(answer: httpx.Response) -> tuple[int, int]:
    usage = answer.json()["usage"]
    return usage["prompt_tokens_details"]["cached_tokens"], usage["prompt_tokens"]


def test_openais_client_is_answered_and_hears_a_stream(url):
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="secret")
    asked = chat("Be brief.", "Say hello.", seed=1)
    whole = client.chat.completions.create(**asked)
    streamed = "".join(
        chunk.choices[0].delta.content or ""
        for chunk in client.chat.completions.create(**asked, stream=True)
        if chunk.choices
    )
    assert whole.choices[0].message.content == streamed != ""
    assert [model.id for model in client.models.list()][1] == "stemma"


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "said"),
    [
        ("/v1/chat/completions", {"messages": 3}, KEY, 400, "messages: Expected `array`"),
        ("/v1/chat/completions", chat("a", "b"), {}, 401, "no valid API key"),
        ("/v1/messages", {"max_tokens": 1}, KEY, 400, "messages"),
        ("/v1/nowhere", {}, KEY, 404, "there is no /v1/nowhere"),
        ("/api/chat", {"messages": 3}, KEY, 400, "messages"),
        ("/v1/chat/completions", chat("a", "b"), {**KEY, REPLICA_HEADER: "17"}, 404, "there is no replica '17'"),
    ],
)
def test_errors_are_the_servers_own(url, path, body, headers, status, said):
    answer = httpx.post(f"{url}{path}", json=body, headers=headers, timeout=END_SECONDS)
    assert answer.status_code == status
    assert said in answer.text
    assert len(answer.headers.get_list("x-request-id")) == 1


def test_a_body_that_is_too_long_is_refused_before_it_is_read_anywhere(url, spec):
    data = b"x" * (spec.server.max_body_bytes + 1)
    assert httpx.post(f"{url}/v1/completions", content=data, headers=KEY, timeout=END_SECONDS).status_code == 413


async def test_families_stay_with_their_replica_and_hit_as_in_one_big_cache(url):
    asked = [chat(family, f"Question {number}?") for number in range(20) for family in FAMILIES]
    first = [{REPLICA_HEADER: "01"[family % 2]} for family in range(6)]  # each has three; from then on they are routed
    headers = [*first, *({} for _ in asked[6:])]
    pairs = list(zip(asked, headers, strict=True))
    answers = await asyncio.to_thread(lambda: [post(url, body, **given) for body, given in pairs])
    placed = [Counter(answer.headers[REPLICA_HEADER] for answer in answers[family::6]) for family in range(6)]
    assert [max(counts.values()) for counts in placed] == [20] * 6, placed
    assert len(set().union(*placed)) == 2, "what was sent to one replica went to another"

    with Engine(kv_tokens=65536) as engine:
        transport = httpx.ASGITransport(app(engine))
        async with httpx.AsyncClient(transport=transport, base_url="http://one") as one:
            alone = [await one.post("/v1/chat/completions", json=body) for body in asked]
    assert hit_rate(answers) > hit_rate(alone) - 0.02


def hit_rate(answers: list[httpx.Response]) -> float:
    counted = [hits(answer) for answer in answers]
    return sum(hit for hit, _ in counted) / sum(length for _, length in counted)


def test_tenants_hit_nothing_of_each_other(url):
    first = post(url, chat(FAMILIES[0], "Mine?"))
    others = post(
        url, chat(FAMILIES[0], "Mine?"), authorization="Bearer key2", **{REPLICA_HEADER: first.headers[REPLICA_HEADER]}
    )
    assert hits(first)[0] > 0 == hits(others)[0]


def test_what_is_kept_for_a_caller_is_found_again(url):
    for _ in range(3):
        body = {"model": "stemma", "input": "Hello", "max_output_tokens": 4}
        made = httpx.post(f"{url}/v1/responses", json=body, headers=KEY, timeout=END_SECONDS).json()
        found = httpx.get(f"{url}/v1/responses/{made['id']}", headers=KEY, timeout=END_SECONDS)
        assert found.json()["id"] == made["id"]


def num_requests(url: str, replica: str) -> int:
    answer = httpx.get(f"{url}/v1/loads", headers={**KEY, REPLICA_HEADER: replica}, timeout=END_SECONDS)
    total: int = answer.json()["aggregate"]["total_reqs"]
    return total


def test_who_goes_away_is_generated_for_no_more(url):
    body = chat("Be long.", "Tell a story.", stream=True, ignore_eos=True, max_tokens=4000)
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, headers=KEY, timeout=END_SECONDS) as answer:
        lines = answer.iter_lines()
        next(lines)
        replica = answer.headers[REPLICA_HEADER]
        assert num_requests(url, replica) == 1
    wait_until(lambda: num_requests(url, replica) == 0)


async def read(client: httpx.AsyncClient, number: int) -> str:
    """How a stream ended."""
    body = chat("Be long.", f"{number}: tell a story.", stream=True, ignore_eos=True, max_tokens=40)
    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        if answer.status_code != 200:
            return str(answer.status_code)
        lines = [line async for line in answer.aiter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    return "error" if any('"error"' in line for line in lines) else "whole"


@pytest.fixture
async def client(url: str) -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(base_url=url, headers=KEY, timeout=4 * END_SECONDS, limits=limits) as made:
        yield made


async def test_a_replica_that_is_killed_leaves_nobody_hanging_and_another_takes_its_place(url, client):
    before = named(REPLICA)
    streams = [asyncio.create_task(read(client, number)) for number in range(50)]
    while await num_inside(client) < 50:
        await asyncio.sleep(0.05)
    os.kill(before[0], signal.SIGKILL)
    ended = await asyncio.gather(*streams)
    assert set(ended) <= {"whole", "error", "503"}
    assert ended.count("whole") >= 20

    def is_back() -> bool:
        return len(named(REPLICA)) == 2 and named(REPLICA) != before

    await asyncio.to_thread(wait_until, is_back)
    await asyncio.to_thread(wait_until, lambda: both_answer(url))


async def num_inside(client: httpx.AsyncClient) -> int:
    """Requests at both replicas, by their ranks."""
    answers = [await client.get("/v1/loads", headers={REPLICA_HEADER: rank}) for rank in "01"]
    return sum(answer.json()["aggregate"]["total_reqs"] for answer in answers)


def both_answer(url: str) -> bool:
    """Whether new texts are sent to two replicas."""
    asked = [chat(f"Chat {os.urandom(8).hex()} of those that nobody knows yet.", "Hello?") for _ in range(6)]
    return len({post(url, body).headers[REPLICA_HEADER] for body in asked}) == 2


def test_a_replica_that_leaves_hands_over_what_is_hot(url, spec):
    asked = [(chat(family, "Who are you?"), "01"[index % 2]) for index, family in enumerate(FAMILIES)]
    answers = [post(url, body, **{REPLICA_HEADER: rank}) for body, rank in asked]
    names = [answer.headers[REPLICA_HEADER] for answer in answers]
    assert len(set(names[0::2])) == len(set(names[1::2])) == 1
    assert len(set(names)) == 2
    serve.run(graph(replace(spec, scale=replace(spec.scale, replicas=1))), name=NAME)
    wait_until(lambda: len(named(REPLICA)) == 1)
    for family in FAMILIES:
        hit, length = hits(post(url, chat(family, "Who are you, then?")))
        assert hit > 0.8 * length


def test_the_same_is_a_file_for_serve(spec):
    from ray.serve.schema import ServeDeploySchema

    written = config_of(spec)
    read_back = ServeDeploySchema.model_validate(written).applications[0]
    assert read_back.import_path == "stemma.scale.ray.graph:build"
    assert spec_of(read_back.args) == spec


def test_replicas_share_the_cores_of_one_machine(spec):
    shared = sized(replace(spec, scale=ScaleConfig(replicas=2)), 8).scale
    assert (shared.replica_cpus, shared.events_host) == (4.0, HERE)
    assert sized(replace(spec, scale=ScaleConfig(replicas=3, replica_cpus=2.0)), 8).scale.replica_cpus == 2.0

"""Prompts computed by one replica for another: the same tokens as of one server, by the wire and by a shared tier; and
when who computes them is gone, or hangs, who answers computes them itself."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import httpx
import numpy as np
import pytest

pytest.importorskip("ray.serve", reason="ray[serve] is not installed: pip install 'stemma-llm[scale]'")

from stemma.kernels.select import select_ops
from stemma.runtime.core.config import EngineConfig
from stemma.runtime.engine import Completion, Engine
from stemma.runtime.handover import NetworkListener, network
from stemma.runtime.handover.network import Address
from stemma.runtime.model.tiny import tiny
from stemma.scale.ray.apart import ASKED_OF, Giving, take_from_others
from stemma.scale.ray.asked import Place
from stemma.scale.ray.run import LOCAL, deployed
from stemma.scale.spec import ScaleConfig, Spec
from stemma.server import ApiKey, ServerConfig, app
from tests.stemma.scale.ray.processes import alive, descendants, named
from tests.stemma.scale.ray.test_run import free_port, wait_until

HERE = "127.0.0.1"
KEY = {"authorization": "Bearer secret"}
OPTIONS = {"kv_tokens": 16384, "max_chunk": 64}


def prompt(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 256, length).tolist()


PROMPTS = [prompt(length, length) for length in (70, 129, 333)]


@pytest.fixture(scope="module")
def model():
    return tiny(select_ops("cpu", "cpu"))


@pytest.fixture(scope="module")
def expected(model):
    with Engine.of(model, **OPTIONS) as alone:
        return [alone.generate(ids, max_tokens=8).tokens for ids in PROMPTS]


@contextmanager
def both(model, *, by_tier: bool = False, **more) -> Iterator[tuple[Engine, Engine, Giving]]:
    """One that computes prompts, and one that answers."""
    with ExitStack() as ending:
        giving, taking = (ending.enter_context(Engine.of(model, **OPTIONS, **more)) for _ in range(2))
        service = Giving(giving, HERE, HERE)
        ending.callback(service.close)
        ending.callback(take_from_others(taking, by_tier=by_tier))
        yield giving, taking, service
        for engine in (giving, taking):
            engine.with_cache(lambda cache: cache.check())


def ask(engine: Engine, place: Place | None, ids: list[int]) -> Completion:
    token = ASKED_OF.set(place)
    try:
        return engine.generate(ids, max_tokens=8)
    finally:
        ASKED_OF.reset(token)


def test_prompts_are_computed_at_the_place_that_was_named(model, expected):
    with both(model) as (giving, taking, service):
        found = [ask(taking, service.place, ids) for ids in PROMPTS]
        assert [each.tokens for each in found] == expected
        assert [each.usage.prefilled_tokens for each in found] == [1, 1, 1]
        assert giving.stats().metrics.usage.prefilled_tokens >= sum(map(len, PROMPTS)) - len(PROMPTS)


def test_who_computes_says_how_many_prompts_it_has_and_ends_when_these_have_ended(model):
    with both(model) as (_, taking, service):
        assert service.num_asked == 0
        with ThreadPoolExecutor(6) as pool:
            asked = [pool.submit(ask, taking, service.place, prompt(2000, seed)) for seed in range(6)]
            wait_until(lambda: service.num_asked >= 2)
            service.close(30)
            assert service.num_asked == 0
            assert [each.result().usage.prefilled_tokens for each in asked].count(1) >= 2


def test_where_no_place_is_named_they_are_computed_here(model, expected):
    with both(model) as (giving, taking, _):
        before = giving.stats().metrics.usage.prefilled_tokens
        assert ask(taking, None, PROMPTS[2]).tokens == expected[2]
        assert giving.stats().metrics.usage.prefilled_tokens == before


def test_through_a_shared_tier_nothing_is_sent_and_all_of_it_is_found(model, expected, tmp_path, monkeypatch):
    monkeypatch.setattr("stemma.runtime.handover.giving.PrefillService._send_from", None)
    with both(model, by_tier=True, kv_shared=f"file://{tmp_path}") as (_, taking, service):
        found = [ask(taking, service.place, ids) for ids in PROMPTS]
        assert [each.tokens for each in found] == expected
        rest = [len(ids) - (len(ids) - 1) // 16 * 16 for ids in PROMPTS]  # blocks that are not full are not kept
        assert [each.usage.prefilled_tokens for each in found] == rest


def test_a_place_that_is_gone_costs_a_warning(model, expected, caplog):
    with both(model) as (_, taking, service):
        service.close()
        assert [ask(taking, service.place, ids).tokens for ids in PROMPTS] == expected
        assert "nobody listens" in caplog.text
        assert "a moment ago" in caplog.text


def test_a_place_that_hangs_holds_nobody_up_for_long(model, expected, caplog, monkeypatch):
    """A process that was stopped lets others in, by the system, and says nothing more."""
    monkeypatch.setattr(network, "SILENCE", 1)
    with both(model) as (_, taking, _):
        listener = NetworkListener(Address(HERE, 0), "key")
        place = Place(*listener.address, "key")
        began = time.monotonic()
        assert ask(taking, place, PROMPTS[2]).tokens == expected[2]
        assert time.monotonic() - began < 20
        assert "is computed here" in caplog.text
        listener.close()


def test_another_key_lets_nobody_in(model, expected, caplog):
    with both(model) as (_, taking, service):
        assert ask(taking, service.place._replace(key="guess"), PROMPTS[2]).tokens == expected[2]
        assert "another key" in caplog.text


def test_who_waits_for_its_turn_hears_that_somebody_is_there(model, expected, monkeypatch):
    monkeypatch.setattr("stemma.runtime.handover.giving.STILL_SECONDS", 0.0)
    with both(model) as (_, taking, service):
        assert ask(taking, service.place, PROMPTS[2]).tokens == expected[2]
        assert ask(taking, service.place, PROMPTS[2]).usage.prefilled_tokens == 1


# Under Ray ----------------------------------------------------------------
BODIES = [
    {
        "messages": [{"role": "user", "content": f"Story {number}: " + "Rain fell on the town, all day long. " * 30}],
        "max_tokens": 8, "temperature": 0,
    }
    for number in range(3)
]  # fmt: skip
PREFILL = "ray::ServeReplica:stemma:Prefill"


def post(url: str, body: dict[str, object]) -> dict[str, object]:
    answer = httpx.post(f"{url}/v1/chat/completions", json={"model": "stemma", **body}, headers=KEY, timeout=60)
    assert answer.status_code == 200, answer.text
    value: dict[str, object] = answer.json()
    return value


async def test_two_roles_under_ray_answer_as_one_server_and_go_on_when_one_is_gone():
    server = ServerConfig(port=free_port(), api_keys=(ApiKey("team", "secret"),))
    spec = Spec(
        engine=EngineConfig(kv_tokens=8192), server=server,
        scale=ScaleConfig(prefill_replicas=1, decode_replicas=1, replica_cpus=1.0, handover_bytes=0),
    )  # fmt: skip
    with Engine(kv_tokens=8192) as engine:
        transport = httpx.ASGITransport(app(engine))
        async with httpx.AsyncClient(transport=transport, base_url="http://one") as one:
            alone = [(await one.post("/v1/chat/completions", json=body)).json() for body in BODIES]
    before = descendants()
    with deployed(spec, LOCAL) as url:
        started = descendants() - before
        said = [post(url, body) for body in BODIES[:2]]
        (pid,) = named(PREFILL)
        os.kill(pid, signal.SIGKILL)
        said.append(post(url, BODIES[2]))
    assert [each["choices"] for each in said] == [each["choices"] for each in alone]
    usage = [each["usage"]["stemma"]["prefilled_tokens"] for each in said]
    assert usage[:2] == [1, 1]
    assert usage[2] > 100
    wait_until(lambda: not alive(started))

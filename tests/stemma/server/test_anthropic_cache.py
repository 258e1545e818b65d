"""`cache_control`: prefixes that are kept for a while after a request, told in its usage, and a tenant's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from stemma.runtime.engine import Engine
from stemma.server import ApiKey, ServerConfig
from tests.stemma.server.streams import MESSAGES, both

EPHEMERAL = {"type": "ephemeral"}
AN_HOUR = {"type": "ephemeral", "ttl": "1h"}
KEYS = (ApiKey("alice", "ka"), ApiKey("bob", "kb"))


def user(text: str, **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": text, **fields}]}


def system(text: str, **fields: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text, **fields}]


@pytest.fixture
async def fresh(client: Any) -> AsyncIterator[Any]:
    """With nothing cached or pinned before and behind."""
    await client.post("/flush_cache")
    yield client
    for pin in (await client.get("/cache/pins"))["pins"]:
        await client.http.delete(f"/cache/pins/{pin['id']}")
    await client.post("/flush_cache")


async def pins(client: Any, count: int, key: str | None = None, other_than: str = "") -> list[dict[str, Any]]:
    """The caller's pins, once there are so many that keep something, and a certain one is gone."""
    for _ in range(200):
        found = (await client.get("/cache/pins", key=key))["pins"]
        if len(found) == count and all(pin["num_tokens"] and pin["id"] != other_than for pin in found):
            break
        await asyncio.sleep(0.02)
    assert len(found) == count, found
    return sorted(found, key=lambda pin: pin["num_tokens"])


def total(usage: dict[str, Any]) -> int:
    return usage["input_tokens"] + usage["cache_creation_input_tokens"] + usage["cache_read_input_tokens"]


async def test_a_system_prompt_is_kept_and_told(fresh: Any) -> None:
    text = "You are a lighthouse keeper. " * 4
    asked = {"system": system(text, cache_control=EPHEMERAL), "max_tokens": 2}
    first = await fresh.post(MESSAGES, **asked, messages=[user("How tall is it?")])
    usage = first["usage"]
    assert total(usage) == await count(fresh, **asked, messages=[user("How tall is it?")])
    assert usage["cache_creation_input_tokens"] >= len(text)
    assert usage["cache_creation"]["ephemeral_5m_input_tokens"] == usage["cache_creation_input_tokens"]
    assert usage["input_tokens"] >= len("How tall is it?")
    (pin,) = await pins(fresh, 1)
    assert pin["num_tokens"] == usage["cache_creation_input_tokens"] + usage["cache_read_input_tokens"]
    assert 290 < pin["expires_in"] <= 300
    second = (await fresh.post(MESSAGES, **asked, messages=[user("And how old?")]))["usage"]
    assert second["cache_creation_input_tokens"] == 0
    assert second["cache_read_input_tokens"] >= pin["num_tokens"]
    (again,) = await pins(fresh, 1, other_than=pin["id"])
    assert again["id"] != pin["id"], "its time begins anew"


async def count(client: Any, **body: Any) -> int:
    body.pop("max_tokens")
    return (await client.post(f"{MESSAGES}/count_tokens", **body))["input_tokens"]


async def test_a_kept_prefix_outlives_what_fills_the_pool(serve_with: Any, tiny_loaded: Any) -> None:
    text = "Keep me, please. " * 4
    kept = {"system": system(text, cache_control=EPHEMERAL), "max_tokens": 1, "messages": [user("a")]}
    lost = {**kept, "system": text.replace("Keep", "Drop")}
    with Engine.of(tiny_loaded, kv_tokens=512, policy="lru") as engine:
        async with serve_with(engine, ServerConfig(model_name="tiny")) as client:
            for asked in (kept, lost):
                await client.post(MESSAGES, **asked)
            await pins(client, 1)
            for number in range(4):
                others = [number, *range(200)]
                await client.post("/v1/completions", prompt=others, max_tokens=1)
            assert engine.stats().cache.evicted_blocks
            read = [
                (await client.post(MESSAGES, **asked))["usage"]["cache_read_input_tokens"] for asked in (kept, lost)
            ]
    assert read[0] >= len(text) > read[1]


async def test_the_pin_of_a_conversation_grows_with_it(fresh: Any) -> None:
    messages = [user("Tell me of the sea.", cache_control=EPHEMERAL)]
    asked = {"messages": messages, "max_tokens": 3, "seed": 1}
    said = await fresh.post(MESSAGES, **asked)
    (short,) = await pins(fresh, 1)
    more = [user("Tell me of the sea."), {"role": "assistant", "content": said["content"]}, user("More.")]
    await fresh.post(MESSAGES, messages=more, cache_control=EPHEMERAL, max_tokens=1)
    (long,) = await pins(fresh, 1, other_than=short["id"])
    assert long["num_tokens"] > short["num_tokens"]
    whole, streamed = await both(fresh, MESSAGES, asked)
    assert whole == streamed


async def test_each_time_has_its_longest_prefix(fresh: Any) -> None:
    asked = {
        "tools": [{"name": "find", "input_schema": {"type": "object"}, "cache_control": AN_HOUR}],
        "system": system("Be brief.", cache_control=AN_HOUR),
        "messages": [user("One."), {"role": "assistant", "content": "Two."}, user("Three.", cache_control=EPHEMERAL)],
        "max_tokens": 1,
    }
    usage = (await fresh.post(MESSAGES, **asked))["usage"]
    hour, minutes = await pins(fresh, 2)
    assert hour["expires_in"] > 3000 > 300 >= minutes["expires_in"]
    made = usage["cache_creation"]
    assert made["ephemeral_1h_input_tokens"] == hour["num_tokens"] - usage["cache_read_input_tokens"]
    assert made["ephemeral_5m_input_tokens"] == minutes["num_tokens"] - hour["num_tokens"]
    assert usage["input_tokens"] == 0


async def test_a_block_inside_a_turn_ends_a_prefix(fresh: Any) -> None:
    parts = [{"type": "text", "text": "A long document. ", "cache_control": EPHEMERAL}, {"type": "text", "text": "Q?"}]
    await fresh.post(MESSAGES, messages=[{"role": "user", "content": parts}], max_tokens=1)
    (pin,) = await pins(fresh, 1)
    whole = await count(fresh, messages=[{"role": "user", "content": parts}], max_tokens=1)
    assert whole - pin["num_tokens"] >= len("\nQ?")


async def test_where_there_is_no_room_the_hint_is_named_and_the_answer_comes(serve_with: Any, tiny_loaded: Any) -> None:
    with Engine.of(tiny_loaded, kv_tokens=2048, pin_share=0.05) as engine:
        async with serve_with(engine, ServerConfig(model_name="tiny")) as client:
            long, short = user("x" * 400, cache_control=EPHEMERAL), system("Brief.", cache_control=EPHEMERAL)
            response = await client.http.post(MESSAGES, json={"messages": [long], "max_tokens": 1})
            assert response.status_code == 200
            assert response.headers["stemma-unused-fields"] == "cache_control"
            assert response.json()["usage"]["cache_creation_input_tokens"] == 0
            await pins(client, 0)
            response = await client.http.post(MESSAGES, json={"messages": [long], "system": short, "max_tokens": 1})
            assert "stemma-unused-fields" not in response.headers, "the shorter prefix has room"
            await pins(client, 1)


async def test_a_kept_prefix_is_a_tenants_own(engine: Engine, serve_with: Any) -> None:
    async with serve_with(engine, ServerConfig(model_name="tiny", api_keys=KEYS)) as client:
        asked = {"system": system("A secret of hers. " * 3, cache_control=EPHEMERAL), "max_tokens": 1}
        await client.post(MESSAGES, key="ka", **asked, messages=[user("a")])
        (pin,) = await pins(client, 1, key="ka")
        await pins(client, 0, key="kb")
        his = (await client.post(MESSAGES, key="kb", **asked, messages=[user("b")]))["usage"]
        assert his["cache_read_input_tokens"] == 0
        headers = {"x-api-key": "kb"}
        assert (await client.http.delete(f"/cache/pins/{pin['id']}", headers=headers)).status_code == 404
        for key in ("ka", "kb"):
            (own,) = await pins(client, 1, key=key)
            await client.http.delete(f"/cache/pins/{own['id']}", headers={"x-api-key": key})

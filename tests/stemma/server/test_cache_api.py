"""The cache over HTTP: tree, events, explain, warm, pins, flush, save and load; and who may see what."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from stemma.runtime.engine import Engine
from stemma.server import ApiKey, ServerConfig
from stemma.server.cache.page import page_files

KEYS = (ApiKey("alice", "ka"), ApiKey("bob", "kb"), ApiKey("root", "kr", is_admin=True))


async def complete(client: Any, prompt: str, **options: Any) -> Any:
    return await client.post("/v1/completions", prompt=prompt, **{"max_tokens": 4, "ignore_eos": True} | options)


async def test_the_tree_has_the_prefixes_with_their_texts(client: Any) -> None:
    await client.post("/flush_cache")
    shared = "a shared beginning, "
    for end in ("one way", "another"):
        await complete(client, shared + end)
    picture = await client.get("/cache/tree")
    nodes = {node["id"]: node for node in picture["nodes"]}
    (top,) = [node for node in nodes.values() if node["parent"] is None]
    assert top["text"] == shared
    assert top["tokens"] == len(shared)
    ends = [node for node in nodes.values() if node["parent"] == top["id"]]
    assert sorted(node["text"][:7] for node in ends) == ["another", "one way"]
    assert all(node["start"] == len(shared) for node in ends)
    counters = picture["counters"]
    assert counters["blocks_free"] + counters["blocks_cached"] + counters["blocks_leased"] == counters["blocks_total"]


async def test_running_sequences_are_leaves(client: Any, engine: Engine) -> None:
    prompt = "a long story that goes on and on "
    await complete(client, prompt)
    running = asyncio.create_task(complete(client, prompt, max_tokens=600))
    leaves: list[dict[str, Any]] = []
    while not leaves:
        if running.done():  # before anybody looked
            running = asyncio.create_task(complete(client, prompt, max_tokens=600))
        picture = await client.get("/cache/tree")
        leaves = [node for node in picture["nodes"] if "running" in node]
    (leaf,) = leaves
    assert picture["counters"]["running"] == 1
    assert leaf["parent"] in {node["id"] for node in picture["nodes"]}
    assert leaf["tokens"] >= leaf["running"]
    await running


async def test_events_tell_what_changes(engine: Engine, serve_with: Any) -> None:
    from tests.stemma.server.live import live_server

    with live_server(engine) as live:
        import httpx

        async with httpx.AsyncClient(base_url=live.url, timeout=30) as http:
            await http.post("/flush_cache", json={})
            async with http.stream("GET", "/cache/events") as response:
                lines = response.aiter_lines()
                assert json.loads((await anext(lines))[6:])["changed"] == []
                await http.post("/v1/completions", json={"prompt": "something new for the tree", "max_tokens": 1})
                changed: list[dict[str, Any]] = []
                while not changed:
                    line = await anext(lines)
                    changed = json.loads(line[6:])["changed"] if line else []
                assert changed[0]["text"].startswith("something new")
                await http.post("/flush_cache", json={})
                gone: list[str] = []
                while not gone:
                    line = await anext(lines)
                    gone = json.loads(line[6:])["gone"] if line else []
                assert changed[0]["id"] in gone


async def test_explain_says_where_and_why(client: Any) -> None:
    await client.post("/flush_cache")
    await complete(client, "the quick brown fox")
    found = await client.post("/cache/explain", prompt="the quick red fox")
    assert found["hit_len"] == len("the quick ")
    assert found["reason"] == "diverged"
    assert found["matched_text"].endswith("quick ")
    assert found["next_text"] == "red fox"
    assert found["expected"][0]["text"] == "b"
    whole = await client.post("/cache/explain", tokens=list(b"the quick brown fox"))
    assert whole["reason"] == "complete"
    chat = await client.post("/cache/explain", messages=[{"role": "user", "content": "x"}])
    assert chat["num_tokens"] > 1


async def test_what_is_warm_is_cached(client: Any) -> None:
    text = "a system prompt that will be used a lot"
    warmed = await client.post("/cache/warm", prompt=text)
    assert warmed["num_tokens"] == len(text)
    answer = await complete(client, text + "!")
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == len(text)


async def test_pins_hold_until_they_are_let_go(client: Any, engine: Engine) -> None:
    text = "a prefix that must stay for a while"
    made = await client.post("/cache/pin", prompt=text, ttl=60)
    assert made["num_tokens"] == len(text)
    await client.post("/flush_cache")
    assert engine.stats().cache.leased >= made["num_blocks"]
    listed = await client.get("/cache/pins")
    assert [pin["id"] for pin in listed["pins"]] == [made["id"]]
    response = await client.http.delete(f"/cache/pins/{made['id']}")
    assert response.status_code == 200
    assert engine.stats().cache.leased == 0
    assert (await client.http.delete(f"/cache/pins/{made['id']}")).status_code == 404
    short = await client.post("/cache/pin", prompt=text, ttl=0.05)
    await asyncio.sleep(0.1)
    assert (await client.get("/cache/pins"))["pins"] == []
    assert short["expires_in"] <= 0.05
    engine.with_cache(lambda cache: cache.check())


async def test_pins_have_a_budget(client: Any, engine: Engine) -> None:
    tokens = [number % 200 for number in range(2000)]
    statuses = []
    for first in range(201, 215):
        response = await client.http.post("/cache/pin", json={"tokens": [first, *tokens]})
        statuses.append(response.status_code)
    assert statuses[0] == 200
    assert statuses[-1] == 429
    for pin in (await client.get("/cache/pins"))["pins"]:
        await client.http.delete(f"/cache/pins/{pin['id']}")
    assert engine.stats().cache.leased == 0


async def test_a_tenant_sees_and_changes_only_its_own(engine: Engine, serve_with: Any) -> None:
    secret = "alice has a secret that is long enough"
    async with serve_with(engine, ServerConfig(api_keys=KEYS)) as client:
        await client.post("/flush_cache", key="kr")
        await complete(client, secret, key="ka")
        await complete(client, secret, key="ka", cache_salt="s")
        made = await client.post("/cache/pin", prompt=secret, key="ka")
        seen = {}
        for key in ("ka", "kb", "kr"):
            seen[key] = {node["namespace"] for node in (await client.get("/cache/tree", key=key))["nodes"]}
        assert seen == {"ka": {"alice", "alice/s"}, "kb": set(), "kr": {"alice", "alice/s"}}
        found = await client.post("/cache/explain", prompt=secret, key="kb")
        assert (found["hit_len"], found["reason"]) == (0, "never_seen")
        assert (await client.get("/cache/pins", key="kb"))["pins"] == []
        response = await client.http.delete(f"/cache/pins/{made['id']}", headers={"authorization": "Bearer kb"})
        assert response.status_code == 404
        await client.post("/flush_cache", key="kb")
        assert (await client.post("/cache/explain", prompt=secret, key="ka"))["reason"] == "complete"
        await client.http.delete(f"/cache/pins/{made['id']}", headers={"authorization": "Bearer ka"})
        await client.post("/flush_cache", key="ka")
        await asyncio.sleep(0.5)  # a picture is shared for so long
        assert (await client.get("/cache/tree", key="kr"))["nodes"] == []


async def test_a_cache_is_saved_and_loaded(engine: Engine, serve_with: Any, tmp_path: Path) -> None:
    text = "a text that is worth being kept on disk"
    async with serve_with(engine, ServerConfig(cache_folder=tmp_path)) as client:
        await client.post("/flush_cache")
        await complete(client, text)
        saved = await client.post("/cache/save", name="one")
        assert saved["num_tokens"] >= len(text)
        assert [(each["name"], each["num_bytes"]) for each in (await client.get("/cache/saved"))["saved"]] == [
            ("one", saved["num_bytes"])
        ]
        await client.post("/flush_cache")
        loaded = await client.post("/cache/load", name="one")
        assert (loaded["num_tokens"], loaded["skipped_tokens"]) == (saved["num_tokens"], 0)
        answer = await complete(client, text)
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == len(text) - 1
        assert (await client.http.delete("/cache/saved/one")).status_code == 200
        assert (await client.http.delete("/cache/saved/one")).status_code == 404
        assert (await client.post("/cache/load", status=404, name="one"))["error"]["param"] == "name"
        for name in ("..", ".", "a/b", "", "x" * 65, ".hidden"):
            assert (await client.post("/cache/save", status=400, name=name))["error"]["param"] == "name"
        assert (await client.http.delete("/cache/saved/..%2Fx")).status_code == 404


async def test_a_tenant_saves_and_loads_only_its_own(engine: Engine, serve_with: Any, tmp_path: Path) -> None:
    secret = "alice has a secret that is long enough"
    async with serve_with(engine, ServerConfig(api_keys=KEYS, cache_folder=tmp_path)) as client:
        await client.post("/flush_cache", key="kr")
        await complete(client, secret, key="ka")
        assert (await client.post("/cache/save", key="kb"))["num_tokens"] == 0
        assert (await client.post("/cache/save", key="ka"))["num_tokens"] >= len(secret)
        assert (await client.post("/cache/save", key="kr", name="all"))["num_tokens"] >= len(secret)
        await client.post("/flush_cache", key="kr")
        assert (await client.post("/cache/load", key="kb"))["num_tokens"] == 0
        assert (await client.post("/cache/load", key="kb", status=404, name="all"))["error"]["code"] == "not_found"
        # a file of alice's is of no use to bob, even where his folder has it
        (tmp_path / "tenant-bob" / "cache.kv").write_bytes((tmp_path / "tenant-alice" / "cache.kv").read_bytes())
        assert (await client.post("/cache/load", key="kb"))["num_tokens"] == 0
        assert engine.with_cache(lambda cache: list(cache.walk())) == []
        assert (await client.post("/cache/load", key="kr", name="all"))["num_tokens"] >= len(secret)
        assert {node.scope for node in engine.with_cache(lambda cache: list(cache.walk()))} == {"alice"}


async def test_saving_needs_a_folder_and_has_a_limit(
    engine: Engine, client: Any, serve_with: Any, tmp_path: Path
) -> None:
    await complete(client, "some text")
    assert "--cache-folder" in (await client.post("/cache/save", status=400))["error"]["message"]
    async with serve_with(engine, ServerConfig(cache_folder=tmp_path, max_saved_bytes=1000)) as small:
        await complete(small, "some text")
        assert (await small.post("/cache/save", status=400))["error"]["param"] == "name"
        assert (await small.get("/cache/saved"))["saved"] == []


@pytest.mark.parametrize("path", ["/cache/explain", "/cache/warm", "/cache/pin"])
async def test_what_is_wrong_is_a_400(client: Any, path: str) -> None:
    for body in ({}, {"prompt": "a", "tokens": [1]}, {"tokens": []}, {"tokens": [999]}, {"prompt": "x" * 3000}):
        error = (await client.post(path, status=400, **body))["error"]
        assert error["param"] in ("prompt", "tokens")


async def test_the_page_loads_only_its_own_files(client: Any) -> None:
    response = await client.http.get("/tree")
    assert response.headers["content-type"].startswith("text/html")
    loaded = re.findall(r'(?:src|href)="([^"]*)"', response.text)
    assert all(name.startswith("tree/") for name in loaded)
    for name in page_files():
        part = await client.http.get(f"/tree/{name}")
        assert part.status_code == 200
        assert "connect-src 'self'" in part.headers["content-security-policy"]
        assert "unsafe" not in part.headers["content-security-policy"]
        assert not re.search(r"https?://(?!www\.w3\.org)", part.text)
        for other in re.findall(r'from "\./([^"]*)"', part.text):
            assert other in page_files()
    for name in ("page.py", "..%2fpage.py", "nothing.js"):
        assert (await client.http.get(f"/tree/{name}")).status_code == 404

"""A request that must be answered in time, over HTTP: it is, or it is told that it cannot be."""

from __future__ import annotations

import pytest

from stemma.server import ServerConfig

LONG = {"model": "tiny", "prompt": "word " * 200, "max_tokens": 4, "temperature": 0}
SHORT = {"model": "tiny", "prompt": "word", "max_tokens": 4}


async def test_a_deadline_that_cannot_be_met_is_told_as_openai_tells_errors(engine, serve_with):
    async with serve_with(engine, ServerConfig(model_name="tiny")) as client:
        reply = await client.http.post("/v1/completions", json={**LONG, "ttft_ms": 1e-6})
        assert reply.status_code == 503
        assert reply.headers["retry-after"] == "1"
        error = reply.json()["error"]
        assert (error["code"], error["param"]) == ("deadline_missed", "ttft_ms")


async def test_a_stream_that_has_begun_tells_it_as_an_event(engine, serve_with):
    async with serve_with(engine, ServerConfig(model_name="tiny")) as client:
        reply = await client.http.post("/v1/completions", json={**LONG, "ttft_ms": 1e-6, "stream": True})
        assert reply.status_code == 200
        assert '"code":"deadline_missed"' in reply.text.replace(" ", "")
        assert reply.text.rstrip().endswith("data: [DONE]")


async def test_one_that_can_be_met_changes_nothing(engine, serve_with):
    async with serve_with(engine, ServerConfig(model_name="tiny")) as client:
        plain = await client.post("/v1/completions", **LONG)
        timed = await client.post("/v1/completions", **LONG, ttft_ms=600_000)
        assert timed["choices"][0]["text"] == plain["choices"][0]["text"]


@pytest.mark.parametrize("wrong", [0, -5, "soon"])
async def test_a_deadline_is_milliseconds(engine, serve_with, wrong):
    async with serve_with(engine, ServerConfig(model_name="tiny")) as client:
        reply = await client.http.post("/v1/completions", json={**SHORT, "ttft_ms": wrong})
        assert reply.status_code == 400
        assert "ttft_ms" in reply.text


CHAT = [{"role": "user", "content": "word " * 200}]
DOORS = {
    "/v1/chat/completions": {"model": "tiny", "messages": CHAT},
    "/v1/responses": {"model": "tiny", "input": "word " * 200},
    "/v1/messages": {"model": "tiny", "messages": CHAT, "max_tokens": 4},
    "/generate": {"text": "word " * 200},
    "/api/chat": {"model": "tiny", "messages": CHAT, "stream": False},
    "/api/generate": {"model": "tiny", "prompt": "word " * 200, "stream": False},
    "/api/embed": {"model": "tiny", "input": "word " * 200},
    "/api/embeddings": {"model": "tiny", "prompt": "word " * 200},
    "/v1/embeddings": {"model": "tiny", "input": "word " * 200},
    "/v1/score": {"model": "tiny", "text_1": "word " * 100, "text_2": "word " * 100},
    "/v1/rerank": {"model": "tiny", "query": "word " * 100, "documents": ["word " * 100]},
}


@pytest.mark.parametrize("path", DOORS)
async def test_every_door_takes_a_deadline_and_a_priority(engine, serve_with, path):
    async with serve_with(engine, ServerConfig(model_name="tiny")) as client:
        late = await client.http.post(path, json={**DOORS[path], "ttft_ms": 1e-6, "priority": 1})
        assert late.status_code == 503, late.text
        assert "ttft_ms" in late.text
        in_time = await client.http.post(path, json={**DOORS[path], "ttft_ms": 600_000, "priority": 1})
        assert in_time.status_code == 200, in_time.text
        wrong = await client.http.post(path, json={**DOORS[path], "ttft_ms": -5})
        assert wrong.status_code == 400, wrong.text


@pytest.mark.parametrize("path", [path for path in DOORS if path.startswith(("/v1/chat", "/v1/me", "/gen", "/api/c"))])
async def test_every_door_that_writes_takes_what_is_said_of_its_drafts_and_of_what_comes_next(engine, serve_with, path):
    async with serve_with(engine, ServerConfig(model_name="tiny")) as client:
        said = {"drafts": False, "next_use": "never"}
        reply = await client.http.post(path, json={**DOORS[path], **said})
        assert reply.status_code == 200, reply.text

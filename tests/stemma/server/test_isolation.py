"""What goes wrong inside is told in the API's shape: to one client where it is one's, by /health where it is all's."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
import torch

from stemma.fsm.errors import FormError
from stemma.fsm.matching.matcher import Matcher
from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny
from stemma.server import ServerConfig

BODY = {"prompt": "number: ", "max_tokens": 12, "temperature": 0}


async def test_a_guide_that_breaks_is_its_clients_trouble_alone(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = await client.post("/v1/completions", **BODY)

    def broken(*_: Any) -> None:
        raise IndexError("the tables end here")

    with monkeypatch.context() as patch:
        patch.setattr(Matcher, "mask_into", broken)
        whole, streamed, beside = await asyncio.gather(
            client.post("/v1/completions", **BODY, regex="[0-9]+", status=500),
            client.stream("/v1/completions", **BODY, regex="[0-9]+"),
            client.post("/v1/completions", **BODY),
        )
    assert whole["error"]["type"] == streamed[-1]["error"]["type"] == "server_error"
    assert "the tables end here" in whole["error"]["message"]
    assert beside["choices"] == alone["choices"]
    assert (await client.get("/health"))["status"] == "ok"


async def test_an_engine_that_failed_says_why_on_health(serve_with: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=1024)

    def broken(*_: Any) -> None:
        while len(engine._loop._states) + engine._loop._calls.qsize() < 3:  # who comes later is told 503
            time.sleep(0.01)
        raise RuntimeError("the device fell off")

    monkeypatch.setattr(engine._loop.runner, "forward", broken)
    async with serve_with(engine, ServerConfig()) as client:
        waiting = [client.post("/v1/completions", **BODY, status=500) for _ in range(3)]
        for answer in await asyncio.wait_for(asyncio.gather(*waiting), 30):
            assert "the device fell off" in answer["error"]["message"]
        unhealthy = await client.get("/health", status=503)
        assert "the device fell off" in unhealthy["error"]["message"]
    engine.close()


SECRET = "the letters of a stranger"


async def test_an_error_in_a_stream_is_logged_once_and_quotes_nothing(
    client: Any, monkeypatch: Any, caplog: Any
) -> None:
    def broken(*_: Any) -> bool:
        raise FormError(f"this breaks at {SECRET}")

    monkeypatch.setattr(Matcher, "advance", broken)
    form = {"regex": "[ab]{30}", "max_tokens": 40}
    chunks = await client.stream("/v1/chat/completions", messages=[{"role": "user", "content": SECRET}], **form)
    chunks += await client.stream("/v1/completions", prompt=SECRET, n=2, **form)
    ids = list(dict.fromkeys(chunk["id"] for chunk in chunks if "id" in chunk))
    await client.stream("/generate", text=SECRET, rid="my own", sampling_params={"regex": "[ab]{30}"})
    body = {"input": SECRET, "text": {"format": {"type": "json_schema", "name": "x", "schema": {}}}, "stream": True}
    response = await client.http.post("/v1/responses", json=body)
    failed = json.loads(response.text.split("\n\n")[-2].split("\n")[1].removeprefix("data: "))
    records = [record.getMessage() for record in caplog.records if record.name == "stemma.server"]
    assert len(records) == 4
    for own, told in zip([*ids[:1], "cmpl-", "my own", failed["response"]["id"]], records, strict=True):
        assert own in told
        assert "GrammarFailed because of FormError at " in told
    assert SECRET not in caplog.text


async def test_a_fault_of_the_servers_in_a_stream_is_logged_with_the_request(
    client: Any, monkeypatch: Any, caplog: Any
) -> None:
    def broken(*_: Any) -> None:
        raise KeyError("nobody foresaw this")

    monkeypatch.setattr("stemma.server.generation.chats.Choice.take", broken)
    body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 8, "stream": True}
    response = await client.http.post("/v1/chat/completions", json=body)
    assert "[DONE]" not in response.text
    own = json.loads(response.text.split("\n\n")[0].removeprefix("data: "))["id"]
    (record,) = [record for record in caplog.records if record.name == "stemma.server"]
    assert record.exc_info[1].__notes__ == [f"in the stream of {own!r}"]

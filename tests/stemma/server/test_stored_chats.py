"""Chat completions with `store: true`, streamed and whole."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionDeleted

from stemma.runtime.engine import Engine
from stemma.server import ServerConfig
from tests.stemma.server.strictly import strictly

PATH = "/v1/chat/completions"
HI = [{"role": "system", "content": "be brief"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
GO = {"name": "go", "parameters": {"type": "object", "properties": {}}}
CALLS = {"tools": [{"type": "function", "function": GO}], "tool_choice": "required"}


@pytest.mark.parametrize("extra", [{}, {"n": 2}, CALLS, {"logprobs": True}], ids=["text", "two", "calls", "scores"])
async def test_a_stream_is_kept_as_the_whole_answer_is(client: Any, extra: dict[str, Any]) -> None:
    body = {"messages": HI, "max_tokens": 40, "seed": 1, "temperature": 0, "store": True, **extra}
    whole = await client.post(PATH, **body)
    found = await client.get(f"{PATH}/{whole['id']}")
    assert found == {**whole, "metadata": {}}
    strictly(ChatCompletion, found)
    chunks = await client.stream(PATH, **body)
    streamed = await client.get(f"{PATH}/{chunks[0]['id']}")
    strictly(ChatCompletion, streamed)
    assert streamed["usage"]["total_tokens"] == whole["usage"]["total_tokens"]
    for ours, theirs in zip(streamed["choices"], whole["choices"], strict=True):
        for choice in (ours, theirs):
            for call in choice["message"].get("tool_calls", ()):
                call["id"] = ""
        assert ours["message"] == theirs["message"]
        assert ours["finish_reason"] == theirs["finish_reason"]
        assert (ours["logprobs"] is None) == (theirs["logprobs"] is None)


async def test_they_are_listed_changed_and_deleted(client: Any) -> None:
    body = {"messages": HI, "max_tokens": 1, "store": True}
    made = [(await client.post(PATH, metadata={"number": str(number % 2)}, **body))["id"] for number in range(4)]
    await client.post(PATH, messages=HI, max_tokens=1)

    async def listed(query: str = "") -> list[str]:
        return [one["id"] for one in (await client.get(f"{PATH}{query}"))["data"]]

    assert await listed() == made
    assert await listed("?order=desc&limit=3") == made[:0:-1]
    assert await listed("?metadata[number]=1") == made[1::2]
    assert await listed("?metadata[number]=1&model=tiny&after=" + made[1]) == made[3:]
    assert await listed("?model=other") == []
    changed = await client.post(f"{PATH}/{made[0]}", metadata={"number": "1"})
    assert changed["metadata"] == {"number": "1"}
    assert await listed("?metadata[number]=1") == [made[0], *made[1::2]]
    asked = await client.get(f"{PATH}/{made[0]}/messages")
    assert [(one["role"], one["content"]) for one in asked["data"]] == [("system", "be brief"), ("user", "hi")]
    gone = (await client.http.delete(f"{PATH}/{made[0]}")).json()
    strictly(ChatCompletionDeleted, gone)
    await client.get(f"{PATH}/{made[0]}", status=404)
    await client.get(f"{PATH}/{made[0]}/messages", status=404)
    assert "store: false" in (await client.post(f"{PATH}/{made[0]}", status=404, metadata={}))["error"]["message"]


async def test_what_is_noted_must_be_texts_where_it_is_kept(client: Any) -> None:
    body = {"messages": HI, "max_tokens": 1, "metadata": {"a": 1}}
    await client.post(PATH, **body)
    assert (await client.post(PATH, status=400, store=True, **body))["error"]["param"] == "metadata"


async def test_a_server_that_keeps_nothing_answers_and_says_so(engine: Engine, serve_with: Any) -> None:
    async with serve_with(engine, ServerConfig(keep_state=False)) as client:
        answer = await client.http.post(PATH, json={"messages": HI, "max_tokens": 1, "store": True})
        assert answer.status_code == 200
        assert answer.headers["stemma-unused-fields"] == "store"
        await client.get(PATH, status=400)

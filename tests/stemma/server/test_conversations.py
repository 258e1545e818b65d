"""/v1/conversations: made, listed, changed, and gone on from by responses."""

from __future__ import annotations

import asyncio
from typing import Any

import openai.types.conversations as sdk
import pytest
from openai.types.conversations.conversation_item_list import ConversationItemList

from stemma.runtime.engine import Engine
from stemma.server import ApiKey, ServerConfig
from tests.stemma.server.strictly import strictly

PATH = "/v1/conversations"
SAID = [
    {"role": "user", "content": "one"},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "two"}]},
    {"type": "function_call", "call_id": "c1", "name": "go", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "c1", "output": "gone"},
    {"type": "reasoning", "id": "rs_1", "summary": []},
]


async def texts(client: Any, name: str) -> list[Any]:
    page = await client.get(f"{PATH}/{name}/items?order=asc&limit=100")
    return [item["content"][0]["text"] if item["type"] == "message" else item["type"] for item in page["data"]]


async def delete(client: Any, path: str, status: int = 200) -> Any:
    response = await client.http.delete(path)
    assert response.status_code == status, response.text
    return response.json()


async def test_a_conversation_is_made_listed_changed_and_forgotten(client: Any) -> None:
    made = await client.post(PATH, items=SAID, metadata={"k": "v"})
    strictly(sdk.Conversation, made)
    path = f"{PATH}/{made['id']}"
    assert await client.get(path) == made
    page = await client.get(f"{path}/items?order=asc")
    strictly(ConversationItemList, page)
    assert [item["type"] for item in page["data"]] == [
        "message", "message", "function_call", "function_call_output", "reasoning",
    ]  # fmt: skip
    names = [item["id"] for item in page["data"]]
    assert len(set(names)) == 5
    assert [item["id"] for item in (await client.get(f"{path}/items"))["data"]] == names[::-1]
    more = await client.post(f"{path}/items", items=[{"role": "user", "content": "three"}, SAID[4]])
    strictly(ConversationItemList, more)
    assert more["data"][1]["id"] != "rs_1", "ids are told apart"
    assert await client.get(f"{path}/items/{more['first_id']}") == more["data"][0]
    assert await delete(client, f"{path}/items/{names[1]}") == made
    await client.get(f"{path}/items/{names[1]}", status=404)
    await delete(client, f"{path}/items/{names[1]}", status=404)
    assert await texts(client, made["id"]) == [
        "one", "function_call", "function_call_output", "reasoning", "three", "reasoning",
    ]  # fmt: skip
    changed = await client.post(path, metadata={"other": "1"})
    assert changed == {**made, "metadata": {"other": "1"}} == await client.get(path)
    gone = await delete(client, path)
    assert gone == {"id": made["id"], "object": "conversation.deleted", "deleted": True}
    for place in (path, f"{path}/items"):
        await client.get(place, status=404)
    await client.post(f"{path}/items", status=404, items=SAID)
    await client.post(path, status=404, metadata={})


async def test_an_empty_one_is_a_list_of_nothing(client: Any) -> None:
    made = await client.post(PATH)
    page = await client.get(f"{PATH}/{made['id']}/items")
    assert (page["data"], page["has_more"]) == ([], False)
    strictly(ConversationItemList, page)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"items": [{"type": "input_image"}]}, "items[0].type"),
        ({"items": [SAID[0], {"role": "user", "content": 1}]}, "items[1].content"),
        ({"items": [{"type": "item_reference", "id": "nobody"}]}, "items[0]"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
    ],
)
async def test_what_cannot_be_kept_is_refused(client: Any, body: dict[str, Any], param: str) -> None:
    assert (await client.post(PATH, status=400, **body))["error"]["param"] == param


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("store", [False, True])
async def test_responses_go_on_from_it_and_are_added_to_it(client: Any, store: bool, stream: bool) -> None:
    made = await client.post(PATH, items=[{"role": "user", "content": "one"}])
    ran = 0
    for turn in range(3):
        body = {"input": f"turn {turn}", "max_output_tokens": 8, "seed": turn, "store": store}
        asked = {**body, "conversation": {"id": made["id"]} if turn else made["id"]}
        if stream:
            response = await client.http.post("/v1/responses", json={**asked, "stream": True})
            assert response.status_code == 200
        else:
            answer = await client.post("/v1/responses", **asked)
            assert answer["conversation"] == {"id": made["id"]}
            assert answer["usage"]["input_tokens_details"]["cached_tokens"] >= ran
            ran = answer["usage"]["total_tokens"] - (answer["status"] == "completed")
    said = await texts(client, made["id"])
    assert said[0] == "one"
    assert said[1::2] == ["turn 0", "turn 1", "turn 2"]
    assert len(said) == 7


async def test_two_responses_at_once_are_both_added(client: Any) -> None:
    made = await client.post(PATH)
    asks = [
        client.post("/v1/responses", input=str(number), conversation=made["id"], max_output_tokens=4)
        for number in range(4)
    ]
    answers = await asyncio.gather(*asks)
    said = await texts(client, made["id"])
    assert sorted(said[::2]) == ["0", "1", "2", "3"]
    for answer, number in zip(answers, range(4), strict=True):
        at = said.index(str(number))
        assert said[at + 1] == answer["output"][0]["content"][0]["text"]


async def test_a_conversation_that_is_deleted_meanwhile_is_no_trouble(client: Any, engine: Engine) -> None:
    made = await client.post(PATH, items=[{"role": "user", "content": "one"}])
    body = {"input": "on", "max_output_tokens": 200, "ignore_eos": True, "background": True}
    begun = await client.post("/v1/responses", conversation=made["id"], **body)
    await delete(client, f"{PATH}/{made['id']}")
    while (answer := await client.get(f"/v1/responses/{begun['id']}"))["status"] in ("queued", "in_progress"):
        await asyncio.sleep(0.01)
    assert answer["status"] == "incomplete"
    await client.get(f"{PATH}/{made['id']}", status=404)


async def test_tenants_do_not_find_each_others_conversations(engine: Engine, serve_with: Any) -> None:
    keys = (ApiKey("alice", "key-a"), ApiKey("bob", "key-b"))
    async with serve_with(engine, ServerConfig(api_keys=keys)) as client:
        made = await client.post(PATH, key="key-a", items=SAID)
        await client.get(f"{PATH}/{made['id']}", status=404, key="key-b")
        await client.get(f"{PATH}/{made['id']}/items", status=404, key="key-b")
        await client.post("/v1/responses", status=404, key="key-b", input="x", conversation=made["id"])
        reference = [{"type": "item_reference", "id": "rs_1"}]
        await client.post("/v1/responses", status=400, key="key-b", input=reference)
        await client.post("/v1/responses", key="key-a", input=[SAID[0], *reference], max_output_tokens=1)

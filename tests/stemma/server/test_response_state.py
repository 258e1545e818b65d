"""Responses that are kept: what goes on from them, what they say when they are asked for, and how they end."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import openai.types.responses as sdk
import pytest
from openai.types.responses.response_item_list import ResponseItemList

from stemma.runtime.engine import Engine
from stemma.server import ApiKey, ServerConfig
from stemma.server.http import access_log
from stemma.server.http.record import RequestRecord
from tests.stemma.server.live import is_idle
from tests.stemma.server.strictly import strictly

PATH = "/v1/responses"
EVENT: Any = sdk.ResponseStreamEvent
TOOL = {"type": "function", "name": "go", "parameters": {"type": "object", "properties": {}}, "strict": True}
LONG = {"input": "on and on", "max_output_tokens": 1900, "ignore_eos": True, "background": True}


def events_in(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: ")]


async def streamed(client: Any, method: str = "POST", path: str = PATH, **body: Any) -> list[dict[str, Any]]:
    response = await client.http.request(method, path, json={**body, "stream": True} if body else None)
    assert response.status_code == 200, response.text
    return events_in(response.text)


async def delete(client: Any, path: str, status: int = 200) -> Any:
    response = await client.http.delete(path)
    assert response.status_code == status, response.text
    return response.json()


async def ended(client: Any, name: str) -> dict[str, Any]:
    """A response in the background, when it has ended."""
    while (answer := await client.get(f"{PATH}/{name}"))["status"] in ("queued", "in_progress"):
        await asyncio.sleep(0.01)
    return answer


def ids(page: dict[str, Any]) -> list[str]:
    return [item["id"] for item in page["data"]]


# What goes on -----------------------------------------------------------------------------------------------------
async def test_each_turn_goes_on_and_is_cached_to_the_last_token(client: Any) -> None:
    last: dict[str, Any] | None = None
    for turn in range(4):
        body = {"input": f"question {turn}", "max_output_tokens": 12, "seed": turn}
        if last is not None:
            body["previous_response_id"] = last["id"]
        answer = await client.post(PATH, **body)
        assert answer["previous_response_id"] == (last and last["id"])
        if last is not None:
            cached = answer["usage"]["input_tokens_details"]["cached_tokens"]
            assert cached >= last["usage"]["total_tokens"] - (last["status"] == "completed")
        last = answer
    assert last is not None
    items = await client.get(f"{PATH}/{last['id']}/input_items?order=asc")
    assert [item["role"] for item in items["data"]] == ["user", "assistant"] * 3 + ["user"]
    strictly(ResponseItemList, items)


async def test_it_says_the_same_as_the_whole_conversation_in_input(client: Any) -> None:
    first = await client.post(PATH, input="one", max_output_tokens=6, instructions="be brief")
    asked = {"max_output_tokens": 6, "temperature": 0}
    going_on = await client.post(PATH, input="two", previous_response_id=first["id"], **asked)
    conversation = [{"role": "user", "content": "one"}, *first["output"], {"role": "user", "content": "two"}]
    at_once = await client.post(PATH, input=conversation, store=False, **asked)
    assert going_on["usage"]["input_tokens"] == at_once["usage"]["input_tokens"], "instructions are not carried over"
    assert going_on["output"][0]["content"] == at_once["output"][0]["content"]
    references = [{"role": "user", "content": "one"}, {"type": "item_reference", "id": first["output"][0]["id"]},
                  {"role": "user", "content": "two"}]  # fmt: skip
    referred = await client.post(PATH, input=references, **asked)
    assert referred["output"][0]["content"] == at_once["output"][0]["content"]
    bare = [references[0], {"id": first["output"][0]["id"]}, references[2]]
    assert (await client.post(PATH, input=bare, **asked))["usage"]["input_tokens"] == at_once["usage"]["input_tokens"]


async def test_two_may_go_on_from_one(client: Any) -> None:
    root = await client.post(PATH, input="root", max_output_tokens=4)
    forks = [await client.post(PATH, input=text, previous_response_id=root["id"], max_output_tokens=4) for text in "ab"]
    for text, fork in zip("ab", forks, strict=True):
        items = await client.get(f"{PATH}/{fork['id']}/input_items?order=asc")
        assert items["data"][-1]["content"] == [{"type": "input_text", "text": text}]
        assert len(items["data"]) == 3
    assert (await delete(client, f"{PATH}/{root['id']}")) == {"id": root["id"], "object": "response", "deleted": True}
    await client.get(f"{PATH}/{root['id']}", status=404)
    assert len((await client.get(f"{PATH}/{forks[0]['id']}/input_items"))["data"]) == 3
    await client.post(PATH, status=400, input="x", previous_response_id=root["id"])
    await client.post(PATH, input="x", previous_response_id=forks[0]["id"], max_output_tokens=1)


async def test_calls_are_part_of_what_was_before(client: Any) -> None:
    first = await client.post(PATH, input="go", tools=[TOOL], tool_choice="required", parallel_tool_calls=False)
    (call,) = first["output"]
    result = [{"type": "function_call_output", "call_id": call["call_id"], "output": "gone"}]
    second = await client.post(PATH, input=result, previous_response_id=first["id"], tools=[TOOL], max_output_tokens=3)
    items = (await client.get(f"{PATH}/{second['id']}/input_items?order=asc"))["data"]
    assert [item["type"] for item in items] == ["message", "function_call", "function_call_output"]
    assert items[1] == call


async def test_the_oldest_turns_are_left_out_where_it_would_be_too_long(client: Any) -> None:
    said = [{"role": ("user", "assistant")[at % 2], "content": f"{at:02}" + "x" * 198} for at in range(20)]
    last = {"role": "user", "content": "the last"}
    body = {"input": [*said, last], "instructions": "be brief", "max_output_tokens": 5}
    error = (await client.post(PATH, status=400, **body))["error"]
    assert error["code"] == "context_length_exceeded"
    whole = await client.post(PATH, truncation="auto", **body)
    assert whole["truncation"] == "auto"
    counted = await client.post(f"{PATH}/input_tokens", truncation="auto", **body)
    assert counted["input_tokens"] == whole["usage"]["input_tokens"]
    assert 2048 - 450 <= whole["usage"]["input_tokens"] <= 2048 - 5
    assert len((await client.get(f"{PATH}/{whole['id']}/input_items?limit=100"))["data"]) == 21
    await client.post(PATH, status=400, truncation="auto", input="x" * 3000, max_output_tokens=5)


# What is found ----------------------------------------------------------------------------------------------------
async def test_what_is_found_is_what_was_told(client: Any) -> None:
    for extra in ({}, {"tools": [TOOL], "tool_choice": "required"}, {"include": ["message.output_text.logprobs"]}):
        answer = await client.post(PATH, input="hi", max_output_tokens=9, metadata={"k": "v"}, **extra)
        assert await client.get(f"{PATH}/{answer['id']}") == answer
        strictly(sdk.Response, answer)
        events = await streamed(client, input="hi", max_output_tokens=9, **extra)
        told = events[-1]["response"]
        assert await client.get(f"{PATH}/{told['id']}") == told
        replayed = await streamed(client, "GET", f"{PATH}/{told['id']}?stream=true")
        assert replayed[-1]["response"] == told
        assert [event["sequence_number"] for event in replayed] == list(range(len(replayed)))
        kinds = [event["type"] for event in events]
        assert [event["type"] for event in replayed] == [k for at, k in enumerate(kinds) if k != kinds[at - 1]]
        assert await streamed(client, "GET", f"{PATH}/{told['id']}?stream=true&starting_after=3") == replayed[4:]
        for event in (*events, *replayed):
            strictly(EVENT, event)


async def test_input_items_come_in_pages(client: Any) -> None:
    given = [{"role": "user", "content": str(number)} for number in range(5)]
    answer = await client.post(PATH, input=given, max_output_tokens=1)
    path = f"{PATH}/{answer['id']}/input_items"
    everything = ids(await client.get(f"{path}?order=asc"))
    assert ids(await client.get(path)) == everything[::-1]
    page = await client.get(f"{path}?limit=2&order=asc")
    assert (ids(page), page["has_more"], page["first_id"], page["last_id"]) == (
        everything[:2], True, everything[0], everything[1],
    )  # fmt: skip
    rest = await client.get(f"{path}?limit=5&order=asc&after={page['last_id']}")
    assert (ids(rest), rest["has_more"]) == (everything[2:], False)
    for query in ("limit=0", "limit=101", "limit=x", "order=up"):
        await client.get(f"{path}?{query}", status=400)


async def test_what_was_not_stored_is_not_found_and_the_error_says_what_to_do(client: Any) -> None:
    answer = await client.post(PATH, input="hi", max_output_tokens=1, store=False)
    assert answer["store"] is False
    error = (await client.get(f"{PATH}/{answer['id']}", status=404))["error"]
    assert "store: false" in error["message"]
    assert "--cache-folder" in error["message"]
    body = {"input": "more", "previous_response_id": answer["id"]}
    error = (await client.post(PATH, status=400, **body))["error"]
    assert (error["param"], error["code"]) == ("previous_response_id", "previous_response_not_found")
    assert "send the conversation in input" in error["message"]
    error = (await client.post(PATH, status=404, input="x", conversation="conv_1"))["error"]
    assert error["param"] == "conversation"
    error = (await client.post(PATH, status=400, input=[{"type": "item_reference", "id": "x"}]))["error"]
    assert error["param"] == "input[0]"


async def test_tenants_do_not_find_each_others_responses(engine: Engine, serve_with: Any) -> None:
    keys = (ApiKey("alice", "key-a"), ApiKey("bob", "key-b"), ApiKey("root", "key-r", is_admin=True))
    async with serve_with(engine, ServerConfig(api_keys=keys)) as client:
        answer = await client.post(PATH, key="key-a", input="hi", max_output_tokens=1)
        for key in ("key-b", "key-r"):
            await client.get(f"{PATH}/{answer['id']}", status=404, key=key)
            await client.post(PATH, status=400, key=key, input="x", previous_response_id=answer["id"])
            headers = {"authorization": f"Bearer {key}"}
            assert (await client.http.delete(f"{PATH}/{answer['id']}", headers=headers)).status_code == 404
        await client.get(f"{PATH}/{answer['id']}", key="key-a")


async def test_a_server_that_keeps_nothing_says_so(engine: Engine, serve_with: Any) -> None:
    async with serve_with(engine, ServerConfig(keep_state=False)) as client:
        response = await client.http.post(PATH, json={"input": "hi", "max_output_tokens": 1, "store": True})
        assert response.json()["store"] is False
        assert response.headers["stemma-unused-fields"] == "store"
        assert (await client.post(PATH, input="hi", max_output_tokens=1))["store"] is False
        for body in ({"previous_response_id": "r"}, {"conversation": "c"}, {"background": True}):
            error = (await client.post(PATH, status=400, input="x", **body))["error"]
            assert "--no-keep-state" in error["message"]
            assert error["param"] == next(iter(body))
        await client.get(f"{PATH}/resp_1", status=400)


async def test_the_oldest_make_room(engine: Engine, serve_with: Any) -> None:
    async with serve_with(engine, ServerConfig(max_state_objects=2)) as client:
        answers = [await client.post(PATH, input="hi", max_output_tokens=1) for _ in range(3)]
        await client.get(f"{PATH}/{answers[0]['id']}", status=404)
        for answer in answers[1:]:
            await client.get(f"{PATH}/{answer['id']}")


async def test_a_restart_keeps_what_was_told(engine: Engine, serve_with: Any, tmp_path: Path) -> None:
    config = ServerConfig(cache_folder=tmp_path)
    async with serve_with(engine, config) as client:
        first = await client.post(PATH, input="hi", max_output_tokens=3)
    async with serve_with(engine, config) as client:
        assert await client.get(f"{PATH}/{first['id']}") == first
        second = await client.post(PATH, input="more", previous_response_id=first["id"], max_output_tokens=3)
        assert len((await client.get(f"{PATH}/{second['id']}/input_items"))["data"]) == 3


async def test_input_tokens_are_counted_as_they_are_run(client: Any) -> None:
    first = await client.post(PATH, input="hi", max_output_tokens=3)
    body = {"input": "more", "previous_response_id": first["id"], "instructions": "brief"}
    counted = await client.post(f"{PATH}/input_tokens", **body)
    second = await client.post(PATH, max_output_tokens=1, **body)
    assert counted == {"object": "response.input_tokens", "input_tokens": second["usage"]["input_tokens"]}
    await client.post(f"{PATH}/input_tokens", status=400)
    assert "previous_response_id" in (await client.post(f"{PATH}/compact", status=400, model="m"))["error"]["message"]


# In the background ------------------------------------------------------------------------------------------------
async def test_an_answer_in_the_background_is_asked_for(client: Any) -> None:
    begun = await client.post(PATH, input="hi", max_output_tokens=30, background=True)
    assert (begun["status"], begun["background"], begun["output"]) == ("queued", True, [])
    strictly(sdk.Response, begun)
    done = await ended(client, begun["id"])
    assert done["usage"]["output_tokens"] > 0
    assert done["output"][0]["content"][0]["text"]
    assert await client.post(f"{PATH}/{begun['id']}/cancel") == done
    events = await streamed(client, "GET", f"{PATH}/{begun['id']}?stream=true")
    assert [event["type"] for event in events][:3] == [
        "response.created", "response.queued", "response.in_progress",
    ]  # fmt: skip
    assert events[-1]["response"] == done
    assert await streamed(client, "GET", f"{PATH}/{begun['id']}?stream=true&starting_after=5") == events[6:]
    for event in events:
        strictly(EVENT, event)


async def test_a_stream_in_the_background_is_resumed(client: Any) -> None:
    events = await streamed(client, input="hi", max_output_tokens=20, background=True)
    name = events[0]["response"]["id"]
    assert await streamed(client, "GET", f"{PATH}/{name}?stream=true&starting_after=2") == events[3:]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


async def test_an_answer_in_the_background_is_cancelled(client: Any, engine: Engine) -> None:
    begun = await client.post(PATH, **LONG)
    following = asyncio.create_task(streamed(client, "GET", f"{PATH}/{begun['id']}?stream=true"))
    while (await client.get(f"{PATH}/{begun['id']}"))["status"] != "in_progress":
        await asyncio.sleep(0.01)
    error = (await client.post(PATH, status=400, input="x", previous_response_id=begun["id"]))["error"]
    assert error["code"] == "response_in_progress"
    cancelled = await client.post(f"{PATH}/{begun['id']}/cancel")
    assert cancelled["status"] == "cancelled"
    assert cancelled == await client.get(f"{PATH}/{begun['id']}") == await client.post(f"{PATH}/{begun['id']}/cancel")
    strictly(sdk.Response, cancelled)
    events = await following
    assert events[0]["type"] == "response.created"
    while not is_idle(engine):
        await asyncio.sleep(0.01)


async def test_deleting_an_answer_in_the_background_ends_it(client: Any, engine: Engine) -> None:
    begun = await client.post(PATH, **LONG)
    await delete(client, f"{PATH}/{begun['id']}")
    await client.get(f"{PATH}/{begun['id']}", status=404)
    await delete(client, f"{PATH}/{begun['id']}", status=404)
    while not is_idle(engine):
        await asyncio.sleep(0.01)


async def test_who_leaves_before_the_id_is_told_leaves_nothing_under_way(
    client: Any, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, entered, goes_on = client.http._transport.app.state.service.store, threading.Event(), threading.Event()
    add = store.add

    def slow(*given: Any) -> Any:
        made = add(*given)
        entered.set()
        goes_on.wait()
        return made

    monkeypatch.setattr(store, "add", slow)
    asking = asyncio.create_task(client.http.post(PATH, json=LONG))
    while not entered.is_set():
        await asyncio.sleep(0.01)
    threading.Timer(0.1, goes_on.set).start()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    assert store.left_open("response") == []
    while not is_idle(engine):
        await asyncio.sleep(0.01)


async def test_answers_have_their_ids_in_the_log_and_are_counted_when_they_have_ended(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[RequestRecord] = []
    monkeypatch.setattr(access_log, "write", written.append)
    body = {"input": "hi", "max_output_tokens": 20, "ignore_eos": True}
    answers = [await client.post(PATH, **body, **more) for more in ({}, {"store": False}, {"background": True})]
    await ended(client, answers[-1]["id"])
    asked = [record for record in written if record.method == "POST"]
    assert [record.answer_id for record in asked] == [answer["id"] for answer in answers]
    service = client.http._transport.app.state.service
    await service.runs.ended()
    (counted,) = service.counts.of_tenants.values()
    assert counted.usage.completion_tokens == 60


async def test_only_what_is_in_the_background_can_be_cancelled(client: Any) -> None:
    answer = await client.post(PATH, input="hi", max_output_tokens=1)
    assert "background" in (await client.post(f"{PATH}/{answer['id']}/cancel", status=400))["error"]["message"]


async def test_what_is_wrong_with_it_is_said_at_once(client: Any) -> None:
    assert (await client.post(PATH, status=400, input="x" * 5000, background=True))["error"]["param"] == "input"


async def test_what_a_server_left_has_failed(engine: Engine, serve_with: Any, tmp_path: Path) -> None:
    config = ServerConfig(cache_folder=tmp_path)
    async with serve_with(engine, config) as client:
        store = client.http._transport.app.state.service.store
        begun = await client.post(PATH, **LONG)
        name = begun["id"]
        store._database.close()  # the process is gone: nothing more is written
        for task in list(client.http._transport.app.state.service.runs._tasks):
            task.cancel()
        await client.http._transport.app.state.service.runs.ended()
    async with serve_with(engine, config) as client:
        left = await client.get(f"{PATH}/{name}")
        assert (left["status"], left["error"]["code"]) == ("failed", "server_error")
        strictly(sdk.Response, left)
        events = await streamed(client, "GET", f"{PATH}/{name}?stream=true")
        assert events[-1]["type"] == "response.failed"

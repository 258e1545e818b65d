"""/v1/files and /v1/batches: each line answered once, errors as lines, cancelled, expired, and gone on with."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from openai.types import Batch, FileObject

from stemma.runtime.engine import Engine
from stemma.server import ApiKey, ServerConfig
from stemma.server.batches import batches, lines, runner
from stemma.server.batches.wire import BatchRequest
from stemma.server.http.inside import Answered, ask_inside
from stemma.server.store.records import NewObject
from tests.stemma.server.live import is_idle
from tests.stemma.server.strictly import strictly

CHAT = "/v1/chat/completions"
ENDED = ("completed", "failed", "cancelled", "expired")


def chat(number: int, **body: Any) -> dict[str, Any]:
    asked = {"messages": [{"role": "user", "content": f"hi {number}"}], "max_tokens": 3, **body}
    return {"custom_id": f"r{number}", "method": "POST", "url": CHAT, "body": asked}


def jsonl(*values: Any) -> bytes:
    return b"\n".join(value if isinstance(value, bytes) else json.dumps(value).encode() for value in values)


async def upload(client: Any, data: bytes, status: int = 200, key: str | None = None, **fields: str) -> Any:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    form = {"purpose": "batch", **fields}
    answer = await client.http.post("/v1/files", files={"file": ("in.jsonl", data)}, data=form, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


async def begin(client: Any, data: bytes, endpoint: str = CHAT, **fields: Any) -> dict[str, Any]:
    file = await upload(client, data)
    body = {"input_file_id": file["id"], "endpoint": endpoint, "completion_window": "24h", **fields}
    return await client.post("/v1/batches", **body)  # type: ignore[no-any-return]


async def ended(client: Any, batch: dict[str, Any]) -> dict[str, Any]:
    while batch["status"] not in ENDED:
        batch = await client.get(f"/v1/batches/{batch['id']}")
        strictly(Batch, batch)
        await asyncio.sleep(0.01)
    return batch


async def read(client: Any, name: str | None) -> list[dict[str, Any]]:
    if name is None:
        return []
    answer = await client.http.get(f"/v1/files/{name}/content")
    assert answer.status_code == 200, answer.text
    file = await client.get(f"/v1/files/{name}")
    assert (file["purpose"], file["bytes"]) == ("batch_output", len(answer.content))
    return [json.loads(line) for line in answer.content.splitlines()]


async def results(client: Any, batch: dict[str, Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    return await read(client, batch["output_file_id"]), await read(client, batch["error_file_id"])


# Files ------------------------------------------------------------------------------------------------------------
async def test_a_file_is_kept_listed_read_and_deleted(client: Any) -> None:
    data = bytes(range(256)) * 5000
    made = await upload(client, data, purpose="user_data")
    strictly(FileObject, made)
    assert (made["bytes"], made["filename"], made["expires_at"]) == (len(data), "in.jsonl", None)
    other = await upload(client, b"{}", **{"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"})
    assert other["expires_at"] == other["created_at"] + 3600
    assert await client.get(f"/v1/files/{made['id']}") == made
    assert (await client.http.get(f"/v1/files/{made['id']}/content")).content == data
    assert [file["id"] for file in (await client.get("/v1/files"))["data"]] == [other["id"], made["id"]]
    assert [file["id"] for file in (await client.get("/v1/files?purpose=batch"))["data"]] == [other["id"]]
    page = await client.get("/v1/files?limit=1&order=asc")
    assert ([file["id"] for file in page["data"]], page["has_more"]) == ([made["id"]], True)
    gone = await client.http.delete(f"/v1/files/{made['id']}")
    assert gone.json() == {"id": made["id"], "object": "file", "deleted": True}
    for path in (f"/v1/files/{made['id']}", f"/v1/files/{made['id']}/content"):
        assert "upload it again" in (await client.get(path, status=404))["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"purpose": "fun"}, "purpose"), ({"expires_after[seconds]": "1"}, "expires_after"),
     ({"expires_after[seconds]": "soon"}, "expires_after[seconds]")],
)  # fmt: skip
async def test_a_wrong_field_is_named(client: Any, fields: dict[str, str], param: str) -> None:
    assert (await upload(client, b"{}", 400, **fields))["error"]["param"] == param


@pytest.mark.parametrize(
    ("content_type", "body"),
    [("application/json", b"{}"), ("multipart/form-data", b"x"), ("multipart/form-data; boundary=x", b"--x\r\n: \r\n"),
     ("multipart/form-data; boundary=x", b'--x\r\ncontent-disposition: form-data; name="file"\r\n\r\nabc\r\n--x--')],
)  # fmt: skip
async def test_what_is_no_form_is_a_400(client: Any, content_type: str, body: bytes) -> None:
    answer = await client.http.post("/v1/files", content=body, headers={"content-type": content_type})
    assert answer.status_code == 400, answer.text


async def test_files_are_bounded_and_a_tenants_own(engine: Engine, serve_with: Any) -> None:
    keys = (ApiKey("alice", "key-a"), ApiKey("bob", "key-b"))
    async with serve_with(engine, ServerConfig(api_keys=keys, max_files_bytes=100_000)) as client:
        made = await upload(client, b"x" * 60_000, key="key-a")
        assert "delete some files" in (await upload(client, b"x" * 60_000, 400, key="key-a"))["error"]["message"]
        await upload(client, b"x" * 60_000, key="key-b")
        await upload(client, b"x" * 200_000, 413, key="key-b")
        await client.get(f"/v1/files/{made['id']}", status=404, key="key-b")
        body = {"input_file_id": made["id"], "endpoint": CHAT, "completion_window": "24h"}
        await client.post("/v1/batches", status=404, key="key-b", **body)
        batch = await client.post("/v1/batches", key="key-a", **body)
        await client.get(f"/v1/batches/{batch['id']}", status=404, key="key-b")
        assert (await client.get("/v1/batches", key="key-b"))["data"] == []


# Batches ----------------------------------------------------------------------------------------------------------
async def test_each_line_is_answered_as_if_it_were_asked_alone(client: Any) -> None:
    asked = [chat(number, seed=number) for number in range(12)]
    begun = await begin(client, jsonl(*asked, b""), metadata={"k": "v"})
    strictly(Batch, begun)
    assert (begun["status"], begun["metadata"]) == ("validating", {"k": "v"})
    batch = await ended(client, begun)
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 12, "completed": 12, "failed": 0}
    assert batch["error_file_id"] is None
    output, _ = await results(client, batch)
    assert [line["custom_id"] for line in output] == [line["custom_id"] for line in asked]
    for line, one in zip(output, asked, strict=True):
        alone = await client.post(CHAT, **one["body"])
        assert line["response"]["status_code"] == 200
        assert line["response"]["body"]["choices"] == alone["choices"]
        assert line["error"] is None
    used = [line["response"]["body"]["usage"] for line in output]
    assert batch["usage"]["total_tokens"] == sum(one["total_tokens"] for one in used)
    assert (await client.get("/v1/batches"))["data"][0] == batch
    again = await client.post(f"/v1/batches/{batch['id']}/cancel", status=409)
    assert again["error"]["code"] == "batch_not_cancellable"


@pytest.mark.parametrize(
    ("url", "body"),
    [("/v1/completions", {"prompt": "hi", "max_tokens": 2}), ("/v1/embeddings", {"input": "hi"}),
     ("/v1/responses", {"input": "hi", "max_output_tokens": 2})],
)  # fmt: skip
async def test_other_endpoints_are_asked_too(client: Any, url: str, body: dict[str, Any]) -> None:
    line = {"custom_id": "a", "method": "POST", "url": url, "body": body}
    batch = await ended(client, await begin(client, jsonl(line), url))
    ((answer,), _) = await results(client, batch)
    assert batch["usage"]["input_tokens"] > 0
    assert answer["response"]["body"]["object"] in ("text_completion", "list", "response")


async def test_a_bad_line_is_an_error_line(client: Any) -> None:
    wrong = {
        "url": {**chat(1), "url": "/v1/completions"}, "method": {**chat(2), "method": "GET"},
        "stream": chat(3, stream=True), "field": chat(4, temperature=-1), "again": chat(0), "body": {"custom_id": "b"},
    }  # fmt: skip
    batch = await ended(client, await begin(client, jsonl(chat(0), b"{no json", b"[]", *wrong.values())))
    assert batch["status"] == "completed"
    assert batch["request_counts"] == {"total": 9, "completed": 1, "failed": 8}
    output, errors = await results(client, batch)
    assert [line["custom_id"] for line in output] == ["r0"]
    codes = [line["error"]["code"] if line["error"] else line["response"]["status_code"] for line in errors]
    assert codes == [
        "invalid_json_line", "invalid_value", "invalid_url", "invalid_method", "stream_unsupported", 400,
        "duplicate_custom_id", "missing_required_parameter",
    ]  # fmt: skip
    assert errors[5]["response"]["body"]["error"]["param"] == "temperature"
    assert errors[0]["error"]["message"].startswith("line 2: ")


async def test_an_empty_file_is_a_failed_batch(client: Any) -> None:
    batch = await ended(client, await begin(client, b"\n\n"))
    assert (batch["status"], batch["errors"]["data"][0]["code"]) == ("failed", "empty_file")


@pytest.mark.parametrize(
    ("fields", "param"),
    [({"endpoint": "/v1/nothing"}, "endpoint"), ({"completion_window": "soon"}, "completion_window"),
     ({"output_expires_after": {"seconds": 1}}, "output_expires_after.seconds")],
)  # fmt: skip
async def test_a_wrong_batch_is_refused(client: Any, fields: dict[str, Any], param: str) -> None:
    file = await upload(client, b"{}")
    body = {"input_file_id": file["id"], "endpoint": CHAT, "completion_window": "24h", **fields}
    assert (await client.post("/v1/batches", status=400, **body))["error"]["param"] == param


async def test_a_batch_is_cancelled(client: Any, engine: Engine) -> None:
    long = [chat(number, max_tokens=1500, ignore_eos=True) for number in range(40)]
    begun = await begin(client, jsonl(*long))
    while (await client.get(f"/v1/batches/{begun['id']}"))["status"] != "in_progress":
        await asyncio.sleep(0.01)
    cancelling = await client.post(f"/v1/batches/{begun['id']}/cancel")
    assert cancelling["status"] == "cancelling"
    batch = await ended(client, cancelling)
    assert batch["status"] == "cancelled"
    output, errors = await results(client, batch)
    assert len(output) + len(errors) == 40
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    while not is_idle(engine):
        await asyncio.sleep(0.01)


async def test_a_batch_whose_time_is_over_says_so(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(batches.SECONDS, "h", 0)
    batch = await ended(client, await begin(client, jsonl(chat(0))))
    assert batch["status"] == "expired"
    _, (line,) = await results(client, batch)
    assert line["error"]["code"] == "batch_expired"


async def test_a_line_for_which_there_is_never_room_ends_with_the_batch(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*asked: Any) -> Answered:
        return Answered(429, b"{}")

    monkeypatch.setattr(runner, "ask_inside", refused)
    monkeypatch.setattr(runner, "LATER_SECONDS", 0.01)
    monkeypatch.setitem(batches.SECONDS, "h", 1)
    file = await upload(client, jsonl(chat(0)))
    begun = await client.post("/v1/batches", input_file_id=file["id"], endpoint=CHAT, completion_window="2h")
    batch = await ended(client, begun)
    assert batch["status"] == "expired"


async def test_what_was_answered_is_kept_where_the_rest_cannot_be(client: Any) -> None:
    service = client.http._transport.app.state.service
    tenant = service.keys.tenant(None).name
    asked = BatchRequest(input_file_id="file-gone", endpoint=CHAT, completion_window="24h")
    value = runner.new_batch("batch_1", asked, 1000)
    service.store.add(tenant, NewObject("batch", "batch_1", value["created_at"], value, is_open=True))
    service.store.put_content(tenant, "batch", "batch_1", 1, b'+{"custom_id": "r0"}', lambda value: value)
    service.runs.resume()
    batch = await ended(client, value)
    assert (batch["status"], batch["errors"]["data"][0]["code"]) == ("failed", "input_file_deleted")
    assert await results(client, batch) == ([{"custom_id": "r0"}], [])


async def test_a_restart_goes_on_exactly_where_it_was(
    engine: Engine, serve_with: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ServerConfig(cache_folder=tmp_path, batch_lines=2)
    asked = [chat(number, max_tokens=30, ignore_eos=True, seed=number) for number in range(12)]
    async with serve_with(engine, config) as client:
        service = client.http._transport.app.state.service
        begun = await begin(client, jsonl(*asked))
        while (await client.get(f"/v1/batches/{begun['id']}"))["request_counts"]["completed"] < 3:
            await asyncio.sleep(0.01)
        service.store._database.close()  # the process is gone: nothing more is written
        for task in list(service.runs._tasks):
            task.cancel()
        await service.runs.ended()
    async with serve_with(engine, config) as client:
        service = client.http._transport.app.state.service
        before = await client.get(f"/v1/batches/{begun['id']}")
        assert 3 <= before["request_counts"]["completed"] < 12
        priorities: list[int] = []

        async def counted(endpoint: Any, service: Any, tenant: Any, value: Any) -> Any:
            priorities.append(value["priority"])
            return await ask_inside(endpoint, service, tenant, value)

        monkeypatch.setattr(runner, "ask_inside", counted)
        service.runs.resume()
        service.runs.resume()
        batch = await ended(client, before)
        assert batch["status"] == "completed"
        assert batch["request_counts"] == {"total": 12, "completed": 12, "failed": 0}
        output, errors = await results(client, batch)
        assert ([line["custom_id"] for line in output], errors) == ([line["custom_id"] for line in asked], [])
        assert priorities == [lines.LOWEST] * (12 - before["request_counts"]["completed"])


async def test_a_server_that_ends_finishes_what_is_under_way_and_begins_no_more(
    engine: Engine, serve_with: Any, tmp_path: Path
) -> None:
    config = ServerConfig(cache_folder=tmp_path, batch_lines=2)
    async with serve_with(engine, config) as client:
        service = client.http._transport.app.state.service
        begun = await begin(client, jsonl(*(chat(number, max_tokens=20) for number in range(12))))
        while not (await client.get(f"/v1/batches/{begun['id']}"))["request_counts"]["completed"]:
            await asyncio.sleep(0.01)
        service.stopping.set()
        await service.runs.ended()
        stopped = await client.get(f"/v1/batches/{begun['id']}")
        assert stopped["status"] == "in_progress"
    async with serve_with(engine, config) as client:
        client.http._transport.app.state.service.runs.resume()
        batch = await ended(client, stopped)
        assert batch["request_counts"] == {"total": 12, "completed": 12, "failed": 0}


async def test_lines_wait_where_there_is_no_room_for_them(engine: Engine, serve_with: Any) -> None:
    async with serve_with(engine, ServerConfig(max_requests_per_key=1, batch_lines=4)) as client:
        batch = await ended(client, await begin(client, jsonl(*(chat(number) for number in range(5)))))
        assert batch["request_counts"] == {"total": 5, "completed": 5, "failed": 0}


def test_lines_that_begin_alike_are_neighbours() -> None:
    texts = ["a long beginning, then 1", "another, then 1", "a long beginning, then 2", "another, then 2"]
    asked = [chat(number, messages=[{"role": "user", "content": text}]) for number, text in enumerate(texts)]
    found = lines.in_order(lines.lines_of(jsonl(*asked), CHAT))
    assert [line.custom_id for line in found] == ["r0", "r2", "r1", "r3"]

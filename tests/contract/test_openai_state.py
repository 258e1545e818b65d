"""OpenAI's Python client and what the server keeps for it: responses, conversations, files, batches. The model is tiny:
what is said does not matter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny
from stemma.server import ServerConfig
from tests.stemma.server.live import live_server, wait_until

SERVE = """
import socket, sys
import torch
from pathlib import Path
from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny
from stemma.server import ServerConfig, serve
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
with Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=8192) as engine:
    serve(engine, ServerConfig(cache_folder=Path(sys.argv[1]), batch_lines=2), listening=listening)
"""


@pytest.fixture(scope="module")
def client() -> Iterator[openai.OpenAI]:
    with (
        Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=16384) as engine,
        live_server(engine, ServerConfig(model_name="tiny", shutdown_seconds=1)) as live,
    ):
        yield openai.OpenAI(base_url=f"{live.url}/v1", api_key="none", max_retries=0)


def test_responses_go_on_and_are_found(client: openai.OpenAI) -> None:
    first = client.responses.create(model="tiny", input="one", max_output_tokens=6)
    second = client.responses.create(model="tiny", input="two", previous_response_id=first.id, max_output_tokens=6)
    assert second.usage is not None
    assert client.responses.retrieve(second.id).output_text == second.output_text
    items = [item.id for item in client.responses.input_items.list(second.id, order="asc", limit=2)]
    assert len(items) == 3, "pages follow each other"
    counted = client.responses.input_tokens.count(model="tiny", input="two", previous_response_id=first.id)
    assert counted.input_tokens == second.usage.input_tokens
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    with pytest.raises(openai.BadRequestError, match="send the conversation in input"):
        client.responses.create(model="tiny", input="x", previous_response_id=first.id)


def test_a_response_in_the_background_is_polled_followed_and_cancelled(client: openai.OpenAI) -> None:
    begun = client.responses.create(model="tiny", input="hi", max_output_tokens=9, background=True)
    assert begun.status == "queued"
    wait_until(lambda: client.responses.retrieve(begun.id).status in ("completed", "incomplete"))
    events = list(client.responses.retrieve(begun.id, stream=True, starting_after=1))
    assert events[0].sequence_number == 2
    assert events[-1].type in ("response.completed", "response.incomplete")
    long: Any = {"max_output_tokens": 1900, "extra_body": {"ignore_eos": True}}
    stream = client.responses.create(model="tiny", input="hi", background=True, stream=True, **long)
    name = next(iter(stream)).response.id  # type: ignore[union-attr]
    stream.close()
    followed = client.responses.retrieve(name, stream=True, starting_after=0)
    assert next(iter(followed)).sequence_number == 1, "a reader that leaves ends nothing"
    assert client.responses.cancel(name).status == "cancelled"
    assert client.responses.retrieve(name).status == "cancelled"
    followed.close()


def test_conversations(client: openai.OpenAI) -> None:
    made = client.conversations.create(
        items=[{"type": "message", "role": "user", "content": "one"}], metadata={"a": "b"}
    )
    answer = client.responses.create(model="tiny", input="two", conversation=made.id, max_output_tokens=5)
    assert answer.conversation is not None
    assert answer.conversation.id == made.id
    items = list(client.conversations.items.list(made.id, order="asc", limit=1))
    assert [item.role for item in items] == ["user", "user", "assistant"]  # type: ignore[union-attr]
    added = client.conversations.items.create(made.id, items=[{"role": "user", "content": "three"}])
    name = str(added.data[0].id)
    assert client.conversations.items.retrieve(name, conversation_id=made.id).id == name
    client.conversations.items.delete(name, conversation_id=made.id)
    assert len(list(client.conversations.items.list(made.id))) == 3
    assert client.conversations.update(made.id, metadata={"c": "d"}).metadata == {"c": "d"}
    assert client.conversations.retrieve(made.id).metadata == {"c": "d"}
    assert client.conversations.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(made.id)


def lines(num: int, **body: Any) -> bytes:
    asks = [
        {"custom_id": str(at), "method": "POST", "url": "/v1/chat/completions",
         "body": {"messages": [{"role": "user", "content": str(at)}], "max_tokens": 4, "seed": at, **body}}
        for at in range(num)
    ]  # fmt: skip
    return "\n".join(map(json.dumps, asks)).encode()


def test_files_and_batches(client: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "asks.jsonl"
    path.write_bytes(lines(3))
    file = client.files.create(file=path, purpose="batch", expires_after={"anchor": "created_at", "seconds": 7200})
    assert file.filename == "asks.jsonl"
    assert client.files.content(file.id).content == path.read_bytes()
    assert file.id in [one.id for one in client.files.list(purpose="batch")]
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"a": "b"}
    )
    wait_until(lambda: client.batches.retrieve(batch.id).status == "completed")
    done = client.batches.retrieve(batch.id)
    assert done.request_counts is not None
    assert (done.request_counts.total, done.request_counts.completed, done.request_counts.failed) == (3, 3, 0)
    assert done.output_file_id is not None
    said = [json.loads(line) for line in client.files.content(done.output_file_id).text.splitlines()]
    assert [line["custom_id"] for line in said] == ["0", "1", "2"]
    assert [one.id for one in client.batches.list(limit=1)][:1] == [batch.id]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)


@contextmanager
def process(folder: Path) -> Iterator[tuple[openai.OpenAI, subprocess.Popen[bytes]]]:
    """A server in a process of its own, which can be killed."""
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", SERVE, str(folder)]
    started = subprocess.Popen(command, env=environment, cwd=root, stdout=subprocess.PIPE)
    assert started.stdout is not None
    url = f"http://127.0.0.1:{int(started.stdout.readline())}"
    try:
        wait_until(lambda: httpx.get(f"{url}/health").status_code == 200, seconds=60)
        yield openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0), started
    finally:
        started.kill()
        started.communicate()


def test_a_server_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    with process(tmp_path) as (client, server):
        told = client.responses.create(model="stemma", input="one", max_output_tokens=5)
        lost = client.responses.create(
            model="stemma", input="on", max_output_tokens=1900, background=True, extra_body={"ignore_eos": True}
        )
        file = client.files.create(file=("a.jsonl", lines(40, max_tokens=12, ignore_eos=True)), purpose="batch")
        batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
        while (before := client.batches.retrieve(batch.id).request_counts) is None or before.completed < 2:
            time.sleep(0.01)
        server.send_signal(signal.SIGKILL)
        server.wait()
    with process(tmp_path) as (client, _):
        assert client.responses.retrieve(told.id) == told
        assert client.responses.create(model="stemma", input="two", previous_response_id=told.id, max_output_tokens=2)
        assert client.responses.retrieve(lost.id).status == "failed"
        wait_until(lambda: client.batches.retrieve(batch.id).status == "completed", seconds=60)
        done = client.batches.retrieve(batch.id)
        assert done.request_counts is not None
        assert (done.request_counts.completed, done.error_file_id) == (40, None)
        said = client.files.content(done.output_file_id or "").text.splitlines()
        assert [json.loads(line)["custom_id"] for line in said] == [str(number) for number in range(40)]

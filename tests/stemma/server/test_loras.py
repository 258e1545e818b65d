"""Adapters as models of a server: requests choose one by its name, and each is what the engine says with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.errors import InvalidRequest
from stemma.server import ServerConfig, app
from tests.runtime.model.lora_making import with_adapters

NAMES = ("tiny", "one", "two")
PROMPT = "once upon a time"


@pytest.fixture(scope="module")
def adapted() -> Iterator[Engine]:
    with Engine.of(with_adapters("llama", ReferenceOps(torch.device("cpu"))), kv_tokens=8192) as engine:
        yield engine


@pytest.fixture
async def client(adapted: Engine, serve_with: Any) -> AsyncIterator[Any]:
    async with serve_with(adapted, ServerConfig(model_name="tiny")) as made:
        yield made


async def test_the_list_of_models(client: Any) -> None:
    listed = (await client.get("/v1/models"))["data"]
    names = [("tiny", None), ("stemma", None), ("one", "tiny"), ("two", "tiny")]
    assert [(each["id"], each["parent"]) for each in listed] == names
    assert (await client.get("/v1/models/two"))["parent"] == "tiny"
    refused = await client.get("/v1/models/three", 404)
    assert refused["error"]["code"] == "model_not_found"


async def test_each_says_its_own(client: Any, adapted: Engine) -> None:
    texts = set()
    for name in NAMES:
        body = {"model": name, "prompt": PROMPT, "max_tokens": 6, "temperature": 0}
        answer = await client.post("/v1/completions", **body)
        want = adapted.generate(PROMPT, max_tokens=6, lora=None if name == "tiny" else name)
        assert (answer["model"], answer["choices"][0]["text"]) == (name, want.text)
        texts.add(want.text)
        events = await client.stream("/v1/completions", **body)
        assert "".join(event["choices"][0]["text"] for event in events) == want.text
        native = {} if name == "tiny" else {"lora_path": name}
        sampling = {"max_new_tokens": 6, "temperature": 0}
        assert (await client.post("/generate", text=PROMPT, sampling_params=sampling, **native))["text"] == want.text
    assert len(texts) == len(NAMES)


async def test_chats_go_on_in_the_cache_of_their_adapter(client: Any) -> None:
    messages = [{"role": "user", "content": "tell me something about the harbour in winter"}]
    for name in NAMES:
        body = {"model": name, "messages": messages, "max_tokens": 4, "temperature": 0}
        first, again = [await client.post("/v1/chat/completions", **body) for _ in range(2)]
        assert first["model"] == name
        cached = [each["usage"]["prompt_tokens_details"]["cached_tokens"] for each in (first, again)]
        assert cached[0] == 0 < cached[1]
        response = await client.post("/v1/responses", model=name, input="hello", max_output_tokens=4)
        assert response["model"] == name
        explained = await client.post("/cache/explain", model=name, messages=messages, add_generation_prompt=True)
        assert explained["hit_len"] == explained["num_tokens"]


async def test_pins_and_embeddings(client: Any, adapted: Engine) -> None:
    for name in NAMES:
        pinned = await client.post("/cache/pin", model=name, prompt=f"a text for {name} to be kept")
        assert pinned["usage"]["prompt_tokens"] > 0
        found = await client.post("/cache/explain", model=name, prompt=f"a text for {name} to be kept")
        assert found["hit_len"] == found["num_tokens"]
        await client.http.delete(f"/cache/pins/{pinned['id']}")
        embedded = await client.post("/v1/embeddings", model=name, input=PROMPT)
        want = adapted.embed(PROMPT, lora=None if name == "tiny" else name).vector
        assert embedded["model"] == name
        assert embedded["data"][0]["embedding"] == pytest.approx(want.tolist(), abs=1e-5)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]}),
        ("/v1/embeddings", {"input": "x"}),
        ("/v1/rerank", {"query": "x", "documents": ["y"]}),
        ("/cache/warm", {"prompt": "x"}),
    ],
)
async def test_a_name_that_is_not_there(client: Any, path: str, body: Any) -> None:
    refused = (await client.post(path, 404, model="three", **body))["error"]
    assert (refused["code"], refused["param"]) == ("model_not_found", "model")
    assert "'one' and 'two'" in refused["message"]


async def test_a_salt_is_no_adapters(client: Any) -> None:
    refused = await client.post("/v1/completions", 400, model="tiny", prompt="x", cache_salt="a//lora:one@0")
    assert "//lora:" in refused["error"]["message"]


def test_an_adapter_that_is_called_as_the_model(adapted: Engine) -> None:
    with pytest.raises(InvalidRequest, match="cannot be called 'one'"):
        app(adapted, ServerConfig(model_name="One"))

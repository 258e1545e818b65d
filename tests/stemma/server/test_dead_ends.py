"""A form that this vocabulary cannot say to its end: a typed error with the place, never an answer that looks whole."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import GenerationDefaults
from stemma.runtime.model.load import assemble
from stemma.runtime.model.tiny import byte_tokenizer, tiny_config, tiny_tensors
from stemma.server import ServerConfig

CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
HI = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"z": {"type": "integer"}}, "required": ["z"], "additionalProperties": False}
FORMS: dict[str, dict[str, Any]] = {  # each is stuck where a z must come
    "regex": {"regex": "[ab]{3}z"},
    "forced text": {"regex": "abz"},
    "from the start": {"regex": "z[a-c]"},
    "EBNF": {"grammar": 'root ::= [ab]+ "c" "z"'},
    "Lark": {"grammar": 'start: A "z"\nA: /[ab]{2}/'},
    "choices": {"structured_outputs": {"choice": ["abz", "acz"]}},
    "a schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
}
MESSAGE = "no token of this model's vocabulary can follow in the grammar"


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """The tiny model without a token for z."""
    files, config = byte_tokenizer(), tiny_config("llama")
    model = files.spec["model"]
    vocabulary = {text: token for text, token in model["vocab"].items() if text != "z"}
    files = replace(files, spec=files.spec | {"model": model | {"vocab": vocabulary}})
    checkpoint = Checkpoint(config, tiny_tensors(config, 0), files, GenerationDefaults((256,)))
    with Engine.of(assemble(checkpoint, ReferenceOps(torch.device("cpu"))), kv_tokens=4096) as made:
        yield made
        assert made.stats().cache.leased == 0


@pytest.fixture
async def client(engine: Engine, serve_with: Any) -> AsyncIterator[Any]:
    async with serve_with(engine, ServerConfig(model_name="tiny")) as made:
        yield made


@pytest.mark.parametrize("num_choices", [1, 2])
@pytest.mark.parametrize("name", FORMS)
async def test_a_dead_end_is_an_error_with_its_place(client: Any, name: str, num_choices: int) -> None:
    body = {"max_tokens": 40, "n": num_choices, **FORMS[name]}
    for path, prompt in ((CHAT, {"messages": HI}), (COMPLETIONS, {"prompt": "x"})):
        if path == COMPLETIONS and "response_format" in body:
            continue
        told = (await client.post(path, status=400, **prompt, **body))["error"]
        assert MESSAGE in told["message"]
        assert told["type"] == "invalid_request_error"
        assert ("at the start" if name == "from the start" else "tokens of output") in told["message"]


@pytest.mark.parametrize("name", FORMS)
async def test_a_stream_into_a_dead_end_ends_with_the_error(client: Any, name: str) -> None:
    body = {"max_tokens": 40, **FORMS[name]}
    for path, prompt in ((CHAT, {"messages": HI}), (COMPLETIONS, {"prompt": "x"})):
        if path == COMPLETIONS and "response_format" in body:
            continue
        chunks = await client.stream(path, **prompt, **body)
        assert MESSAGE in chunks.pop()["error"]["message"]
        assert not any(choice["finish_reason"] for chunk in chunks for choice in chunk["choices"])


async def test_a_response_into_a_dead_end_has_failed(client: Any) -> None:
    body = {"input": "hi", "text": {"format": {"type": "json_schema", "name": "x", "schema": SCHEMA}}}
    assert MESSAGE in (await client.post(RESPONSES, status=400, **body))["error"]["message"]
    response = await client.http.post(RESPONSES, json={**body, "stream": True})
    events = [json.loads(line.removeprefix("data: ")) for line in response.text.splitlines() if line[:5] == "data:"]
    assert events[-1]["type"] == "response.failed"
    assert MESSAGE in events[-1]["response"]["error"]["message"]
    assert not any(event["type"].endswith((".completed", "_text.done")) for event in events)


async def test_a_tool_that_cannot_be_called_is_no_call(client: Any) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": SCHEMA}}
    body = {"messages": HI, "tools": [tool], "tool_choice": "required", "max_tokens": 200}
    assert MESSAGE in (await client.post(CHAT, status=400, **body))["error"]["message"]
    chunks = await client.stream(CHAT, **body)
    assert MESSAGE in chunks.pop()["error"]["message"]
    assert not any(choice["finish_reason"] for chunk in chunks for choice in chunk["choices"])

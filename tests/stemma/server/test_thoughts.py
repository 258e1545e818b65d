"""Calls behind thoughts, in every dialect: thoughts first, then the call that was asked for, and nothing besides."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.checkpoint import Checkpoint
from stemma.runtime.model.config import GenerationDefaults
from stemma.runtime.model.load import assemble
from stemma.runtime.model.tiny import tiny_config, tiny_tensors
from stemma.server import ServerConfig
from tests.runtime.tongues.making import files_of, tokenizer
from tests.runtime.tongues.templates import OPENED
from tests.stemma.server.streams import CHAT, MESSAGES, RESPONSES, both

HI = [{"role": "user", "content": "hi"}]
ON = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"], "additionalProperties": False}
REGEX = {"syntax": "regex", "definition": "[ab]{2}"}
TOOLS = [
    *({"type": "function", "function": {"name": name, "parameters": ON}} for name in ("find", "keep")),
    {"type": "custom", "custom": {"name": "run", "format": {"type": "grammar", "grammar": REGEX}}},
]
FLAT = [
    *({"type": "function", "name": name, "parameters": ON, "strict": True} for name in ("find", "keep")),
    {"type": "custom", "name": "run", "format": {"type": "grammar", **REGEX}},
]
OF_ANTHROPIC = [{"name": name, "input_schema": ON} for name in ("find", "keep")]
ALL = {"find", "keep", "run"}
FIND = {"type": "function", "function": {"name": "find"}}
CHOICES: list[tuple[Any, set[str]]] = [
    ("required", ALL),
    (FIND, {"find"}),
    ({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [FIND]}}, {"find"}),
    ({"type": "custom", "custom": {"name": "run"}}, {"run"}),
]
OF_RESPONSES: list[tuple[Any, set[str]]] = [
    ("required", ALL),
    ({"type": "function", "name": "keep"}, {"keep"}),
    ({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "keep"}]}, {"keep"}),
    ({"type": "custom", "name": "run"}, {"run"}),
]
OF_MESSAGES: list[tuple[Any, set[str]]] = [
    ({"type": "any"}, {"find", "keep"}),
    ({"type": "tool", "name": "keep"}, {"keep"}),
]
SAMPLED = {"seed": 1, "temperature": 1.0, "logit_bias": {str(tokenizer().special["</think>"]): 4.0}}


def says(name: str, text: str) -> None:
    """Raises AssertionError unless a call has what its tool is given."""
    if name == "run":
        assert set(text) <= set("ab")
        assert len(text) == 2
    else:
        assert set(json.loads(text)) == {"on"}


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """Of a model whose prompt opens its thoughts."""
    config = tiny_config("llama", tokenizer().vocab_size)
    checkpoint = Checkpoint(config, tiny_tensors(config, 0), files_of(OPENED), GenerationDefaults((256,)))
    with Engine.of(assemble(checkpoint, ReferenceOps(torch.device("cpu"))), kv_tokens=8192) as made:
        yield made
        assert made.stats().cache.leased == 0


@pytest.fixture
async def client(engine: Engine, serve_with: Any) -> AsyncIterator[Any]:
    async with serve_with(engine, ServerConfig(model_name="tiny")) as made:
        yield made


@pytest.mark.parametrize(("choice", "names"), CHOICES)
async def test_chats(client: Any, choice: Any, names: set[str]) -> None:
    asked = {"messages": HI, "tools": TOOLS, "tool_choice": choice, "max_tokens": 120, **SAMPLED}
    whole, streamed = await both(client, CHAT, {**asked, "return_token_ids": True})
    assert whole == streamed
    ((made,), *_) = whole
    assert made["thoughts"]
    assert (made["content"], made["finish"]) == ("", "tool_calls")
    ((name, text),) = made["calls"]
    assert name in names
    says(name, text)
    deltas = [chunk["choices"][0]["delta"] for chunk in await client.stream(CHAT, **asked)]
    thinking = [at for at, delta in enumerate(deltas) if "reasoning_content" in delta]
    calling = [at for at, delta in enumerate(deltas) if "tool_calls" in delta]
    assert max(thinking) < min(calling)


@pytest.mark.parametrize(("choice", "names"), OF_RESPONSES)
async def test_responses(client: Any, choice: Any, names: set[str]) -> None:
    asked = {"input": "hi", "tools": FLAT, "tool_choice": choice, "max_output_tokens": 120, **SAMPLED}
    whole, streamed = await both(client, RESPONSES, asked)
    assert whole == streamed
    ((thoughts, _, said, _), (kind, status, name, text)), *_ = whole
    assert (thoughts, bool(said)) == ("reasoning", True)
    assert (kind, status) == ("custom_tool_call" if name == "run" else "function_call", "completed")
    assert name in names
    says(name, text)


@pytest.mark.parametrize(("choice", "names"), OF_MESSAGES)
async def test_messages(client: Any, choice: Any, names: set[str]) -> None:
    asked = {"messages": HI, "tools": OF_ANTHROPIC, "tool_choice": choice, "max_tokens": 120, **SAMPLED}
    whole, streamed = await both(client, MESSAGES, asked)
    assert whole == streamed
    (thoughts, call), reason, *_ = whole
    assert (thoughts["type"], call["type"], reason) == ("thinking", "tool_use", "tool_use")
    assert thoughts["thinking"]
    assert thoughts["signature"]
    assert call["name"] in names
    assert set(call["input"]) == {"on"}


async def test_ollamas_chats(client: Any) -> None:
    options = {"seed": 1, "num_predict": 700, "temperature": 1.0}
    asked = {"model": "tiny", "messages": HI, "tools": TOOLS[:2], "tool_choice": FIND, "options": options}
    whole = await client.post("/api/chat", **asked, stream=False)
    assert whole["message"]["thinking"]
    response = await client.http.post("/api/chat", json=asked)
    parts = [json.loads(line) for line in response.text.splitlines()]
    assert "".join(part["message"].get("thinking", "") for part in parts) == whole["message"]["thinking"]
    calls = [call["function"] for part in parts for call in part["message"].get("tool_calls", ())]
    assert calls == [call["function"] for call in whole["message"].get("tool_calls", ())]
    assert len(calls) == 1
    assert whole["message"]["content"] == "".join(part["message"]["content"] for part in parts) == ""

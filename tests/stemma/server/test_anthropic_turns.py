"""A conversation that comes back to /v1/messages hits the cache to its last token: words, calls, thoughts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from stemma.runtime.engine import Engine
from tests.runtime.tongues.making import speaking
from tests.runtime.tongues.templates import HERMES, MISTRAL_LIST, OPENED
from tests.stemma.server.streams import MESSAGES, both

HI = [{"role": "user", "content": "hi"}]
SCHEMA = {"type": "object", "properties": {"b": {"type": "boolean"}, "a": {"enum": [1.0, 2.5]}}, "required": ["b", "a"]}
ASKED: dict[str, Any] = {
    "messages": HI, "tools": [{"name": "find", "input_schema": SCHEMA}], "tool_choice": {"type": "any"}, "seed": 3,
    "max_tokens": 200,
}  # fmt: skip


@pytest.fixture(scope="module", params=[HERMES, OPENED, MISTRAL_LIST], ids=["hermes", "opened", "ids"])
def engine(request: Any) -> Iterator[Engine]:
    with speaking(request.param) as made:
        yield made


def thinks(engine: Engine) -> bool:
    return engine.chat_template.source == OPENED


def num_ran(usage: dict[str, Any]) -> int:
    return usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["output_tokens"]


async def test_words_come_back(client: Any, engine: Engine) -> None:
    if thinks(engine):
        pytest.skip("this template leaves thoughts out of earlier turns")
    first = await client.post(MESSAGES, messages=HI, max_tokens=9, seed=2, ignore_eos=True)
    again = [*HI, {"role": "assistant", "content": first["content"]}, {"role": "user", "content": "and?"}]
    second = await client.post(MESSAGES, messages=again, max_tokens=1)
    assert second["usage"]["cache_read_input_tokens"] >= num_ran(first["usage"])


async def test_calls_come_back_whatever_the_client_makes_of_their_values(client: Any, engine: Engine) -> None:
    """JavaScript writes 1.0 as 1; some clients sort the names."""
    if thinks(engine):
        pytest.skip("this template leaves thoughts out of earlier turns")
    whole, streamed = await both(client, MESSAGES, ASKED)
    assert whole == streamed
    for write in (lambda value: json.dumps(value), lambda value: json.dumps(value, sort_keys=True).replace(".0", "")):
        first = await client.post(MESSAGES, **ASKED)
        assert first["stop_reason"] == "tool_use"
        blocks = json.loads(write(first["content"]))
        results = [{"type": "tool_result", "tool_use_id": block["id"], "content": "done"} for block in blocks]
        again = [*HI, {"role": "assistant", "content": blocks}, {"role": "user", "content": results}]
        free = {"tool_choice": {"type": "auto"}, "max_tokens": 2}
        second = await client.post(MESSAGES, **{**ASKED, **free, "messages": again})
        assert second["usage"]["cache_read_input_tokens"] >= num_ran(first["usage"]) - 1


async def test_thoughts_are_blocks_with_a_signature(client: Any, engine: Engine) -> None:
    asked = {"messages": HI, "max_tokens": 12, "seed": 1, "ignore_eos": True}
    whole, streamed = await both(client, MESSAGES, asked)
    assert whole == streamed
    (block,) = (await client.post(MESSAGES, **asked))["content"]
    if not thinks(engine):
        assert block["type"] == "text"
        return
    assert (block["type"], bool(block["thinking"]), bool(block["signature"])) == ("thinking", True, True)
    assert whole[-1][1]["thinking_tokens"] >= 10
    omitted = {**asked, "thinking": {"type": "adaptive", "display": "omitted"}}
    whole, streamed = await both(client, MESSAGES, omitted)
    assert whole == streamed
    (hidden,) = (await client.post(MESSAGES, **omitted))["content"]
    assert hidden["thinking"] == ""
    rest = [{"type": "text", "text": "A"}]
    counts = [
        (
            await client.post(
                f"{MESSAGES}/count_tokens", messages=[*HI, {"role": "assistant", "content": [*one, *rest]}]
            )
        )["input_tokens"]
        for one in ([block], [hidden], [])
    ]
    assert counts[0] == counts[1], "the signature has them"
    await client.post(MESSAGES, messages=[*HI, {"role": "assistant", "content": [hidden, *rest]}, *HI], max_tokens=1)


async def test_what_a_template_does_not_read_of_thinking_is_named(client: Any, engine: Engine) -> None:
    for thinking, config, named in (
        ({"type": "adaptive"}, {}, None),
        ({"type": "disabled"}, {}, "thinking" if engine.tongue.reasoning else None),
        ({"type": "enabled", "budget_tokens": 1024}, {}, "thinking.budget_tokens, thinking"),
        ({"type": "adaptive"}, {"effort": "max"}, "output_config.effort"),
    ):
        body = {"messages": HI, "max_tokens": 1, "thinking": thinking, "output_config": config}
        response = await client.http.post(MESSAGES, json=body)
        assert response.status_code == 200
        assert response.headers.get("stemma-unused-fields") == named

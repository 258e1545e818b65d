"""POST /v1/messages on the tiny model: what is asked for, what is answered, and how errors look."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stemma.runtime.engine import Engine
from stemma.server import ApiKey, ServerConfig
from tests.stemma.server.streams import CHAT, MESSAGES, both

HI = [{"role": "user", "content": "hi"}]
ASKED: dict[str, Any] = {"model": "tiny", "max_tokens": 6, "messages": HI, "seed": 1}
SCHEMA = {
    "type": "object",
    "properties": {"on": {"type": "boolean"}, "k": {"enum": [1, 2]}},
    "required": ["on", "k"],
    "additionalProperties": False,
}
TOOLS = [{"name": "find", "description": "d", "input_schema": SCHEMA}]
CALLED = {**ASKED, "max_tokens": 200, "tools": TOOLS, "tool_choice": {"type": "any"}}
COUNT = "/v1/messages/count_tokens"


async def num_prompt(client: Any, **body: Any) -> int:
    return (await client.post(COUNT, **body))["input_tokens"]


async def test_an_answer_has_anthropics_shape(client: Any) -> None:
    answer = await client.post(MESSAGES, **ASKED)
    assert answer["id"].startswith("msg_")
    assert (answer["type"], answer["role"], answer["model"]) == ("message", "assistant", "tiny")
    (block,) = answer["content"]
    assert set(block) == {"type", "text"}, "Vercel's SDK takes citations for a list, or for missing"
    assert block["type"] == "text"
    assert (answer["stop_reason"], answer["stop_sequence"]) == ("max_tokens", None)
    assert answer["usage"]["output_tokens"] == 6
    chat = await client.post(CHAT, messages=HI, max_tokens=6, seed=1)
    assert block["text"] == chat["choices"][0]["message"]["content"], "the same way to the engine"


async def test_a_stream_is_the_whole_answer_with_named_events(client: Any) -> None:
    whole, streamed = await both(client, MESSAGES, ASKED)
    assert whole == streamed
    response = await client.http.post(MESSAGES, json={**ASKED, "stream": True}, params={"beta": "true"})
    for block in response.text.removesuffix("\n\n").split("\n\n"):
        name, data = block.split("\n")
        assert name == f"event: {json.loads(data.removeprefix('data: '))['type']}"


@pytest.mark.parametrize("limit", [20, 60, 66, 70, 200])
async def test_calls_are_blocks_whole_or_cut_off(client: Any, limit: int) -> None:
    whole, streamed = await both(client, MESSAGES, {**CALLED, "max_tokens": limit})
    assert whole == streamed
    blocks, reason, *_ = whole
    for block in blocks:
        assert (block["type"], block["name"], block["has_id"]) == ("tool_use", "find", True)
        assert set(block["input"]) <= {"on", "k"}
    assert reason == ("tool_use" if limit == 200 else "max_tokens")


async def test_why_an_answer_ended(client: Any) -> None:
    asked = {**ASKED, "seed": 3, "max_tokens": 30}
    said = (await client.post(MESSAGES, **asked))["content"][0]["text"]
    stopped = await client.post(MESSAGES, **asked, stop_sequences=[said[2]])
    assert (stopped["stop_reason"], stopped["stop_sequence"]) == ("stop_sequence", said[2])
    form = {"format": {"type": "json_schema", "schema": {"const": 1}}}
    assert (await client.post(MESSAGES, **asked, output_config=form))["stop_reason"] == "end_turn"


async def test_a_limit_beyond_the_context_is_what_the_context_leaves(client: Any, engine: Engine) -> None:
    long = [{"role": "user", "content": "x" * (engine.context_length - 40)}]
    answer = await client.post(MESSAGES, max_tokens=32000, messages=long, ignore_eos=True)
    assert answer["stop_reason"] == "model_context_window_exceeded"
    usage = answer["usage"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] + usage["output_tokens"] == engine.context_length
    longer = [{"role": "user", "content": "x" * engine.context_length}]
    refused = await client.post(MESSAGES, max_tokens=1, messages=longer, status=400)
    assert refused["error"]["message"].startswith("prompt is too long: ")


async def test_no_tokens_at_all_fill_the_cache(client: Any) -> None:
    asked = {"messages": [{"role": "user", "content": "to be read later"}]}
    empty = await client.post(MESSAGES, max_tokens=0, **asked)
    assert (empty["content"], empty["stop_reason"], empty["usage"]["output_tokens"]) == ([], "max_tokens", 0)
    again = await client.post(MESSAGES, max_tokens=1, **asked)
    assert again["usage"]["cache_read_input_tokens"] >= empty["usage"]["input_tokens"] - 1


async def test_a_form_of_either_name_binds_the_answer(client: Any) -> None:
    form = {"type": "json_schema", "schema": SCHEMA}
    for named in ({"output_config": {"format": form}}, {"output_format": form}):
        answer = await client.post(MESSAGES, **{**ASKED, "max_tokens": 100}, **named)
        assert set(json.loads(answer["content"][0]["text"])) == {"on", "k"}
    both_names = {"output_config": {"format": form}, "output_format": form}
    assert "output_format" in (await client.post(MESSAGES, **ASKED, **both_names, status=400))["error"]["message"]


async def test_a_conversation_says_the_same_in_strings_and_in_blocks(client: Any) -> None:
    text = {"type": "text", "text": "hi"}
    plain = await num_prompt(client, system="be brief", messages=HI)
    parts = await num_prompt(
        client, system=[{"type": "text", "text": "be brief"}], messages=[{"role": "user", "content": [text]}]
    )
    assert plain == parts
    in_a_row = await num_prompt(client, messages=[*HI, {"role": "user", "content": [text]}])
    assert in_a_row == await num_prompt(client, messages=[{"role": "user", "content": "hi\nhi"}])
    accounting = {"type": "text", "text": "x-anthropic-billing-header: cc_version=1; cch=0a1;"}
    response = await client.http.post(
        COUNT, json={"system": [accounting, {"type": "text", "text": "be brief"}], "messages": HI}
    )
    assert response.json() == {"input_tokens": plain}
    assert response.headers["stemma-unused-fields"] == "system[].x-anthropic-billing-header"


async def test_results_and_documents_are_text_of_the_prompt(client: Any) -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "find", "input": {"on": True, "k": 1}, "caller": None}

    async def count(*blocks: dict[str, Any]) -> int:
        messages = [*HI, {"role": "assistant", "content": [{"type": "text", "text": "so"}, call]}]
        return await num_prompt(client, tools=TOOLS, messages=[*messages, {"role": "user", "content": list(blocks)}])

    async def length(content: Any, **fields: Any) -> int:
        return await count({"type": "tool_result", "tool_use_id": "toolu_1", "content": content, **fields})

    none, one = await length(None), await length("abc")
    assert one == none + 3 == await length([{"type": "text", "text": "abc"}])
    assert await length("abc", is_error=True) == one + len("Error: ")
    document = {"type": "document", "title": "T", "source": {"type": "text", "media_type": "text/plain", "data": "abc"}}
    found = {"type": "search_result", "title": "T", "source": "S", "content": [{"type": "text", "text": "abc"}]}
    reference = {"type": "tool_reference", "tool_name": "abc"}
    assert await length([document]) == none + len("T\nabc")
    assert await length([found]) == none + len("T\nS\nabc")
    assert await length([reference]) == one
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "abc"}
    two = await count(result, {**result, "tool_use_id": "toolu_2"}, {"type": "text", "text": "and now?"}, document)
    assert two > one + 3 + len("and now?\nT\nabc")


async def test_an_answer_goes_on_with_the_last_message(client: Any) -> None:
    begun = [*HI, {"role": "assistant", "content": "As I"}]
    assert await num_prompt(client, messages=begun) == await num_prompt(client, messages=HI) + len("As I")
    form = {"format": {"type": "json_schema", "schema": {"const": 1}}}
    answer = await client.post(MESSAGES, max_tokens=9, messages=begun, output_config=form)
    assert answer["content"][0]["text"] == "1"
    empty = [*HI, {"role": "assistant", "content": ""}]
    assert await num_prompt(client, messages=empty) == await num_prompt(client, messages=HI)


async def test_tools_that_the_caller_runs_are_told_by_their_types(client: Any) -> None:
    without = await num_prompt(client, messages=HI)
    for kind in ("bash_20250124", "text_editor_20250124", "text_editor_20250728", "memory_20250818"):
        tool = {"type": kind, "name": "tool", "cache_control": {"type": "ephemeral"}}
        assert await num_prompt(client, messages=HI, tools=[tool]) > without + 400
    asked = {"tools": [{"type": "bash_20250124", "name": "bash"}], "tool_choice": {"type": "tool", "name": "bash"}}
    answer = await client.post(MESSAGES, **{**ASKED, "max_tokens": 60}, **asked)
    assert (answer["content"][0]["type"], answer["content"][0]["name"]) == ("tool_use", "bash")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url"}}]}]}, "only text"),
        ({"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "url"}}]}]}, "fetched"),
        ({"messages": [{"role": "user", "content": [{"type": "server_tool_use"}]}]}, "runs at Anthropic"),
        ({"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "x"}]}]}, "only an assistant"),
        (
            {"messages": [*HI, {"role": "assistant", "content": [
                {"type": "tool_use", "id": "a", "name": "find", "input": {}}]}]},
            "no tool_result",
        ),
        (
            {"messages": [*HI, {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "", "signature": "stemma:!"}, {"type": "text", "text": "x"}]}]},
            "signature",
        ),
        ({"tools": [{"name": "find"}]}, "input_schema"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tool of your own"),
        ({"tools": [{"type": "computer_20251124", "name": "computer"}]}, "only text"),
        ({"tools": [{"type": "unheard_20250101", "name": "x"}]}, "tool of type unheard"),
        ({"tools": TOOLS, "tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"mcp_servers": [{"type": "url", "url": "x", "name": "x"}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"thread": {"type": "create"}}, "thread"),
        ({"temperature": -1}, "temperature"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"cache_control": {"type": "ephemeral", "ttl": "2h"}}, "cache_control.ttl"),
        (
            {"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}] * 5},
            "4 blocks with cache_control",
        ),
    ],
)  # fmt: skip
async def test_what_cannot_be_had_is_an_error_that_says_so(client: Any, body: dict[str, Any], said: str) -> None:
    response = await client.http.post(MESSAGES, json={**ASKED, **body})
    assert response.status_code == 400, response.text
    told = response.json()
    assert (told["type"], told["error"]["type"]) == ("error", "invalid_request_error")
    assert said in told["error"]["message"]
    assert told["request_id"] == response.headers["request-id"] == response.headers["x-request-id"]


async def test_other_errors_have_anthropics_kinds(engine: Engine, serve_with: Any) -> None:
    config = ServerConfig(model_name="tiny", api_keys=(ApiKey("me", "k"),), max_body_bytes=2000, max_queue=0)
    async with serve_with(engine, config) as client:

        async def error(status: int, path: str = MESSAGES, key: str = "k", **body: Any) -> str:
            headers = {"x-api-key": key, "anthropic-version": "2023-06-01"}
            method = "POST" if body else "GET"
            response = await client.http.request(method, path, json=body or None, headers=headers)
            assert response.status_code == status, response.text
            assert response.json()["type"] == "error"
            return response.json()["error"]["type"]

        assert await error(401, key="wrong", **ASKED) == "authentication_error"
        assert await error(404, **{**ASKED, "model": "claude-opus-5"}) == "not_found_error"
        assert await error(404, "/v1/models/claude-opus-5") == "not_found_error"
        assert await error(404, "/v1/messages/batches", **ASKED) == "not_found_error"
        assert await error(413, **ASKED, metadata={"user_id": "x" * 2000}) == "request_too_large"


async def test_a_thread_is_refused_so_that_clients_send_the_whole_conversation(client: Any) -> None:
    told = await client.post(MESSAGES, **ASKED, thread={"type": "create"}, status=400)
    assert told["error"]["details"] == {"error_code": "thread_unsupported_request"}


async def test_an_error_on_the_way_is_the_last_event(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from stemma.fsm import FormError, Matcher

    def breaks(*_: Any) -> bool:
        raise FormError("this form breaks here")

    monkeypatch.setattr(Matcher, "advance", breaks)
    response = await client.http.post(MESSAGES, json={**CALLED, "stream": True})
    *_, last, rest = response.text.split("\n\n")
    name, data = last.split("\n")
    assert (name, rest) == ("event: error", "")
    told = json.loads(data.removeprefix("data: "))
    assert (told["type"], told["error"]["type"]) == ("error", "invalid_request_error")
    assert "breaks here" in told["error"]["message"]


async def test_an_agents_request_is_answered(client: Any) -> None:
    """As Claude Code and its kind send it."""
    ephemeral = {"type": "ephemeral"}
    body = {
        "model": "tiny",
        "max_tokens": 8,
        "stream": True,
        "metadata": {"user_id": "user_0123_account__session_4567"},
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cch=1;"},
            {"type": "text", "text": "You are an agent.", "cache_control": {**ephemeral, "ttl": "1h"}},
            {"type": "text", "text": "Be terse.", "cache_control": ephemeral},
        ],
        "tools": [{"name": f"tool_{at}", "description": "d", "input_schema": SCHEMA} for at in range(3)],
        "thinking": {"type": "enabled", "budget_tokens": 31999},
        "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        "temperature": 1,
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "<system-reminder>x</system-reminder>"},
                {"type": "text", "text": "list files", "cache_control": ephemeral},
            ]},
        ],
    }  # fmt: skip
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "claude-code-20250219,interleaved-thinking-2025"}
    response = await client.http.post(f"{MESSAGES}?beta=true", json=body, headers=headers)
    assert response.status_code == 200, response.text
    assert "event: message_stop" in response.text
    named = response.headers["stemma-unused-fields"].split(", ")
    assert {"metadata", "context_management", "thinking.budget_tokens", "thinking"} <= set(named)


async def test_an_operator_says_what_else_the_model_is_called(engine: Engine, serve_with: Any) -> None:
    async with serve_with(engine, ServerConfig(model_name="tiny", also_called=("claude-*",))) as client:
        assert (await client.post(MESSAGES, **{**ASKED, "model": "claude-opus-5"}))["model"] == "tiny"
        await client.post(CHAT, messages=HI, max_tokens=1, model="claude-opus-5")
        await client.post(MESSAGES, **{**ASKED, "model": "other"}, status=404)


async def test_models_have_anthropics_shape_for_its_clients(client: Any) -> None:
    headers = {"anthropic-version": "2023-06-01"}
    page = (await client.http.get("/v1/models", headers=headers)).json()
    assert [model["id"] for model in page["data"]] == ["tiny", "stemma"]
    assert (page["has_more"], page["first_id"], page["last_id"]) == (False, "tiny", "stemma")
    first = (await client.http.get("/v1/models?limit=1", headers=headers)).json()
    assert (len(first["data"]), first["has_more"], first["last_id"]) == (1, True, "tiny")
    rest = (await client.http.get("/v1/models?limit=1&after_id=tiny", headers=headers)).json()
    assert (rest["data"][0]["id"], rest["has_more"]) == ("stemma", False)
    before = (await client.http.get("/v1/models?before_id=stemma", headers=headers)).json()
    assert (before["last_id"], before["has_more"]) == ("tiny", False)
    for query in ("limit=0", "limit=x", "after_id=y"):
        assert (await client.http.get(f"/v1/models?{query}", headers=headers)).status_code == 400
    assert (await client.http.get("/v1/models/tiny", headers=headers)).json() == page["data"][0]
    assert (await client.get("/v1/models"))["object"] == "list", "others have OpenAI's"

"""What a request would find in a cache is read from it as the server itself writes the prompt, by whatever API."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers

from stemma.radix.events import BlocksStored, Event
from stemma.runtime.core.config import EngineConfig
from stemma.runtime.engine import Engine
from stemma.runtime.model.text.chat import ChatTemplate
from stemma.runtime.model.text.tokenizer import Tokenizer
from stemma.scale.ray.reading import Call, PromptReader, make_reader
from stemma.scale.spec import Spec
from stemma.server import ApiKey, ServerConfig, SharedPrompt, app

SYSTEM = "You are brief, and you answer in one word whenever that is possible, as everybody knows by now. " * 4
TEXT = "The quick brown fox jumps over the lazy dog, again and again, until it is tired of it and goes home. " * 4
MESSAGES = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Hello?"}]
SERVER = ServerConfig(
    api_keys=(ApiKey("team", "secret"),), shared_prompts=(SharedPrompt(prompt="Shared by all, " * 30),)
)  # fmt: skip
KEY = {"authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def reader() -> PromptReader:
    return make_reader(Spec(engine=EngineConfig(kv_tokens=8192), server=SERVER))


def call(path: str, body: Any, **headers: str) -> Call:
    return Call("POST", path, Headers({**KEY, **headers}), json.dumps(body).encode())


BODIES = [
    ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 1}),
    ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 1, "cache_salt": "x"}),
    ("/v1/completions", {"prompt": TEXT, "max_tokens": 1}),
    ("/v1/completions", {"prompt": ["Shared by all, " * 30 + TEXT], "max_tokens": 1}),
    ("/v1/completions", {"prompt": list(range(1000, 1200)), "max_tokens": 1}),
    ("/v1/responses", {"input": TEXT, "instructions": SYSTEM, "max_output_tokens": 1, "store": False}),
    ("/v1/messages", {"model": "stemma", "system": SYSTEM, "messages": MESSAGES[1:], "max_tokens": 1}),
    ("/api/chat", {"model": "stemma", "messages": MESSAGES, "stream": False, "options": {"num_predict": 1}}),
    ("/api/generate", {"model": "stemma", "prompt": TEXT, "stream": False, "options": {"num_predict": 1}}),
    ("/generate", {"text": TEXT, "sampling_params": {"max_new_tokens": 1}}),
    ("/cache/warm", {"messages": MESSAGES}),
]


async def test_its_hashes_are_those_that_a_cache_tells_of(reader):
    with Engine(kv_tokens=8192) as engine:
        application = app(engine, SERVER)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://one") as client:
            for path, body in BODIES:
                heard: list[Event] = []
                leave = engine.with_cache(lambda cache, heard=heard: cache.subscribe(heard.append))
                answer = await client.post(path, json=body, headers=KEY)
                engine.with_cache(lambda cache, leave=leave: leave())
                assert answer.status_code == 200, answer.text
                told = {block for event in heard if isinstance(event, BlocksStored) for block in event.hashes}
                asked = reader.read(call(path, body))
                assert asked.hashes, path
                assert set(asked.hashes) <= told, path
        application.state.service.close()


TOOL = {
    "name": "look",
    "description": "Looks.",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}},
}
CALLS = [
    *MESSAGES,
    {
        "role": "assistant",
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c", "content": "A fox."},
]
READ_ONCE = [
    *(each for each in BODIES[:4]), *BODIES[5:8], BODIES[10],
    ("/v1/chat/completions", {"messages": CALLS, "tools": [{"type": "function", "function": TOOL}], "max_tokens": 4}),
    ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 4, "chat_template_kwargs": {"of_nobody": 1}}),
    ("/v1/chat/completions", {
        "messages": [*MESSAGES, {"role": "assistant", "content": "The"}], "max_tokens": 4,
        "continue_final_message": True, "add_generation_prompt": False,
    }),
    ("/v1/responses", {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": TEXT}]}], "max_output_tokens": 4,
        "tools": [{"type": "function", **TOOL}], "store": False,
    }),
]  # fmt: skip

NEW_IN_EACH = {
    "id", "created", "created_at", "completed_at", "stemma", "total_duration", "load_duration", "prompt_eval_duration",
    "eval_duration", "prompt_tokens_details", "input_tokens_details", "input_tokens", "cache_read_input_tokens",
    "cache_creation_input_tokens",
}  # fmt: skip


def without_names(value: Any) -> Any:
    """An answer but for what is new in each: ids, times, and what was cached by then."""
    if isinstance(value, dict):
        return {name: without_names(each) for name, each in value.items() if name not in NEW_IN_EACH}
    return [without_names(each) for each in value] if isinstance(value, list) else value


async def test_what_was_read_here_need_not_be_read_again_and_says_the_same(reader, monkeypatch):
    with Engine(kv_tokens=8192) as engine:
        application = app(engine, SERVER)
        readings = application.state.service.prompter.readings
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://one") as client:

            async def answer(path: str, body: Any) -> Any:
                more: dict[str, Any] = {} if path == "/cache/warm" else {"temperature": 0}
                if "options" in body:
                    more = {"options": {**body["options"], **more}}
                said = await client.post(path, json={**body, **more}, headers=KEY)
                assert said.status_code == 200, said.text
                return without_names(said.json())

            for path, body in READ_ONCE:
                expected = await answer(path, body)
                reading = reader.read(call(path, body)).reading
                with monkeypatch.context() as patched, readings.offered(reading):
                    for kind, name in ((ChatTemplate, "encode_chat"), (ChatTemplate, "encode_open"),
                                       (Tokenizer, "encode_prompt")):  # fmt: skip
                        patched.setattr(kind, name, None)
                    assert await answer(path, body) == expected, path
        assert readings._offered == {}
        application.state.service.close()


def test_nothing_is_passed_on_of_what_cannot_be_read(reader):
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}
    for path, body in [*UNREAD, ("/v1/chat/completions", {"messages": [image]})]:
        assert reader.read(call(path, body)).reading is None


UNREAD: list[tuple[str, Any]] = [
    ("/v1/chat/completions", {"messages": 3}),
    ("/v1/chat/completions", {"messages": []}),
    ("/v1/nowhere", {}),
    ("/v1/completions", {}),
    ("/v1/completions", {"prompt": []}),
    ("/v1/completions", {"prompt": [[]]}),
    ("/generate", {"input_ids": [1, "a"]}),
    ("/generate", {"input_ids": [[[[1]]]]}),
    ("/generate", {"text": []}),
    ("/api/chat", {"model": "stemma"}),
    ("/cache/warm", {}),
]


def test_what_cannot_be_read_is_for_any_replica(reader):
    for path, body in UNREAD:
        asked = reader.read(call(path, body))
        assert (list(asked.hashes), asked.home, asked.session) == ([], None, None)
    assert list(reader.read(Call("POST", "/v1/completions", Headers({}), b'{"prompt": "x"}')).hashes) == []


@pytest.mark.parametrize(
    ("path", "body", "headers", "session"),
    [
        ("/v1/completions", {"prompt": TEXT}, {"x-session-id": "s"}, "team/s"),
        ("/v1/completions", {"prompt": TEXT, "prompt_cache_key": "k"}, {}, "team/k"),
        ("/v1/completions", {"prompt": TEXT, "prompt_cache_key": 3}, {}, None),
        ("/v1/completions", {"prompt": TEXT}, {}, None),
    ],
)
def test_who_belongs_together_says_so(reader, path, body, headers, session):
    assert reader.read(call(path, body, **headers)).session == session


@pytest.mark.parametrize(
    ("method", "path", "body", "home"),
    [
        ("POST", "/v1/responses", {"input": "x"}, None),
        ("POST", "/v1/responses", {"input": "x", "store": False}, None),
        ("POST", "/v1/responses", {"input": "x", "store": False, "previous_response_id": "resp_1"}, "team"),
        ("POST", "/v1/chat/completions", {"messages": MESSAGES, "store": True}, "team"),
        ("POST", "/v1/chat/completions", {"messages": MESSAGES}, None),
        ("GET", "/v1/responses/resp_1", {}, "team"),
        ("POST", "/v1/files", {}, "team"),
        ("GET", "/v1/models", {}, None),
    ],
)
def test_what_is_kept_for_a_caller_has_a_home(reader, method, path, body, home):
    made = call(path, body)
    assert reader.read(Call(method, path, made.headers, made.body)).home == home


def test_a_request_may_name_its_replica(reader):
    assert reader.read(call("/v1/completions", {"prompt": TEXT}, **{"x-stemma-replica": "1"})).to == "1"

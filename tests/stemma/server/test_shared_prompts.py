"""Prompts that the operator names for all keys: found by everybody, and nothing of what others do shows in them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from stemma.fsm import CompiledGrammar, Vocabulary, compile
from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine, grammars
from stemma.runtime.engine.grammars import GrammarSpec
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.model.tiny import tiny
from stemma.server import ApiKey, ServerConfig, SharedPrompt, read_shared_prompts

KEYS = (ApiKey("alice", "ka"), ApiKey("bob", "kb"), ApiKey("root", "kr", is_admin=True))
RULES = "You answer in one word, and always politely."
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
SHARED = (
    SharedPrompt("rules", system=RULES),
    SharedPrompt("rules with tools", system=RULES, tools=(TOOL,)),
    SharedPrompt("a text", prompt="The following is a story about a lighthouse.\n"),
    SharedPrompt("ids", tokens=(7, 8, 9, 10)),
)
CONFIG = ServerConfig(api_keys=KEYS, shared_prompts=SHARED, model_name="tiny")


def new_engine() -> Engine:
    """How many tokens are guessed hangs on how long steps take, so what a request costs is counted without that."""
    return Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=16384, drafts_from=("none",))


def chat(text: str, system: str = RULES) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": text}]
    return {"messages": messages, "max_tokens": 3, "ignore_eos": True, "temperature": 0}


def cached(answer: dict[str, Any]) -> int:
    return int(answer["usage"]["prompt_tokens_details"]["cached_tokens"])


async def test_every_key_finds_what_all_share_and_nothing_else(serve_with: Any) -> None:
    with new_engine() as engine:
        async with serve_with(engine, CONFIG) as client:
            first = [cached(await client.post("/v1/chat/completions", key=key, **chat("Hi"))) for key in ("ka", "kb")]
            assert first[0] == first[1] > len(RULES)
            tools = [
                cached(await client.post("/v1/chat/completions", key=key, **chat("Hi"), tools=[TOOL]))
                for key in ("ka", "kb")
            ]
            assert tools[0] == tools[1] > first[0]
            text = SHARED[2].prompt
            bodies = [{"prompt": f"{text}It was"}, {"prompt": f"{text}\nIt"}, {"prompt": [7, 8, 9, 10, 11]}]
            found = [cached(await client.post("/v1/completions", key="ka", max_tokens=1, **body)) for body in bodies]
            assert found == [len(text), len(text), 4]
            other = chat("Hi", "You answer in one word, and always rudely.")
            assert [cached(await client.post("/v1/chat/completions", key=key, **other)) for key in ("ka", "kb")] == [
                0,
                0,
            ]
        assert engine.stats().cache.leased == 0  # the server has let go of it


LATER = [
    ("/v1/chat/completions", chat("What is your name?")),
    ("/v1/chat/completions", chat("What is your name?") | {"cache_salt": "s", "tools": [TOOL]}),
    ("/v1/completions", {"prompt": f"{SHARED[2].prompt}It was a", "max_tokens": 3, "temperature": 0}),
    ("/v1/completions", {"prompt": "Something of my own", "max_tokens": 3, "temperature": 0}),
    ("/v1/chat/completions", chat("What is your name?")),
]
BEFORE = {
    "nothing": [],
    "the same": LATER,
    "something else": [("/v1/chat/completions", chat("Where do you live?")), ("/v1/completions", {"prompt": "Other"})],
    "a beginning": [
        ("/v1/completions", {"prompt": SHARED[2].prompt, "max_tokens": 1}),
        ("/cache/warm", {"prompt": "So"}),
    ],
}


async def world(serve_with: Any, before: list[Any]) -> dict[str, Any]:
    """All that bob is told, after these requests of alice's."""
    told: list[Any] = []
    with new_engine() as engine:
        async with serve_with(engine, CONFIG) as client:
            for path, body in before:
                await client.post(path, key="ka", **body)
            for path, body in LATER:
                prefix = {name: body[name] for name in ("prompt", "messages", "tools", "cache_salt") if name in body}
                told.append(await client.post("/cache/explain", key="kb", **prefix))
                steps = await num_computed(engine)
                answer = await client.post(path, key="kb", **body)
                told.append({name: answer[name] for name in ("choices", "usage")})
                told.append(await num_computed(engine) - steps)
            told.append(without_times(await client.post("/cache/pin", key="kb", messages=chat("Hi")["messages"])))
            told.append((await client.get("/cache/tree?tokens=true", key="kb"))["nodes"])
            told.append(await client.get("/cache/tree", key="kb"))
            told.append(await client.post("/flush_cache", key="kb"))
            told.append(await client.post("/cache/explain", key="kb", messages=chat("Hi")["messages"]))
    return without_times(told)


async def test_a_form_is_compiled_for_each_key(serve_with: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []

    def counted(spec: GrammarSpec, vocabulary: Vocabulary) -> CompiledGrammar:
        compiled.append(spec)
        return compile(spec, vocabulary)

    monkeypatch.setattr(grammars, "compile", counted)
    body = {**chat("Hi"), "regex": "[ab]{2}"}
    with new_engine() as engine:
        async with serve_with(engine, CONFIG) as client:
            for key, num_compiled in (("ka", 1), ("ka", 1), ("kb", 2), ("kb", 2), ("ka", 2)):
                await client.post("/v1/chat/completions", key=key, **body)
                assert len(compiled) == num_compiled


async def num_computed(engine: Engine) -> int:
    """Tokens computed so far, once nothing is under way: what a request costs, and so the time that it takes."""
    while (stats := engine.stats()).num_running + stats.num_waiting:
        await asyncio.sleep(0.01)
    return stats.metrics.num_step_tokens


def without_times(value: Any) -> Any:
    """What does not change from one run to the next."""
    if isinstance(value, dict):
        changing = ("time", "used", "idle", "expires_in", "id") if "tokens" not in value else ("time", "used", "idle")
        return {name: without_times(each) for name, each in value.items() if name not in changing}
    return [without_times(each) for each in value] if isinstance(value, list) else value


async def test_a_tenant_is_told_the_same_whatever_another_has_asked(serve_with: Any) -> None:
    alone = await world(serve_with, BEFORE["nothing"])
    assert len(alone) == 3 * len(LATER) + 5
    for name, before in BEFORE.items():
        assert await world(serve_with, before) == alone, name


async def test_the_tree_shows_a_tenant_its_own_part_behind_what_all_share(serve_with: Any) -> None:
    with new_engine() as engine:
        async with serve_with(engine, CONFIG) as client:
            await client.post("/v1/chat/completions", key="ka", **chat("My secret is a long one"))
            assert (await client.get("/cache/tree", key="kb"))["nodes"] == []
            assert (await client.get("/cache/tree?tokens=true", key="kb"))["nodes"] == []
            nodes = (await client.get("/cache/tree", key="ka"))["nodes"]
            by_id = {node["id"]: node for node in nodes}
            (own,) = [node for node in nodes if node["namespace"] == "alice"]
            assert "secret" in own["text"]
            assert by_id[own["parent"]]["namespace"] == "//shared"
            assert {node["namespace"] for node in nodes} == {"//shared", "alice"}
            await client.post("/flush_cache", key="ka")
            await asyncio.sleep(0.5)  # a picture is shared for so long
            assert (await client.get("/cache/tree", key="ka"))["nodes"] == []
            everything = (await client.get("/cache/tree", key="kr"))["nodes"]
            assert {node["namespace"] for node in everything} == {"//shared"}


async def test_what_all_share_is_there_again_after_an_admin_flushed_everything(serve_with: Any) -> None:
    with new_engine() as engine:
        async with serve_with(engine, CONFIG) as client:
            before = cached(await client.post("/v1/chat/completions", key="ka", **chat("Hi")))
            await client.post("/flush_cache", key="kr")
            assert cached(await client.post("/v1/chat/completions", key="kb", **chat("Hi"))) == before
            engine.with_cache(lambda cache: cache.check())


async def test_the_same_answer_as_without_anything_shared(serve_with: Any) -> None:
    answers = []
    for config in (CONFIG, ServerConfig(api_keys=KEYS, model_name="tiny")):
        with new_engine() as engine:
            async with serve_with(engine, config) as client:
                answers.append([await client.post(path, key="kb", **body) for path, body in LATER])
    for shared, plain in zip(*answers, strict=True):
        assert shared["choices"] == plain["choices"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({}, "one of them"),
    ({"system": "x", "prompt": "y"}, "one of them"),
    ({"messages": [{"role": "nobody", "content": "x"}]}, "'wrong'.*role"),
    ({"tools": [{"type": "function"}]}, "function"),
    ({"tokens": [99999]}, "99999"),
    ({"prompt": "x" * 900}, "kept"),
]


@pytest.mark.parametrize(("values", "message"), WRONG)
def test_what_cannot_be_shared_is_refused_at_the_start(values: dict[str, Any], message: str) -> None:
    from stemma.server import app

    with Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=1024) as engine:
        with pytest.raises(InvalidRequest, match=message):
            app(engine, ServerConfig(shared_prompts=(SharedPrompt("wrong", **values),)))
        assert engine.stats().cache.leased == 0


def test_they_are_read_from_json_and_toml(tmp_path: Path) -> None:
    path, other = tmp_path / "shared.json", tmp_path / "shared.toml"
    path.write_text(json.dumps([{"name": "rules", "system": RULES}, {"name": "ids", "tokens": [7, 8, 9, 10]}]))
    other.write_text(f'[[shared_prompts]]\nname = "rules"\nsystem = "{RULES}"\n[[shared_prompts]]\nname = "ids"\n'
                     "tokens = [7, 8, 9, 10]\n")  # fmt: skip
    assert read_shared_prompts(path) == read_shared_prompts(other) == (SHARED[0], SHARED[3])
    for text, message in (("[", "cannot be read"), ("{}", "list"), ('[{"sistem": "x"}]', "'system'"), ("[1]", "list")):
        path.write_text(text)
        with pytest.raises(InvalidRequest, match=message):
            read_shared_prompts(path)

"""Ollama's API: lines that put together are the whole answer, calls as objects, names with tags, errors of one text."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemma.fsm import FormError, Matcher
from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny
from stemma.server import ApiKey, ServerConfig
from tests.runtime.model.lora_making import with_adapters
from tests.runtime.tongues.making import speaking
from tests.runtime.tongues.templates import OPENED

HI = [{"role": "user", "content": "hi"}]
FIND = {
    "type": "object",
    "properties": {"q": {"enum": ["añb", "c<}d"]}, "k": {"type": "integer", "minimum": 0, "maximum": 9}},
    "required": ["q", "k"],
}
TOOLS = [{"type": "function", "function": {"name": "find", "description": "Find it", "parameters": FIND}}]
COUNTS = ("prompt_eval_count", "eval_count")
DURATIONS = ("total_duration", "load_duration", "prompt_eval_duration", "eval_duration")


async def ask(client: Any, path: str, status: int = 200, **body: Any) -> Any:
    """A whole answer."""
    return await client.post(f"/api/{path}", status, model="tiny", stream=False, **body)


async def lines(client: Any, path: str, **body: Any) -> list[dict[str, Any]]:
    """A stream, which is what a request gets that says nothing of it."""
    response = await client.http.post(f"/api/{path}", json={"model": "tiny", **body})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.text.endswith("\n")
    return [json.loads(line) for line in response.text.splitlines()]


def put_together(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """What the lines of a stream say, as one answer."""
    *before, last = parts
    assert [part["done"] for part in parts] == [False] * len(before) + [True]
    assert all(set(part) <= {"model", "created_at", "message", "response", "thinking", "done", "logprobs"}
               for part in before)  # fmt: skip
    made = dict(last)
    place = [part.get("message", part) for part in parts]
    whole: dict[str, Any] = {"thinking": "".join(each.get("thinking", "") for each in place)}
    for name in ("content", "response"):
        if name in place[0]:
            whole[name] = "".join(each[name] for each in place)
    whole["tool_calls"] = [call for each in place for call in each.get("tool_calls", ())]
    whole = {name: value for name, value in whole.items() if value or name in ("content", "response")}
    scores = [entry for part in parts for entry in part.get("logprobs", ())]
    made |= {"message": {"role": "assistant", **whole}} if "message" in last else whole
    return made | ({"logprobs": scores} if scores else {})


def comparable(answer: dict[str, Any]) -> dict[str, Any]:
    """Without times, ids, and what depends on the cache."""
    assert datetime.fromisoformat(answer["created_at"]).tzinfo is not None
    assert all(isinstance(answer[name], int) and answer[name] > 0 for name in DURATIONS)
    assert answer["total_duration"] == sum(answer[name] for name in DURATIONS[1:])
    place = answer.get("message", answer)
    for index, call in enumerate(place.get("tool_calls", ())):
        assert call["function"]["index"] == index
        assert call.pop("id")
    for entry in answer.get("logprobs", ()):
        for each in (entry, *entry.get("top_logprobs", ())):
            each["logprob"] = round(each["logprob"], 2)
    left_out = ("created_at", "stemma", *DURATIONS)
    return {name: value for name, value in answer.items() if name not in left_out}


async def both(client: Any, path: str, **body: Any) -> dict[str, Any]:
    """The answer, which is the same whole and streamed."""
    whole = comparable(await ask(client, path, **body))
    assert comparable(put_together(await lines(client, path, **body))) == whole
    return whole


@pytest.fixture(scope="module")
def exact_engine(tiny_loaded: Any) -> Iterator[Engine]:
    """In float64, so that what is cached changes no token."""
    with Engine.of(tiny_loaded, kv_tokens=16384) as made:
        yield made
        assert made.stats().cache.leased == 0


@pytest.fixture
async def exact(exact_engine: Engine, serve_with: Any) -> AsyncIterator[Any]:
    async with serve_with(exact_engine, ServerConfig(model_name="tiny")) as made:
        yield made


FORMATS = st.sampled_from([None, "", "json", {"const": {"t": "\u2028\x85 naïve 日本"}}, {"enum": ["yes", "yés"]}, FIND])
OPTIONS = st.fixed_dictionaries({
    "num_predict": st.integers(0, 30), "seed": st.integers(-1, 9), "temperature": st.just(0),
    "stop": st.lists(st.sampled_from(["o", "}", '"q', "ñb", "yé", "\n"]), max_size=2),
})  # fmt: skip


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(options=OPTIONS, form=FORMATS, scores=st.sampled_from([None, 0, 2]), data=st.data())
async def test_any_stream_is_the_whole_answer(exact: Any, options: Any, form: Any, scores: Any, data: Any) -> None:
    path = data.draw(st.sampled_from(["chat", "generate", "raw"]))
    body: dict[str, Any] = {"options": options, "format": form}
    if scores is not None:
        body |= {"logprobs": True, "top_logprobs": scores}
    if path == "chat":
        tools = data.draw(st.sampled_from([None, [], TOOLS]))
        whole = await both(exact, "chat", messages=HI, tools=tools, **body)
        for call in whole["message"].get("tool_calls", ()):
            assert set(call["function"]["arguments"]) == {"q", "k"}
    else:
        whole = await both(exact, "generate", prompt="hi é", raw=path == "raw", **body)
        assert ("context" in whole) == (path != "raw")
    assert whole["done_reason"] in ("stop", "length")
    assert len(whole.get("logprobs", ())) == (0 if scores is None else whole["eval_count"])


async def test_forms_are_kept(client: Any) -> None:
    options = {"num_predict": 200, "seed": 3}
    for path, asked in (("chat", {"messages": HI}), ("generate", {"prompt": "hi"})):
        answer = await ask(client, path, format=FIND, options=options, **asked)
        text = answer["message"]["content"] if path == "chat" else answer["response"]
        assert set(json.loads(text)) == {"q", "k"}
        assert answer["done_reason"] == "stop"
    assert "format" in (await ask(client, "chat", 400, messages=HI, format="xml"))["error"]


async def test_options_sample(exact: Any) -> None:
    async def said(**options: Any) -> str:
        answer = await ask(exact, "generate", prompt="hi", raw=True, options={"num_predict": 12, "seed": 1, **options})
        return str(answer["response"])

    assert await said(temperature=0) == await said(top_k=1) == await said(temperature=0, seed=5)
    assert len({await said(seed=seed) for seed in range(4)}) > 1
    assert await said(temperature=0, repeat_penalty=1.9) != await said(temperature=0)
    assert len({await said(seed=-1, temperature=2.0) for _ in range(6)}) > 1


async def test_ollamas_defaults_count_where_the_model_recommends_nothing(client: Any, engine: Engine) -> None:
    seen: list[dict[str, Any]] = []
    submit = engine.submit_samples

    def listening(prompt: Any, n: int, **options: Any) -> Any:
        seen.append(options)
        return submit(prompt, n, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "submit_samples", listening)
        await ask(client, "chat", messages=HI, options={"num_predict": 1})
        patch.setattr(engine, "recommended", {"temperature": 0.3, "top_k": 7})
        await ask(client, "chat", messages=HI, options={"num_predict": -1, "top_p": 0.5, "stop": "x"})
    first, second = seen
    assert (first["temperature"], first["top_k"], first["top_p"], first["max_tokens"]) == (0.8, 40, 0.9, 1)
    assert (second["temperature"], second["top_k"], second["top_p"], second["max_tokens"]) == (0.3, 7, 0.5, 1024)


async def test_what_vercels_provider_says_beside_the_options(client: Any) -> None:
    for choice in ({"type": "function", "name": "find"}, {"type": "function", "function": {"name": "find"}}):
        body = {"tools": TOOLS, "tool_choice": choice, "temperature": 0, "max_output_tokens": 300}
        answer = await ask(client, "chat", messages=HI, **body)
        (call,) = answer["message"]["tool_calls"]
        assert call["function"]["name"] == "find"
    answer = await ask(client, "chat", messages=HI, max_output_tokens=2)
    assert answer["eval_count"] <= 2
    both_said = await ask(client, "chat", messages=HI, max_output_tokens=9, options={"num_predict": 1})
    assert both_said["eval_count"] == 1
    assert "tool_choice" in (await ask(client, "chat", 400, messages=HI, tools=TOOLS, tool_choice={}))["error"]


async def test_what_has_no_effect_is_named(client: Any) -> None:
    options = {"num_ctx": 4096, "num_gpu": 1, "num_predict": 1, "repeat_last_n": 64, "unheard_of": 1}
    body = {"model": "tiny", "messages": HI, "keep_alive": "5m", "truncate": True, "options": options, "stream": False}
    response = await client.http.post("/api/chat", json=body)
    assert response.status_code == 200
    named = "options.num_ctx, options.num_gpu, options.unheard_of, truncate, keep_alive, options.repeat_last_n"
    assert set(response.headers["stemma-unused-fields"].split(", ")) == set(named.split(", "))


@pytest.mark.parametrize(
    ("path", "body", "word"),
    [
        ("chat", {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, "images"),
        ("chat", {"messages": [{"role": "nobody", "content": "x"}]}, "role"),
        ("chat", {"messages": "x"}, "messages"),
        ("chat", {"messages": HI, "think": True}, "does not support thinking"),
        ("chat", {"messages": HI, "think": "a lot"}, "think"),
        ("chat", {"messages": HI, "options": {"temperature": -1}}, "temperature"),
        ("chat", {"messages": HI, "options": {"mirostat": 2}}, "mirostat"),
        ("chat", {"messages": HI, "top_logprobs": 21}, "top_logprobs"),
        ("chat", {"messages": [{"role": "user", "content": "x" * 3000}]}, "characters"),
        ("generate", {"prompt": "x", "suffix": "y"}, "suffix"),
        ("generate", {"prompt": "x", "template": "{{ .Prompt }}"}, "template"),
        ("generate", {"prompt": "x", "images": ["aGk="]}, "images"),
        ("generate", {"prompt": "x", "raw": True, "system": "y"}, "raw mode"),
        ("generate", {"prompt": "x", "context": [100000]}, "token"),
        ("embed", {"input": ["x", ""]}, "input"),
        ("embed", {"input": [1, 2]}, "input"),
        ("embed", {"input": "x", "dimensions": 100000}, "dimensions"),
        ("embed", {"input": "x" * 2000, "truncate": False, "dimensions": 100000}, "dimensions"),
        ("embed", {"input": "x" * 2048, "truncate": False}, "too long|tokens"),
        ("create", {"from": "other"}, "makes no models"),
        ("push", {}, "pushes no models"),
    ],
)
async def test_what_cannot_be_done_is_said(client: Any, path: str, body: Any, word: str) -> None:
    error = await ask(client, path, 400, **body)
    assert list(error) == ["error"]
    assert any(each in error["error"] for each in word.split("|")), error


async def test_models_by_all_their_names(client: Any) -> None:
    for name in ("tiny", "tiny:latest", "TINY", "stemma", "stemma:latest"):
        answer = await client.post("/api/generate", model=name, prompt="x", stream=False, options={"num_predict": 1})
        assert answer["model"] == name
    for path in ("chat", "generate", "embed", "embeddings", "show", "pull"):
        error = await client.post(f"/api/{path}", 404, model="llama3.2")
        assert "model 'llama3.2' not found" in error["error"]
        assert "tiny" in error["error"]
        assert (await client.post(f"/api/{path}", 400))["error"] == "model is required"


async def test_nothing_asked_is_a_model_loaded(client: Any) -> None:
    for path, place in (("chat", "message"), ("generate", "response")):
        answer = await client.post(f"/api/{path}", model="tiny")
        assert (answer["done"], answer["done_reason"]) == (True, "load")
        assert answer[place] in ("", {"role": "assistant", "content": ""})
        for time in (0, -1, "5m"):
            assert (await client.post(f"/api/{path}", model="tiny", keep_alive=time))["done_reason"] == "load"


async def test_a_chat_that_comes_back_is_cached_to_its_last_token(client: Any) -> None:
    messages: list[dict[str, Any]] = [{"role": "system", "content": "ollama's turns are remembered"}]
    ran = 0
    for turn in range(3):
        messages.append({"role": "user", "content": f"question {turn}"})
        answer = await ask(client, "chat", messages=messages, options={"seed": turn, "num_predict": 9})
        assert answer["stemma"]["cached_tokens"] >= ran
        messages.append(answer["message"])
        ran = answer["prompt_eval_count"] + answer["eval_count"] - (answer["done_reason"] == "stop")


async def test_calls_come_back_with_their_results_and_without_ids(client: Any) -> None:
    system = {"role": "system", "content": "call"}
    form = {"tools": TOOLS, "tool_choice": "required", "options": {"num_predict": 400, "seed": 4}}
    first = await ask(client, "chat", messages=[system, *HI], **form)
    message = first["message"]
    for call in message["tool_calls"]:
        assert set(call["function"]["arguments"]) == {"q", "k"}
        del call["id"]
    results = [{"role": "tool", "tool_name": "find", "content": "7"} for _ in message["tool_calls"]]
    back = [system, *HI, message, *results]
    second = await ask(client, "chat", messages=back, tools=TOOLS, options={"num_predict": 1})
    assert second["stemma"]["cached_tokens"] >= first["prompt_eval_count"] + first["eval_count"] - 1


async def test_a_last_message_of_the_assistant_goes_on(client: Any) -> None:
    messages = [*HI, {"role": "assistant", "content": "It is"}]
    answer = await ask(client, "chat", messages=messages, options={"num_predict": 3, "seed": 1})
    told = await client.post("/tokenize", messages=messages, add_generation_prompt=False)
    assert answer["prompt_eval_count"] == told["count"] - 2  # without the turn's end


async def test_a_context_is_asked_behind(client: Any) -> None:
    first = await ask(client, "generate", prompt="one", system="brief", options={"num_predict": 5, "seed": 1})
    second = await ask(client, "generate", prompt="two", context=first["context"], options={"num_predict": 2})
    assert second["context"][: len(first["context"])] == first["context"]
    assert bytes(token for token in second["context"][len(first["context"]) :] if token < 256).startswith(
        b"\nuser\ntwo"
    )
    assert second["stemma"]["cached_tokens"] >= len(first["context"]) - 1


async def test_vectors(client: Any, engine: Engine) -> None:
    answer = await client.post("/api/embed", model="tiny", input=["one", "two"])
    wanted = [each.vector.tolist() for each in engine.embed(["one", "two"])]
    for ours, theirs in zip(answer["embeddings"], wanted, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    assert answer["prompt_eval_count"] == 6
    assert answer["total_duration"] > 0
    short = await client.post("/api/embed", model="tiny", input="one", dimensions=4)
    assert sum(value**2 for value in short["embeddings"][0]) == pytest.approx(1)
    assert await client.post("/api/embed", model="tiny", input="") == {"model": "tiny", "embeddings": []}
    assert (await client.post("/api/embed", model="tiny", input=[]))["embeddings"] == []
    old = (await client.post("/api/embeddings", model="tiny", prompt="one"))["embedding"]
    assert old == pytest.approx(engine.embed("one", normalize=False).vector.tolist(), abs=1e-4)
    assert await client.post("/api/embeddings", model="tiny", prompt="") == {"embedding": []}


async def test_a_text_that_is_too_long_to_embed_loses_its_end(client: Any, engine: Engine) -> None:
    long, cut = "x" * 3000, "x" * (engine.context_length - 1)
    answers = [await client.post("/api/embed", model="tiny", input=text, dimensions=8) for text in (long, cut)]
    assert answers[0]["embeddings"][0] == pytest.approx(answers[1]["embeddings"][0], abs=1e-4)


async def test_what_models_are(client: Any, engine: Engine) -> None:
    (listed,) = (await client.get("/api/tags"))["models"]
    (running,) = (await client.get("/api/ps"))["models"]
    assert listed["name"] == listed["model"] == running["name"] == "tiny:latest"
    assert listed["digest"] == running["digest"]
    assert int(listed["digest"], 16) > 0
    assert (running["context_length"], running["size_vram"]) == (engine.context_length, 0)
    assert datetime.fromisoformat(running["expires_at"]) > datetime.fromisoformat(listed["modified_at"])
    for asked in ({"model": "tiny"}, {"name": "tiny:latest"}, {"model": "tiny", "verbose": True}):
        shown = await client.post("/api/show", **asked)
        assert shown["details"] == listed["details"]
    details, info = shown["details"], shown["model_info"]
    assert (details["format"], details["family"], details["quantization_level"]) == ("safetensors", "llama", "F32")
    assert info["general.parameter_count"] == listed["size"] // 4
    assert info["llama.context_length"] == engine.context_length
    assert shown["capabilities"] == listed["capabilities"] == ["completion", "tools"]
    assert "add_generation_prompt" in shown["template"]


async def test_adapters_are_models(serve_with: Any) -> None:
    with Engine.of(with_adapters("llama", ReferenceOps(torch.device("cpu"))), kv_tokens=2048) as adapted:
        async with serve_with(adapted, ServerConfig(model_name="tiny")) as client:
            models = (await client.get("/api/tags"))["models"]
            assert [model["name"] for model in models] == ["tiny:latest", "one:latest", "two:latest"]
            assert [model["details"]["parent_model"] for model in models] == ["", "tiny", "tiny"]
            said = set()
            for name in ("tiny", "one:latest", "two"):
                body = {"model": name, "prompt": "once", "options": {"temperature": 0, "num_predict": 6}}
                said.add((await client.post("/api/generate", stream=False, **body))["response"])
            assert len(said) == 3


async def test_what_clients_try_first(client: Any) -> None:
    for path in ("/", "/api/version", "/api/tags"):
        assert (await client.http.head(path)).status_code == 200
    major, minor, patch = (await client.get("/api/version"))["version"].split(".")
    assert (int(major), int(minor)) >= (0, 12)
    assert patch.isdigit()
    assert await lines(client, "pull") == [{"status": "pulling manifest"}, {"status": "success"}]
    assert await ask(client, "pull") == {"status": "success"}
    response = await client.http.request("DELETE", "/api/delete", json={"model": "tiny"})
    assert response.status_code == 400
    assert "stays" in response.json()["error"]
    assert "copies no models" in (await client.post("/api/copy", 400, source="a", destination="b"))["error"]
    assert "takes no models" in (await client.post("/api/blobs/sha256:0a", 400))["error"]


async def test_an_error_on_the_way_is_the_last_line(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> None:
        raise FormError("this form breaks here")

    monkeypatch.setattr(Matcher, "advance", broken)
    *_, last = await lines(client, "chat", messages=HI, format="json")
    assert list(last) == ["error"]
    assert "breaks here" in last["error"]


async def test_keys(engine: Engine, serve_with: Any) -> None:
    async with serve_with(engine, ServerConfig(model_name="tiny", api_keys=(ApiKey("me", "sesame"),))) as client:
        await client.get("/api/version")
        assert list(await client.get("/api/tags", 401)) == ["error"]
        assert list(await client.post("/api/chat", 401, model="tiny")) == ["error"]
        assert (await client.get("/api/tags", key="sesame"))["models"]


@pytest.fixture(scope="module")
def thinking() -> Iterator[Engine]:
    """A model whose prompts begin its thoughts."""
    with speaking(OPENED) as made:
        yield made


async def test_thoughts(thinking: Engine, serve_with: Any) -> None:
    options = {"num_predict": 12, "temperature": 0}
    async with serve_with(thinking, ServerConfig(model_name="tiny")) as client:
        assert (await client.get("/api/tags"))["models"][0]["capabilities"] == ["completion", "tools", "thinking"]
        for think in (None, True, False, "low", "max"):
            message = (await both(client, "chat", messages=HI, think=think, options=options))["message"]
            assert bool(message.get("thinking")) != bool(message["content"])
        said = await both(client, "generate", prompt="hi", options=options)
        assert said["thinking"]
        assert said["response"] == ""
        messages = [*HI, {"role": "assistant", "thinking": "well", "content": "yes"}, *HI]
        await ask(client, "chat", messages=messages, options={"num_predict": 1})


def test_tiny_models_are_stored_as_they_are() -> None:
    loaded = tiny(ReferenceOps(torch.device("cpu")))
    assert (loaded.stored.form, loaded.stored.type) == ("safetensors", "F32")
    assert loaded.stored.num_bytes == 4 * loaded.stored.num_parameters

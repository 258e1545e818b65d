"""What the server says of itself, tokens, metrics, and its OpenAPI document."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from prometheus_client.parser import text_string_to_metric_families

from stemma.runtime.engine import Engine
from stemma.server import ServerConfig


async def test_models(client: Any, engine: Engine) -> None:
    listed = await client.get("/v1/models")
    assert [(model["id"], model["parent"]) for model in listed["data"]] == [("tiny", None), ("stemma", None)]
    assert (await client.get("/v1/models/tiny"))["max_model_len"] == engine.context_length
    assert (await client.get("/v1/models/stemma"))["id"] == "stemma"
    await client.get("/v1/models/other", status=404)


async def test_a_model_answers_to_all_its_names(engine: Engine, serve_with: Any) -> None:
    loaded = replace(engine.loaded, name="Some-Model-7B")
    with Engine.of(loaded, kv_tokens=256) as named:
        async with serve_with(named, ServerConfig()) as client:
            listed = (await client.get("/v1/models"))["data"]
            assert [model["id"] for model in listed] == ["Some-Model-7B", "stemma"]
            for name in ("Some-Model-7B", "some-model-7b", "stemma", loaded.config.name, "Some-Model-7B:latest"):
                answer = await client.post("/v1/completions", model=name, prompt="x", max_tokens=1)
                assert answer["model"] == "Some-Model-7B"
            await client.post("/v1/completions", model="Some-Model", prompt="x", max_tokens=1, status=404)


async def test_health_and_version(client: Any) -> None:
    assert (await client.get("/health"))["status"] == "ok"
    assert (await client.get("/version"))["version"]


async def test_a_closed_engine_is_not_healthy(serve_with: Any) -> None:
    import torch

    from stemma.kernels.reference import ReferenceOps
    from stemma.runtime.model.tiny import tiny

    engine = Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=256)
    async with serve_with(engine, ServerConfig()) as client:
        await client.get("/health")
        engine.close()
        await client.get("/health", status=503)
        error = await client.post("/v1/completions", status=503, prompt="x")
        assert error["error"]["type"] == "service_unavailable_error"


async def test_what_gateways_ask(client: Any) -> None:
    assert (await client.get("/model_info"))["model_path"] == "tiny"
    assert await client.get("/model_info") == await client.get("/get_model_info")
    assert (await client.get("/server_info"))["max_total_num_tokens"] == 16384
    loads = await client.get("/v1/loads")
    assert loads["loads"][0]["num_running_reqs"] == 0


async def test_tokens_there_and_back(client: Any) -> None:
    text = "héllo <|end|> wörld"
    answer = await client.post("/tokenize", prompt=text, return_token_strs=True)
    assert answer["tokens"] == list(text.encode())
    assert answer["count"] == len(answer["tokens"]) == len(answer["token_strs"])
    assert (await client.post("/detokenize", tokens=answer["tokens"]))["prompt"] == text
    chat = await client.post("/tokenize", messages=[{"role": "user", "content": "<|end|>"}])
    assert chat["tokens"].count(256) == 1  # the template's, not the user's
    written = (await client.post("/detokenize", tokens=chat["tokens"]))["prompt"]
    assert written.count("<|end|>") == 2
    bare = await client.post("/detokenize", tokens=chat["tokens"], skip_special_tokens=True)
    assert bare["prompt"] == "".join(chr(token) for token in chat["tokens"] if token < 256)
    assert len(bare["prompt"]) < len(written)
    plain = await client.post("/tokenize", messages=[{"role": "user", "content": "x"}], add_generation_prompt=False)
    assert chat["count"] > plain["count"]


async def test_the_tokenizer_tells_its_special_tokens(client: Any) -> None:
    info = await client.get("/tokenizer_info")
    assert info["eos_token"] == "<|end|>"
    assert "add_generation_prompt" in info["chat_template"]


async def test_wrong_tokens_are_a_400(client: Any) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "prompt"), ({"prompt": "a", "messages": []}, "prompt"),
        ({"prompt": "a", "tools": [{"function": {"name": "f"}}]}, "tools"),
    ]  # fmt: skip
    for body, param in wrong:
        assert (await client.post("/tokenize", status=400, **body))["error"]["param"] == param
    for tokens in ([-1], [260], ["a"], [2**40]):
        assert (await client.post("/detokenize", status=400, tokens=tokens))["error"]["param"].startswith("tokens")


async def test_metrics_count_what_happened(engine: Engine, serve_with: Any) -> None:
    async def read(client: Any) -> dict[str, float]:
        text = (await client.http.get("/metrics")).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {sample.name: sample.value for sample in samples if set(sample.labels) <= {"model_name"}}

    async with serve_with(engine, ServerConfig(vllm_metric_names=True)) as client:
        before = await read(client)
        answer = await client.post("/v1/completions", prompt="count me", max_tokens=7, ignore_eos=True)
        after = await read(client)
        assert answer["usage"]["completion_tokens"] == 7
        assert after["stemma_completion_tokens_total"] - before["stemma_completion_tokens_total"] == 7
        assert after["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"] == 7
        assert after["stemma_ttft_seconds_count"] - before["stemma_ttft_seconds_count"] == 1
        assert after["stemma_sequences_running"] == 0


async def test_vllms_names_only_on_request(client: Any) -> None:
    assert "vllm:" not in (await client.http.get("/metrics")).text


async def test_errors_of_paths_have_the_same_shape(client: Any) -> None:
    nowhere = (await client.get("/nowhere", status=404))["error"]
    wrong = (await client.get("/v1/completions", status=405))["error"]
    of_a_body = (await client.post("/v1/completions", status=400))["error"]
    assert nowhere.keys() == wrong.keys() == of_a_body.keys() == {"message", "type", "param", "code"}
    assert "/nowhere" in nowhere["message"]
    assert wrong["message"] == "/v1/completions takes no GET"
    assert (nowhere["code"], wrong["code"]) == ("not_found", "method_not_supported")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/completions", "POST"),
        ("/v1/chat/completions", "GET, HEAD, POST"),
        ("/v1/responses/resp_1", "DELETE, GET, HEAD"),
        ("/v1/models", "GET, HEAD"),
    ],
)
async def test_a_wrong_method_is_told_all_that_are_right(client: Any, path: str, allowed: str) -> None:
    assert (await client.http.put(path)).headers["allow"] == allowed


async def test_errors_of_paths_are_in_the_dialect_of_what_is_beside_them(client: Any) -> None:
    for path, status in (("/v1/messages/batches", 404), ("/v1/messages", 405)):
        response = await client.http.get(path, headers={"x-request-id": "mine"})
        told = response.json()
        assert (response.status_code, told["type"], told["request_id"]) == (status, "error", "mine")
        assert {response.headers[name] for name in ("request-id", "x-request-id")} == {"mine"}
    assert told["error"] == {"type": "invalid_request_error", "message": "/v1/messages takes no GET"}
    assert await client.get("/api/nowhere", status=404) == {"error": "there is no /api/nowhere"}
    assert await client.get("/api/chat", status=405) == {"error": "/api/chat takes no GET"}
    versioned = await client.http.get("/nowhere", headers={"anthropic-version": "2023-06-01"})
    assert versioned.json()["error"]["type"] == "not_found_error"
    plain = await client.http.get("/nowhere")
    assert plain.headers["x-request-id"]


async def test_the_openapi_document_has_every_path(client: Any) -> None:
    document = await client.get("/openapi.json")
    assert document["openapi"].startswith("3.1")
    assert {"/v1/chat/completions", "/v1/completions", "/v1/models", "/tokenize"} <= document["paths"].keys()
    chat = document["components"]["schemas"]["ChatRequest"]
    assert {"messages", "temperature", "min_tokens"} <= chat["properties"].keys()
    assert chat["required"] == ["messages"]


async def test_the_openapi_document_tells_everything_of_an_endpoint(client: Any) -> None:
    paths = (await client.get("/openapi.json"))["paths"]
    for path, operations in paths.items():
        in_path = re.findall(r"{(\w+)}", path)
        for operation in operations.values():
            assert operation["description"] != ""
            assert operation["responses"]["200"]["content"] != {}
            parameters = operation.get("parameters", [])
            assert [each["name"] for each in parameters if each["in"] == "path"] == in_path
            assert all(each["schema"] for each in parameters)
    kept = paths["/v1/responses/{response_id}"]["get"]
    assert [each["name"] for each in kept["parameters"]] == ["response_id", "stream", "starting_after"]
    assert set(kept["responses"]["200"]["content"]) == {"application/json", "text/event-stream"}
    chats = paths["/v1/chat/completions"]["get"]["parameters"]
    assert [each["name"] for each in chats] == ["limit", "order", "after", "model"]
    asked = paths["/api/chat"]["post"]["responses"]
    assert set(asked["200"]["content"]) == {"application/json", "application/x-ndjson"}


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/api/chat", "/generate"])
async def test_errors_are_as_the_openapi_document_says(client: Any, path: str) -> None:
    responses = (await client.get("/openapi.json"))["paths"][path]["post"]["responses"]
    schema = responses["400"]["content"]["application/json"]["schema"]
    for body in ({"temperature": 99999, "messages": []}, {"stream": 1}):
        assert jsonschema_rs.is_valid(schema, await client.post(path, 400, **body))


def test_there_is_one_version() -> None:
    import stemma

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())
    assert project["project"]["version"] == stemma.__version__


async def test_places_that_people_try(client: Any) -> None:
    assert (await client.get("/"))["tree"] == "/tree"
    assert await client.get("/ping") == await client.get("/health")
    assert await client.get("/models") == await client.get("/v1/models")

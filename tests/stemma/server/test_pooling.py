"""/v1/embeddings, /v1/rerank and /v1/score as OpenAI's, Jina's and vLLM's clients call them."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from stemma.runtime.engine import Engine
from tests.stemma.server.conftest import Client


async def test_an_embedding(client: Client, engine: Engine) -> None:
    answer = await client.post("/v1/embeddings", input="some text", model="default")
    assert answer["object"] == "list"
    (entry,) = answer["data"]
    assert (entry["object"], entry["index"]) == ("embedding", 0)
    np.testing.assert_allclose(entry["embedding"], engine.embed("some text").vector, atol=1e-5)
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] == 9


async def test_all_forms_of_input(client: Client) -> None:
    ids = list(b"one text")
    answers = [
        await client.post("/v1/embeddings", input=given)
        for given in ("one text", ["one text"], ids, [ids], ["one text", "another"])
    ]
    vectors = [answer["data"][0]["embedding"] for answer in answers]
    for vector in vectors:
        np.testing.assert_allclose(vector, vectors[0], atol=1e-5)
    assert [entry["index"] for entry in answers[-1]["data"]] == [0, 1]
    assert answers[-1]["usage"]["prompt_tokens"] == 15


async def test_base64_are_the_same_numbers(client: Client) -> None:
    plain = await client.post("/v1/embeddings", input="text", dimensions=7)
    packed = await client.post("/v1/embeddings", input="text", dimensions=7, encoding_format="base64")
    data = np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), dtype="<f4")
    np.testing.assert_allclose(data, plain["data"][0]["embedding"], atol=1e-5)
    assert len(data) == 7


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": []}, "input"), ({"input": ""}, "input"), ({"input": ["text", ""]}, "input"),
        ({"input": [1.5]}, "input"), ({"input": [["a"]]}, "input"), ({"input": ["x"] * 2049}, "input"),
        ({"input": [9999]}, "input"), ({"input": "x", "dimensions": 65}, "dimensions"),
        ({"input": "x", "encoding_format": "hex"}, "encoding_format"),
        ({"input": "x", "prompt_name": "q"}, "prompt_name"),
        ({"input": "x" * 5000}, "input"), ({"input": "x" * 5_000_000}, "input"),
    ],
)  # fmt: skip
async def test_bad_input_is_refused(client: Client, body: dict[str, Any], param: str) -> None:
    error = await client.post("/v1/embeddings", status=400, **body)
    assert error["error"]["param"] == param


async def test_rerank(client: Client, engine: Engine) -> None:
    documents = ["a cat", {"text": "a dog"}, "a bird"]
    answer = await client.post("/v1/rerank", query="what barks", documents=documents, top_n=2)
    scores = [score.value for score in engine.score("what barks", ["a cat", "a dog", "a bird"])]
    order = sorted(range(3), key=lambda index: -scores[index])[:2]
    assert [result["index"] for result in answer["results"]] == order
    for result in answer["results"]:
        assert abs(result["relevance_score"] - scores[result["index"]]) < 1e-5
        assert result["document"] == {"text": ["a cat", "a dog", "a bird"][result["index"]]}
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    every = await client.post("/rerank", query="what barks", documents=documents, top_n=0)
    assert len(every["results"]) == 3
    bare = await client.post("/rerank", query="what barks", documents=documents, return_documents=False)
    assert len(bare["results"]) == 3
    assert all("document" not in result for result in bare["results"])


async def test_score(client: Client, engine: Engine) -> None:
    answer = await client.post("/v1/score", text_1="a query", text_2=["one", "two"])
    expected = [score.value for score in engine.score("a query", ["one", "two"])]
    assert [entry["object"] for entry in answer["data"]] == ["score", "score"]
    np.testing.assert_allclose([entry["score"] for entry in answer["data"]], expected, atol=1e-5)
    pairs = await client.post("/score", text_1=["a query", "another"], text_2=["one", "two"])
    np.testing.assert_allclose(pairs["data"][0]["score"], expected[0], atol=1e-5)
    error = await client.post("/v1/score", status=400, text_1=["a", "b"], text_2=["one", "two", "three"])
    assert error["error"]["param"] == "text_1"


async def test_tenants_share_nothing(client: Client) -> None:
    document = "a long document " * 10
    first = await client.post("/v1/embeddings", input=document, cache_salt="one")
    again = await client.post("/v1/embeddings", input=document, cache_salt="one")
    other = await client.post("/v1/embeddings", input=document, cache_salt="two")
    cached = [answer["usage"]["prompt_tokens_details"]["cached_tokens"] for answer in (first, again, other)]
    assert cached[0] == cached[2] == 0
    assert cached[1] > 100

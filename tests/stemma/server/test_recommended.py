"""What a model's files recommend, behind the server: used where a request says nothing, on every endpoint."""

from __future__ import annotations

from dataclasses import replace

import pytest

from stemma.lang.remote.body import body_of
from stemma.runtime.engine import Engine
from stemma.runtime.engine.options import with_defaults
from stemma.server import ServerConfig

ASKED = {"max_tokens": 16, "ignore_eos": True, "seed": 1}


@pytest.fixture
def recommending(engine):
    generation = replace(engine.loaded.generation, temperature=0.3, top_k=7, repetition_penalty=3.0)
    with Engine.of(replace(engine.loaded, generation=generation), kv_tokens=2048) as made:
        yield made


@pytest.fixture
async def posts(recommending, serve_with):
    async with serve_with(recommending, ServerConfig(model_name="tiny")) as client:
        yield client


async def test_plain_completions_sample_as_recommended(posts, recommending):
    told = await posts.post("/v1/completions", prompt="Name a river", **ASKED)
    expected = recommending.generate("Name a river", **ASKED, temperature=0.3, top_k=7, repetition_penalty=3.0)
    assert told["choices"][0]["text"] == expected.text


async def test_a_request_goes_before_what_is_recommended(posts, recommending):
    chat = {"messages": [{"role": "user", "content": "Hi"}], **ASKED}
    greedy = await posts.post("/v1/chat/completions", **chat, temperature=0, repetition_penalty=1.0)
    again = await posts.post("/v1/chat/completions", **{**chat, "seed": 2}, temperature=0, repetition_penalty=1.0)
    sampled = await posts.post("/v1/chat/completions", **chat)
    assert greedy["choices"] == again["choices"] != sampled["choices"]


async def test_responses_say_which_temperature_counts(posts):
    recommended = await posts.post("/v1/responses", input="Hi", max_output_tokens=2)
    assert recommended["temperature"] == 0.3
    assert (await posts.post("/v1/responses", input="Hi", max_output_tokens=2, temperature=0.5))["temperature"] == 0.5


async def test_clients_that_encode_by_themselves_are_told(posts, recommending):
    told = (await posts.get("/tokenizer"))["sampling"]
    assert told == recommending.recommended
    body = body_of([1, 2], with_defaults({"temperature": 0.9}, told))
    assert (body["temperature"], body["top_k"], body["repetition_penalty"]) == (0.9, 7, 3.0)

"""SGLang's native /generate."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest

from stemma.runtime.engine import Engine
from stemma.server import ServerConfig

PATH = "/generate"


async def test_one_text_gives_one_answer_and_a_list_gives_a_list(client: Any) -> None:
    sampling = {"temperature": 0, "max_new_tokens": 5}
    one = await client.post(PATH, text="hello", sampling_params=sampling)
    assert one["meta_info"]["prompt_tokens"] == 5
    assert one["meta_info"]["completion_tokens"] == len(one["output_ids"])
    assert one["meta_info"]["finish_reason"]["type"] in ("stop", "length")
    many = await client.post(PATH, text=["hello", "hello"], sampling_params=sampling)
    assert [answer["text"] for answer in many] == [one["text"]] * 2
    ids = await client.post(PATH, input_ids=list(b"hello"), sampling_params=sampling)
    assert ids["text"] == one["text"]
    both = await client.post(PATH, text="hello", sampling_params={**sampling, "n": 2})
    assert [answer["text"] for answer in both] == [one["text"]] * 2


async def test_special_tokens_spelt_out_are_special(client: Any) -> None:
    answer = await client.post(PATH, text="<|start|>user\n", sampling_params={"max_new_tokens": 0})
    assert answer["meta_info"]["prompt_tokens"] == 6


async def test_scores_from_a_position_on(client: Any) -> None:
    asked = {
        "text": ["some text: yes", "some text: no"], "sampling_params": {"max_new_tokens": 0, "temperature": 0},
        "return_logprob": True, "return_text_in_logprobs": True,
    }  # fmt: skip
    whole = await client.post(PATH, **asked, logprob_start_len=0)
    part = await client.post(PATH, **asked, logprob_start_len=9)
    for all_of_it, end in zip(whole, part, strict=True):
        entries = all_of_it["meta_info"]["input_token_logprobs"]
        assert entries[0][0] is None
        assert "".join(entry[2] for entry in entries) in asked["text"]
        ends = end["meta_info"]["input_token_logprobs"]
        assert [entry[1:] for entry in ends] == [entry[1:] for entry in entries[9:]]
        assert [entry[0] for entry in ends] == pytest.approx([entry[0] for entry in entries[9:]], abs=1e-4)
        assert end["meta_info"]["output_token_logprobs"] == []


async def test_where_nothing_is_generated_the_whole_prompt_is_scored(client: Any) -> None:
    """SGLang's unconditional selection asks so."""
    asked: Any = {"input_ids": [list(b"yes"), list(b"no")], "return_logprob": True}
    silent = await client.post(PATH, **asked, sampling_params={"max_new_tokens": 0})
    assert [len(each["meta_info"]["input_token_logprobs"]) for each in silent] == [3, 2]
    assert silent[0]["meta_info"]["input_token_logprobs"][0] == [None, ord("y"), None]
    spoken = await client.post(PATH, **asked, sampling_params={"max_new_tokens": 1})
    assert [each["meta_info"]["input_token_logprobs"] for each in spoken] == [[], []]
    none = await client.post(PATH, **asked, logprob_start_len=-1, sampling_params={"max_new_tokens": 0})
    assert [each["meta_info"]["input_token_logprobs"] for each in none] == [[], []]


async def test_a_flush_needs_no_body_and_leaves_nothing_cached(client: Any, engine: Engine) -> None:
    await client.post(PATH, text="some text that is cached", sampling_params={"max_new_tokens": 1})
    assert engine.stats().cache.cached > 0
    assert (await client.http.post("/flush_cache")).status_code == 200
    assert engine.stats().cache.cached == 0


async def test_a_stream_is_cumulative(client: Any) -> None:
    sampling = {"temperature": 0, "max_new_tokens": 12, "ignore_eos": True}
    whole = await client.post(PATH, text="go", sampling_params=sampling)
    events = await client.stream(PATH, text="go", sampling_params=sampling)
    texts = [event["text"] for event in events]
    assert len(texts) > 1
    assert all(later.startswith(earlier) for earlier, later in pairwise(texts))
    assert texts[-1] == whole["text"]
    assert events[-1]["meta_info"]["completion_tokens"] == 12


@pytest.mark.parametrize("start", [None, 0, 2])
async def test_chunks_have_the_log_probabilities_so_far(client: Any, start: int | None) -> None:
    asked = {
        "text": "hello", "sampling_params": {"max_new_tokens": 9, "ignore_eos": True, "sampling_seed": 3},
        "return_logprob": True, "top_logprobs_num": 2, "logprob_start_len": start, "return_text_in_logprobs": True,
    }  # fmt: skip
    whole = await client.post(PATH, **asked)
    chunks = await client.stream(PATH, **asked)
    names = ("input_token_logprobs", "input_top_logprobs", "output_token_logprobs", "output_top_logprobs")
    for chunk in chunks:
        meta = chunk["meta_info"]
        assert meta["output_token_logprobs_length"] == meta["completion_tokens"] == len(chunk["output_ids"])
        assert [entry[1] for entry in meta["output_token_logprobs"]] == chunk["output_ids"]
        for name in names:
            entries = chunks[-1]["meta_info"][name]
            assert meta[name] == (entries[: meta["completion_tokens"]] if name.startswith("output") else entries)
    assert chunks[-1]["output_ids"] == whole["output_ids"]
    for name in names:
        assert len(chunks[-1]["meta_info"][name]) == len(whole["meta_info"][name])
    assert len(chunks) > 1
    silent = await client.stream(PATH, **{**asked, "return_logprob": False})
    assert not any("logprobs" in name for chunk in silent for name in chunk["meta_info"])


@pytest.mark.parametrize("n", [1, 2])
async def test_chunks_have_what_is_new_where_the_server_is_told_so(engine: Engine, serve_with: Any, n: int) -> None:
    asked = {
        "text": "hello", "sampling_params": {"max_new_tokens": 9, "ignore_eos": True, "sampling_seed": 3, "n": n},
        "return_logprob": True, "top_logprobs_num": 2, "logprob_start_len": 1,
    }  # fmt: skip
    async with serve_with(engine, ServerConfig(incremental_streaming_output=True)) as client:
        whole = await client.post(PATH, **asked)
        chunks = await client.stream(PATH, **asked)
    for index, answer in enumerate([whole] if n == 1 else whole):
        own = [chunk for chunk in chunks if chunk.get("index", 0) == index]
        assert "".join(chunk["text"] for chunk in own) == answer["text"]
        assert [token for chunk in own for token in chunk["output_ids"]] == answer["output_ids"]
        num_before = 0
        for chunk in own:
            meta = chunk["meta_info"]
            count = meta["output_token_logprobs_length"]
            assert count == meta["completion_tokens"]
            assert len(meta["output_token_logprobs"]) == len(meta["output_top_logprobs"]) == count - num_before
            assert [entry[1] for entry in meta["output_token_logprobs"]] == chunk["output_ids"]
            assert len(meta["input_token_logprobs"]) == 4
            num_before = count
        assert own[-1]["meta_info"]["finish_reason"] == answer["meta_info"]["finish_reason"]
        assert len(own) > 2


async def test_what_stopped_an_answer_is_said(client: Any) -> None:
    sampling = {"regex": "abc[xyz]{20}", "stop": ["c", "q"]}
    answer = await client.post(PATH, text="go", sampling_params=sampling)
    assert answer["text"] == "ab"
    assert answer["meta_info"]["finish_reason"] == {"type": "stop", "matched": "c"}


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ({"regex": "[ab]{3}"}, "[ab]{3}"),
        ({"ebnf": 'root ::= "x" | "y"'}, "[xy]"),
        ({"json_schema": '{"enum": ["a", true]}'}, '"a"|true'),
    ],
)
async def test_forms_hold(client: Any, form: dict[str, str], pattern: str) -> None:
    answer = await client.post(PATH, text="go", sampling_params={**form, "max_new_tokens": 20})
    assert re.fullmatch(pattern, answer["text"])


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "text"),
        ({"text": "a", "input_ids": [1]}, "text"),
        ({"text": []}, "text"),
        ({"input_ids": ["a"]}, "input_ids"),
        ({"text": "a", "image_data": "x"}, "image_data"),
        ({"text": "a", "sampling_params": {"custom_params": {"a": 1}}}, "sampling_params.custom_params"),
        ({"text": "a", "sampling_params": {"min_new_tokens": -3}}, "sampling_params.min_new_tokens"),
        ({"text": "a", "sampling_params": {"regex": "a", "ebnf": "b"}}, "sampling_params"),
    ],
)
async def test_what_is_wrong_is_a_400_that_names_the_field(client: Any, body: dict[str, Any], param: str) -> None:
    assert (await client.post(PATH, status=400, **body))["error"]["param"].startswith(param)

"""POST /v1/completions on the tiny model."""

from __future__ import annotations

from typing import Any

import pytest

PATH = "/v1/completions"


@pytest.mark.parametrize("prompt", ["hey", [104, 101, 121], ["hey"], [[104, 101, 121]]])
async def test_every_form_of_the_prompt_means_the_same(client: Any, prompt: Any) -> None:
    expected = await client.post(PATH, prompt="hey", max_tokens=5, temperature=0)
    answer = await client.post(PATH, prompt=prompt, max_tokens=5, temperature=0)
    assert [c["text"] for c in answer["choices"]] == [c["text"] for c in expected["choices"]]


async def test_several_prompts_with_several_choices_come_in_order(client: Any) -> None:
    answer = await client.post(PATH, prompt=["one", "two"], n=2, max_tokens=4, seed=7, echo=True)
    assert [c["index"] for c in answer["choices"]] == [0, 1, 2, 3]
    assert [c["text"][:3] for c in answer["choices"]] == ["one", "one", "two", "two"]
    assert answer["usage"]["prompt_tokens"] == 6
    assert answer["usage"]["completion_tokens"] <= 16


async def test_the_older_logprobs_cover_prompt_and_answer(client: Any) -> None:
    answer = await client.post(PATH, prompt="hello", max_tokens=1, temperature=0, logprobs=1, echo=True)
    record = answer["choices"][0]["logprobs"]
    assert record["tokens"][:5] == list("hello")
    assert record["text_offset"][:5] == [0, 1, 2, 3, 4]
    assert record["token_logprobs"][0] is None
    assert record["top_logprobs"][0] is None
    assert len(record["tokens"]) == len(record["token_logprobs"]) == len(record["top_logprobs"]) == 6
    for token, logprob, top in zip(
        record["tokens"][1:], record["token_logprobs"][1:], record["top_logprobs"][1:], strict=True
    ):
        assert top[token] == logprob
        assert max(top.values()) >= logprob
    assert max(record["top_logprobs"][5], key=record["top_logprobs"][5].get) == record["tokens"][5]


@pytest.mark.parametrize("echo", [True, False])
@pytest.mark.parametrize("stop", [[], ["\ufffd\ufffd"], ["\ufffd"]])
@pytest.mark.parametrize("seed", range(3))
async def test_offsets_are_where_tokens_begin(client: Any, echo: bool, stop: list[str], seed: int) -> None:
    """Whatever parts of characters the tokens are; what a stop string cut off is at the end."""
    asked = {"prompt": "日本 é😀", "max_tokens": 12, "seed": seed, "logprobs": 0, "echo": echo, "stop": stop}
    whole = await client.post(PATH, **asked, return_token_ids=True)
    choice = whole["choices"][0]
    offsets, text = choice["logprobs"]["text_offset"], choice["text"]
    num_echoed = 0
    if echo:
        num_echoed = len("日本 é😀".encode())
        assert offsets[:num_echoed] == [0] * 3 + [1] * 3 + [2] + [3] * 2 + [4] * 4
    begun = b""
    for token, offset in zip(choice["token_ids"], offsets[num_echoed:], strict=True):
        before, after = (
            5 * echo + len(data.decode("utf-8", "replace")) for data in (begun, begun + bytes([token % 256]))
        )
        goes_on = token < 256 and before == after  # it is a further part of a character
        assert offset == min(before - goes_on, len(text))
        begun += bytes([token]) if token < 256 else b""
    chunks = await client.stream(PATH, **asked, return_token_ids=True)
    mine = [chunk["choices"][0] for chunk in chunks]
    assert "".join(c["text"] for c in mine) == text
    assert [at for c in mine if c["logprobs"] for at in c["logprobs"]["text_offset"]] == offsets
    assert [token for c in mine for token in c.get("token_ids", [])] == choice["token_ids"]
    streamed = 0
    for c in mine:
        streamed += len(c["text"])
        assert all(at <= streamed for at in (c["logprobs"] or {"text_offset": []})["text_offset"])


async def test_a_special_token_has_no_text_of_its_own(client: Any) -> None:
    ids = [256, *b"ab", 257, *b"c"]
    asked = {"prompt": ids, "max_tokens": 2, "temperature": 0, "logprobs": 1, "echo": True, "ignore_eos": True}
    choice = (await client.post(PATH, **asked))["choices"][0]
    assert choice["logprobs"]["text_offset"][:6] == [0, 0, 1, 2, 2, 3]
    assert choice["text"].startswith("abc")


async def test_scoring_without_generating(client: Any) -> None:
    answer = await client.post(PATH, prompt=["ab", "abc"], max_tokens=0, logprobs=0, echo=True)
    assert [len(c["logprobs"]["tokens"]) for c in answer["choices"]] == [2, 3]
    assert answer["choices"][0]["logprobs"]["token_logprobs"][1] == pytest.approx(
        answer["choices"][1]["logprobs"]["token_logprobs"][1], abs=1e-5
    )


async def test_a_stream_says_what_the_whole_answer_says(client: Any) -> None:
    asked: dict[str, Any] = {"prompt": ["a", "b"], "max_tokens": 8, "seed": 2, "logprobs": 2, "echo": True}
    whole = await client.post(PATH, **asked)
    chunks = await client.stream(PATH, **asked, stream_options={"include_usage": True})
    assert chunks[-1]["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    for index in range(2):
        mine = [c for chunk in chunks for c in chunk["choices"] if c["index"] == index]
        assert "".join(c["text"] for c in mine) == whole["choices"][index]["text"]
        tokens = [token for c in mine if c["logprobs"] for token in c["logprobs"]["tokens"]]
        assert tokens == whole["choices"][index]["logprobs"]["tokens"]


async def test_a_second_request_is_cached(client: Any) -> None:
    prompt = "a prompt that nobody has sent before, and that is a few blocks long"
    first = await client.post(PATH, prompt=prompt, max_tokens=1)
    second = await client.post(PATH, prompt=prompt, max_tokens=1)
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] < 16
    assert second["usage"]["prompt_tokens_details"]["cached_tokens"] == len(prompt) - 1
    other = await client.post(PATH, prompt=prompt, max_tokens=1, cache_salt="s")
    assert other["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": [1, "a"]}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [1000]}, "prompt"),
        ({"prompt": {"a": 1}}, "prompt"),
        ({"prompt": "a", "suffix": "b"}, "suffix"),
        ({"prompt": "a", "best_of": 3}, "best_of"),
        ({"prompt": "a", "logprobs": 21}, "logprobs"),
        ({"prompt": ["a"] * 300, "n": 2}, "n"),
    ],
)
async def test_what_is_wrong_is_a_400_that_names_the_field(client: Any, body: dict[str, Any], param: str) -> None:
    assert (await client.post(PATH, status=400, **body))["error"]["param"] == param


async def test_a_body_that_is_no_json_is_a_400(client: Any) -> None:
    for data in (b"", b"{", b"\xff\xfe", b'"x"', b"[" * 100_000, b'{"prompt": "\\ud800"}'):
        response = await client.http.post(PATH, content=data)
        assert response.status_code == 400, data[:20]
        assert response.json()["error"]["type"] == "invalid_request_error"


async def test_log_probabilities_of_the_prompt_come_by_id(client: Any) -> None:
    """As vLLM has them; `scored_from` leaves out what stands before."""
    asked = {"prompt": "hello", "max_tokens": 2, "temperature": 0, "ignore_eos": True, "prompt_logprobs": 2}
    choice = (await client.post(PATH, **asked))["choices"][0]
    assert choice["prompt_logprobs"][0] is None
    assert len(choice["prompt_logprobs"]) == 5
    for char, found in zip("ello", choice["prompt_logprobs"][1:], strict=True):
        assert found[str(ord(char))]["decoded_token"] == char
        assert {each["rank"] for each in found.values()} >= {1, 2}
        assert 2 <= len(found) <= 3
    late = (await client.post(PATH, **asked, scored_from=3))["choices"][0]["prompt_logprobs"]
    assert [found is None for found in late] == [True, True, True, False, False]
    chunks = await client.stream(PATH, **asked)
    assert chunks[-1]["choices"][0]["prompt_logprobs"] == choice["prompt_logprobs"]
    for body in (
        {"scored_from": 1},
        {"prompt_logprobs": 1, "scored_from": 0},
        {"prompt_logprobs": 1, "scored_from": 9},
    ):
        assert (await client.post(PATH, status=400, prompt="hello", **body))["error"]["param"] == "scored_from"
    both = {"prompt_logprobs": 1, "echo": True, "logprobs": 1}
    assert (await client.post(PATH, status=400, prompt="hello", **both))["error"]["param"] == "prompt_logprobs"

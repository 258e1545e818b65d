"""Fields that vLLM's, SGLang's and llama.cpp's clients send and that do something: they do what they do there."""

from __future__ import annotations

from typing import Any

import pytest

HI = [{"role": "user", "content": "hi"}]
PATHS = [("/v1/chat/completions", {"messages": HI}), ("/v1/completions", {"prompt": "hi"})]
END = 256


@pytest.mark.parametrize(("path", "body"), PATHS)
async def test_min_tokens_and_stop_reason(client: Any, path: str, body: dict[str, Any]) -> None:
    wants = {"logit_bias": {"97": 100}, "max_tokens": 9, "return_token_ids": True}
    said = (await client.post(path, **body, **wants, stop_token_ids=[97], min_tokens=3))["choices"][0]
    assert (len(said["token_ids"]), said["finish_reason"], said["stop_reason"]) == (4, "stop", 97)
    said = (await client.post(path, **body, **wants, stop=["aa"], min_tokens=3))["choices"][0]
    assert (said["token_ids"], said["stop_reason"]) == ([97] * 3, "aa")
    ends = {**wants, "logit_bias": {str(END): 100}}
    said = (await client.post(path, **body, **ends))["choices"][0]
    assert (said["token_ids"], said["finish_reason"], said["stop_reason"]) == ([END], "stop", None)
    said = (await client.post(path, **body, **wants))["choices"][0]
    assert (said["finish_reason"], said["stop_reason"]) == ("length", None)


@pytest.mark.parametrize(("path", "body"), PATHS)
async def test_a_stream_tells_the_stop_reason_at_its_end(client: Any, path: str, body: dict[str, Any]) -> None:
    chunks = await client.stream(path, **body, logit_bias={"97": 100}, stop=["aa"], max_tokens=5)
    assert chunks[-1]["choices"][0]["stop_reason"] == "aa"


@pytest.mark.parametrize(("path", "body"), PATHS)
async def test_a_stop_string_may_be_part_of_the_answer(client: Any, path: str, body: dict[str, Any]) -> None:
    asked = {"logit_bias": {"97": 100}, "stop": ["aa"], "max_tokens": 5, "include_stop_str_in_output": True}
    choice = (await client.post(path, **body, **asked))["choices"][0]
    assert (choice["message"]["content"] if "message" in choice else choice["text"]) == "aa"


async def test_special_tokens_may_be_shown(client: Any) -> None:
    special = {"logit_bias": {"257": 100}, "max_tokens": 2}
    hidden = await client.post("/v1/completions", prompt="hi", **special)
    shown = await client.post("/v1/completions", prompt="hi", skip_special_tokens=False, **special)
    assert hidden["choices"][0]["text"] == ""
    assert len(set(shown["choices"][0]["text"].split("<|"))) == 2
    native = {"max_new_tokens": 2, "logit_bias": {"257": 100}, "skip_special_tokens": False}
    assert (await client.post("/generate", text="hi", sampling_params=native))["text"] == shown["choices"][0]["text"]


@pytest.mark.parametrize(("limit", "kept"), [(3, 3), (100, 20), (-1, 20)])
async def test_only_the_last_tokens_of_a_prompt(client: Any, limit: int, kept: int) -> None:
    whole = [65 + index for index in range(20)]
    asked = {"max_tokens": 4, "temperature": 0, "truncate_prompt_tokens": limit}
    cut = await client.post("/v1/completions", prompt=whole, **asked)
    same = await client.post("/v1/completions", prompt=whole[-kept:], max_tokens=4, temperature=0)
    assert cut["usage"]["prompt_tokens"] == kept
    assert cut["choices"][0]["text"] == same["choices"][0]["text"]
    chat = await client.post("/v1/chat/completions", messages=[], prompt_token_ids=whole, **asked)
    assert chat["usage"]["prompt_tokens"] == kept


async def test_as_much_of_a_prompt_as_there_is_room_for(client: Any) -> None:
    long = [65] * 3000
    answer = await client.post("/v1/completions", prompt=long, max_tokens=48, truncate_prompt_tokens=-1)
    assert answer["usage"]["prompt_tokens"] == 2000


async def test_an_answer_goes_on_with_the_last_message(client: Any) -> None:
    begun = [*HI, {"role": "assistant", "content": "The answer: "}]
    asked = {"max_tokens": 4, "temperature": 0, "return_token_ids": True}
    goes_on = {"continue_final_message": True, "add_generation_prompt": False}
    answer = await client.post("/v1/chat/completions", messages=begun, **goes_on, **asked)
    assert bytes(answer["prompt_token_ids"][-12:]) == b"The answer: "
    other = await client.post(
        "/v1/chat/completions", messages=begun, add_generation_prompt=False, return_token_ids=True, max_tokens=1
    )
    assert len(other["prompt_token_ids"]) > len(answer["prompt_token_ids"])


async def test_json_objects_of_a_schema_as_llama_cpp_has_them(client: Any) -> None:
    schema = {"type": "object", "properties": {"a": {"const": 7}}, "required": ["a"]}
    form = {"type": "json_object", "schema": schema}
    answer = await client.post("/v1/chat/completions", messages=HI, response_format=form, max_tokens=20)
    assert answer["choices"][0]["message"]["content"] == '{"a":7}'
    wrong = {"type": "json_object", "schema": {"type": "nothing"}}
    error = (await client.post("/v1/chat/completions", 400, messages=HI, response_format=wrong))["error"]
    assert error["param"] == "response_format.schema"

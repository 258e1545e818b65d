"""What a state, a chat or a connection streams, joined, is what it gives at the end."""

from __future__ import annotations

import asyncio
import gc
import re
from contextlib import suppress
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

import stemma
from stemma.fsm.regex import Regex
from stemma.lang.chats.chat import Chat
from stemma.lang.states.state import State
from stemma.runtime.engine.generation import join
from stemma.runtime.errors import IncompleteOutput, InvalidOutput
from tests.stemma.server.live import is_idle, live_server, wait_until


class Fixed(BaseModel):
    """All of it is forced."""

    kind: Literal["fixed é"]
    flag: Literal[True]


class Free(BaseModel):
    name: Annotated[str, Field(max_length=4)]
    tags: list[Literal["ä", "b"]]


FORMS = [
    str,
    Literal["only"],
    Literal["yes", "yés"],
    Fixed,
    Free,
    Regex("hello wörld"),
    Regex("[ab]{2,6}ö?"),
    Regex(""),
]
OPTIONS = [
    {}, {"max_tokens": 3}, {"max_tokens": 0}, {"stop": ["ö", "lo w", "ly"]}, {"stop": ["é", "s"]},
    {"logprobs": 1, "stop": "b"},
]  # fmt: skip


@pytest.fixture(scope="module")
def engine(loaded):
    with stemma.Engine.of(loaded, kv_tokens=16384) as engine:
        yield engine


@pytest.fixture(scope="module")
def remote(engine):
    with live_server(engine) as live, stemma.connect(live.url) as remote:
        yield remote
        gc.collect()  # states that nobody refers to any more hold blocks until they are found
        wait_until(lambda: is_idle(engine))


@pytest.fixture(params=["here", "there"])
def backend(request, engine, remote):
    return engine if request.param == "here" else remote


def options_of(options: dict[str, Any]) -> dict[str, Any]:
    return {"max_tokens": 40, "temperature": 1.0, "seed": 3, **options}


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("form", FORMS, ids=lambda form: getattr(form, "__name__", str(form)))
def test_a_state_streams_its_value(backend, form, options):
    def state():
        return State(backend, **{**options_of(options), **({"max_tokens": 9} if form is str else {})}).text("Say é: ")

    gen = state().gen(form)
    parts = list_until_error(iter(gen))
    text = "".join(part.text for part in parts)
    (completion,) = [generation.result() for generation in gen._generations]
    assert text == completion.text
    assert all(part.so_far == text[: len(part.so_far)] for part in parts)
    again = state().gen(form)

    async def listen():
        return [part async for part in again]

    if gen.is_done:
        assert "".join(part.text for part in asyncio.run(listen())) == text == again.completion.text
        assert again.result() == gen.result()
        if parts:
            assert parts[-1].so_far == text


def list_until_error(parts: Any) -> list[Any]:
    """A form that is cut is no value, which is said at the end."""
    heard = []
    with suppress(InvalidOutput, IncompleteOutput):
        for part in parts:
            heard.append(part)
    return heard


@pytest.mark.parametrize("text", ["hello wörld", "", "a\u2028b\x85c\r\nd"])
@pytest.mark.parametrize("stop", [[], ["wö"], ["\u2028b"]])
def test_a_chat_streams_its_answer(backend, text, stop):
    chat = Chat(backend, max_tokens=40)
    heard = "".join(part.text for part in chat.send("Hi", Regex(re.escape(text)), stop=stop))
    expected = text.split(stop[0])[0] if stop else text
    assert heard == chat.turns[0].answer == chat.messages[-1]["content"] == expected


@pytest.mark.parametrize("stop", [[], ["b"], ["bab"], ["\ufffd"]])
@pytest.mark.parametrize("logprobs", [None, 0, 2])
def test_there_it_is_what_it_is_here(engine, remote, stop, logprobs):
    for grammar in (None, Regex("[ab]{2,30}")):
        for seed in range(3):
            options = options_of({"seed": seed, "grammar": grammar, "stop": stop, "logprobs": logprobs})
            options |= {"max_tokens": 12, "prompt_logprobs": 1, "ignore_eos": True}
            here = engine.generate(list(b"Say: "), **options)
            generation = remote.submit(list(b"Say: "), **options)
            heard, there = join(list(generation)), generation.result()
            assert (heard.text, heard.tokens, heard.logprobs) == (there.text, there.tokens, there.logprobs)
            assert (there.text, there.tokens, there.finish_reason) == (here.text, here.tokens, here.finish_reason)
            assert (there.stopped_by, there.jumped) == (here.stopped_by, here.jumped)
            assert [score.token for score in there.logprobs] == [score.token for score in here.logprobs]
            assert len(there.prompt_logprobs) == len(here.prompt_logprobs) == 4

"""Models that think, in states and chats: thoughts apart from values, kept as generated, never bound by forms."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest

from stemma.lang.chats.chat import Chat
from stemma.lang.remote.body import body_of
from stemma.lang.states.state import State
from stemma.runtime.engine import Engine
from tests.runtime.tongues.making import speaking
from tests.runtime.tongues.templates import COMMAND, OPENED

ASKED: dict[str, Any] = {"max_tokens": 24, "seed": 2, "temperature": 1.0, "finish_in_time": True}


@pytest.fixture(scope="module", params=[OPENED, COMMAND], ids=["opened", "marked words"])
def llm(request: Any) -> Iterator[Engine]:
    with speaking(request.param, kv_tokens=4096) as made:
        yield made


def test_a_form_binds_behind_the_thoughts(llm: Engine) -> None:
    with State(llm) as state:
        reply = state.user("Is it?").gen(Literal["yes", "no"], **ASKED)
        assert reply.result() in ("yes", "no")
        assert str(state) == reply.completion.text == reply.result()
        if llm.chat_template.source == OPENED:
            assert reply.thoughts


def test_parts_tell_thoughts_from_words(llm: Engine) -> None:
    with State(llm) as state:
        reply = state.user("Is it?").gen(Literal["yes", "no"], **ASKED)
        parts = list(reply)
        assert "".join(part.text for part in parts) == reply.result()
        assert "".join(part.thoughts for part in parts) == reply.thoughts
        assert [bool(part.text) for part in parts] == sorted(bool(part.text) for part in parts)


def test_what_was_thought_stays_in_the_chat_as_it_was_generated(llm: Engine) -> None:
    chat = Chat(llm)
    first = chat.send("Is it?", Literal["yes", "no"], **ASKED)
    first.result()
    tokens = chat.tokens
    prompt_len = first.usage.prompt_tokens
    assert tokens[prompt_len : prompt_len + 8] == first.completion.tokens[:8]
    second = chat.send("And now?", Literal["yes", "no"], **ASKED)
    second.result()
    assert second.usage.cached_tokens >= len(tokens) - 1 - len(first.completion.jumped)
    assert chat.tokens[: len(tokens)] == tokens
    if llm.tongue.closes:
        close = llm.tokenizer.special[llm.tongue.closes]
        assert chat.tokens.count(close) == 1, "the template closes the first answer, nothing the last one yet"
    assert chat.messages[1] == {"role": "assistant", "content": first.result()}
    chat.release()


def test_text_without_turns_is_all_words(llm: Engine) -> None:
    with State(llm) as state:
        reply = state.text("Once").gen(max_tokens=8, seed=1, temperature=1.0)
        reply.result()
        assert reply.thoughts == ""


def test_a_server_is_told_that_a_form_binds_behind_thoughts(llm: Engine) -> None:
    from stemma.fsm.regex import Regex
    from stemma.runtime.tongues.answer_grammar import AnswerGrammar

    body = body_of([1, 2], {"grammar": AnswerGrammar(llm.tongue, otherwise=Regex("a+"), standing="thinking")})
    assert (body["regex"], body["behind_thoughts"]) == ("a+", True)

"""What is of another type is refused by name where it is said, and the state or chat is as it was."""

from __future__ import annotations

from typing import Any

import pytest

from stemma.lang.chats.chat import Chat
from stemma.lang.programs.program import program
from stemma.lang.states.state import State
from stemma.runtime.errors import InvalidRequest


@pytest.mark.parametrize("value", [None, 5, b"x", ["x"], {"content": "x"}])
def test_text_is_text(llm: Any, value: Any) -> None:
    state, chat = State(llm), Chat(llm, max_tokens=2)
    for call in (state.user, state.system, state.assistant, state.text, chat.send):
        with pytest.raises(InvalidRequest) as refused:
            call(value)
        assert refused.value.param == "text"
    assert not state.messages
    assert not chat.messages
    assert isinstance(chat.send("hello").result(), str)


@pytest.mark.parametrize("options", [None, 5, "ab", ["a", 5], [b"a"], {"a": 1}, {"a", "b"}, [], ["a", "a"]])
def test_what_is_chosen_from_is_a_list_of_texts(llm: Any, options: Any) -> None:
    state = State(llm).user("which?")
    with pytest.raises(InvalidRequest) as refused:
        state.select(options)
    assert refused.value.param == "options"
    assert state.select(["a", "b"]).result() in ("a", "b")


async def test_other_options_are_checked_by_name(llm: Any) -> None:
    state = State(llm, max_tokens=2).user("hi")

    @program
    async def answer(s: State, question: str) -> str:
        return await s.user(question).gen(max_tokens=2)

    refused = {
        "by": lambda: state.select(["a", "b"], by="luck"),  # type: ignore[arg-type]
        "ttl": lambda: state.pinned(ttl="long"),  # type: ignore[arg-type]
        "concurrency": lambda: answer.map(llm, ["a"], concurrency="2"),  # type: ignore[arg-type]
        "max_tokens": lambda: state.gen(max_tokens=2.5),  # type: ignore[arg-type]
        "form": lambda: state.gen(5),  # type: ignore[call-overload]
        "index": lambda: Chat(llm).edit("0", "x"),  # type: ignore[arg-type]
        "messages": lambda: Chat.of_messages(llm, [{"role": "user", "content": 5}]),  # type: ignore[dict-item]
    }
    for param, call in refused.items():
        with pytest.raises(InvalidRequest) as error:
            call()
        assert error.value.param == param
    with pytest.raises(InvalidRequest) as error:
        await state.fork(["a"], lambda s, item: s.gen(), limit=1.5)  # type: ignore[arg-type, return-value]
    assert error.value.param == "limit"
    assert isinstance(await state.gen(), str)

"""Chats with tools: the model's calls run between its answers, with a limit and somebody who is asked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Literal

import pytest

from stemma.lang.chats.chat import Chat
from stemma.lang.values.tools import Tool
from stemma.runtime.errors import InvalidRequest, StateError, ToolLimit
from tests.runtime.tongues.templates import HERMES
from tests.stemma.lang.scripted import Scripted


def find(on: bool) -> str:
    """Find it."""
    if not on:
        raise LookupError("it is off")
    return "found"


def call(on: bool) -> str:
    return f'<tool_call>\n{{"name": "find", "arguments": {{"on": {str(on).lower()}}}}}\n</tool_call>'


def test_calls_are_run_until_there_is_an_answer() -> None:
    llm = Scripted(HERMES, f"Let me.\n{call(True)}", call(False), "It is.", "Bye.")
    chat = Chat(llm, tools=[find])
    reply = chat.send("Is it?")
    assert reply.result() == "It is."
    assert [made.result for made in reply.calls] == ["found", "Error: LookupError: it is off"]
    assert [type(made.error) for made in reply.calls] == [type(None), LookupError]
    assert [message["role"] for message in chat.messages] == ["user", *["assistant", "tool"] * 2, "assistant"]
    assert reply.usage.completion_tokens > reply.completion.usage.completion_tokens
    assert chat.turns[0].answer == "It is."
    assert chat.send("Bye").result() == "Bye."
    assert llm.shown(llm.asked[-1][0]).count("found") == 1
    chat.undo()
    chat.undo()
    assert chat.messages == []


async def test_it_is_awaited_and_iterated_with_calls_among_its_parts() -> None:
    script = [f"Let me.\n{call(True)}", "yes"]
    assert await Chat(Scripted(HERMES, *script), tools=[find]).send("Is it?") == "yes"
    parts = [part async for part in Chat(Scripted(HERMES, *script), tools=[find]).send("Is it?")]
    plain = list(Chat(Scripted(HERMES, *script), tools=[find]).send("Is it?"))
    assert [part[:5] for part in parts] == [part[:5] for part in plain]
    at = next(index for index, part in enumerate(parts) if part.called is not None)
    assert parts[at].called.result == "found"
    assert "".join(part.text for part in parts[:at]) == "Let me."
    assert parts[-1].so_far == parts[-1].value == "yes"


def test_the_answer_has_a_form() -> None:
    chat = Chat(Scripted(HERMES, call(True), "no"), tools=[find])
    assert chat.send("Is it?", Literal["yes", "no"]).result() == "no"


def test_there_is_a_limit_and_nothing_stays_of_what_passes_it() -> None:
    chat = Chat(Scripted(HERMES, *[call(True)] * 3), tools=[find], max_rounds=2)
    with pytest.raises(ToolLimit, match="3 answers in a row"):
        chat.send("Is it?").result()
    assert chat.messages == []


@pytest.mark.parametrize("kind", ["plain", "asynchronous"])
def test_somebody_is_asked(kind: str) -> None:
    asked = []

    def no(call: Any) -> bool:
        asked.append(str(call))
        return False

    async def later(call: Any) -> bool:
        return no(call)

    for wait in (lambda reply: reply.result(), lambda reply: asyncio.run(awaited(reply))):
        reply = Chat(
            Scripted(HERMES, call(True), "Well."), tools=[find], approve=no if kind == "plain" else later
        ).send("Is it?")
        assert wait(reply) == "Well."
        assert [made.result for made in reply.calls] == ["The user did not allow this call."]
    assert asked == ["find(on=True)"] * 2


async def awaited(reply: Any) -> Any:
    return await reply


def test_a_reply_that_is_given_up_leaves_no_trace() -> None:
    chat = Chat(Scripted(HERMES, call(True), "Well.", "Good."), tools=[find])
    for part in chat.send("Is it?"):
        if part.called is not None:
            break
    assert chat.messages == []
    reply = chat.send("Is it?")
    reply.cancel()
    with pytest.raises(StateError, match="cancelled"):
        reply.result()
    assert chat.messages == []


def test_who_asks_can_interrupt() -> None:
    def interrupt(call: Any) -> bool:
        raise KeyboardInterrupt

    chat = Chat(Scripted(HERMES, call(True), "Well."), tools=[find], approve=interrupt)
    with pytest.raises(KeyboardInterrupt):
        chat.send("Is it?").result()
    assert chat.messages == []
    assert chat.send("Is it?").result() == "Well."


def test_forks_and_files_keep_the_tools(tmp_path: Path) -> None:
    chat = Chat(Scripted(HERMES, call(True), "Well.", call(True), "Again."), tools=[find])
    chat.send("Is it?").result()
    assert chat.fork().send("Is it?").result() == "Again."
    chat.save(tmp_path / "chat.json")
    llm = Scripted(HERMES, call(True), "Good.")
    with pytest.raises(StateError, match=r"other tools.*find"):
        Chat.load(llm, tmp_path / "chat.json")
    loaded = Chat.load(llm, tmp_path / "chat.json", tools=[find])
    assert (loaded.messages, loaded.tokens) == (chat.messages, chat.tokens)
    assert loaded.send("Is it?").result() == "Good."
    with pytest.raises(StateError, match="calls are not taken"):
        Chat.of_messages(llm, chat.messages)


def test_what_cannot_be_run_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="no function to run"):
        Chat(Scripted(HERMES), tools=[Tool("find", "", {})])
    with pytest.raises(InvalidRequest, match="max_rounds"):
        Chat(Scripted(HERMES), tools=[find], max_rounds=0)

"""Chats: what a turn costs, going back, saving, and that a reply that fails leaves no trace."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from stemma.lang.chats.chat import Chat
from stemma.runtime.engine import Engine
from stemma.runtime.errors import InvalidRequest, ModelError, StateError

SYSTEM = "You are a very patient teacher of geography and you answer briefly. " * 3
OPTIONS = {"max_tokens": 8, "ignore_eos": True}


@pytest.fixture
def chat(llm):
    with Chat(llm, SYSTEM, **OPTIONS) as chat:
        yield chat


def test_every_turn_after_the_first_costs_only_its_new_tokens(chat):
    for text in ("one", "two", "three"):
        num_known = len(chat.tokens) if chat.turns else 0
        reply = chat.send(text)
        reply.result()
        assert reply.usage.cached_tokens >= num_known - 1
        assert reply.usage.prefilled_tokens <= len(chat.tokens) - num_known - len(reply.completion.tokens) + 1
    assert [turn.question for turn in chat.turns] == ["one", "two", "three"]


def test_chats_share_their_system_prompt(llm, chat):
    chat.send("one").result()
    reply = Chat(llm, SYSTEM, **OPTIONS).send("another")
    reply.result()
    assert reply.usage.cached_tokens > len(SYSTEM)


async def test_a_chat_in_asyncio(llm, chat):
    answer = await chat.send("one")
    assert chat.turns[-1].answer == answer
    parts = [part.text async for part in chat.send("two")]
    assert "".join(parts) == chat.turns[-1].answer


def test_messages(chat):
    answer = chat.send("one").result()
    assert chat.messages == [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": answer},
    ]


def test_undo_goes_back_to_the_last_token(chat):
    chat.send("one").result()
    tokens, messages = chat.tokens, chat.messages
    chat.send("two").result()
    assert chat.undo().question == "two"
    assert (chat.tokens, chat.messages) == (tokens, messages)
    chat.undo()
    with pytest.raises(StateError, match="no turn"):
        chat.undo()


def test_a_fork_goes_its_own_way(chat):
    chat.send("one").result()
    fork = chat.fork()
    mine, theirs = chat.send("mine"), fork.send("theirs")
    mine.result(), theirs.result()
    assert [turn.question for turn in chat.turns] == ["one", "mine"]
    assert [turn.question for turn in fork.turns] == ["one", "theirs"]
    assert theirs.usage.cached_tokens > len(SYSTEM)


def test_regenerate_replaces_the_answer(chat):
    chat.send("one").result()
    before = chat.tokens
    assert chat.regenerate().result() == chat.turns[0].answer
    assert chat.tokens == before
    other = chat.regenerate(temperature=5.0, seed=3)
    assert other.result() == chat.turns[0].answer
    assert len(chat.turns) == 1
    assert chat.tokens != before


def test_edit_replaces_a_turn_and_drops_what_followed(chat):
    for text in ("one", "two", "three"):
        chat.send(text).result()
    reply = chat.edit(1, "second")
    assert [turn.question for turn in chat.turns] == ["one", "two", "three"]
    reply.result()
    assert [turn.question for turn in chat.turns] == ["one", "second"]
    assert [message["content"] for message in chat.messages[1::2]] == ["one", "second"]
    chat.edit(-1, "last").result()
    assert [turn.question for turn in chat.turns] == ["one", "last"]
    with pytest.raises(StateError, match="no turn 2"):
        chat.edit(2, "x")


def test_a_cancelled_reply_leaves_no_trace(chat):
    chat.send("one").result()
    tokens = chat.tokens
    reply = chat.send("two", max_tokens=1000)
    with pytest.raises(StateError, match="under way"):
        chat.send("three")
    reply.cancel()
    assert chat.tokens == tokens
    assert len(chat.turns) == 1
    chat.regenerate(max_tokens=1000).cancel()
    assert chat.tokens == tokens
    assert chat.send("three").result()


def test_a_stopped_reply_keeps_what_was_said(chat):
    reply = chat.send("one", max_tokens=1500)
    for part in reply:
        if len(part.so_far) > 5:
            reply.stop()
    assert reply.completion.finish_reason == "abort"
    assert len(chat.turns[0].answer) < 1500
    assert chat.send("two").result()


def test_a_refused_question_leaves_no_trace(chat):
    with pytest.raises(InvalidRequest):
        chat.send("one", max_tokens=10**6)
    assert chat.turns == ()
    assert chat.send("two").result()


def test_a_saved_chat_comes_back_with_its_tokens_and_its_turns(llm, chat, tmp_path):
    for text in ("one", "zwei €", "three <|end|>"):
        chat.send(text).result()
    chat.save(tmp_path / "chat.json")
    again = Chat.load(llm, tmp_path / "chat.json", **OPTIONS)
    assert (again.tokens, again.messages) == (chat.tokens, chat.messages)
    reply = again.send("four")
    assert reply.result() == chat.send("four").result()
    assert reply.usage.cached_tokens >= len(chat.turns[2].before.transcript.base)
    for _ in range(2):
        assert again.undo()[:2] == chat.undo()[:2]
        assert again.tokens == chat.tokens


def test_other_files_are_refused(llm, chat, tmp_path):
    path = tmp_path / "chat.json"
    for text in ("", "[]", "{}", '{"format": "x"}'):
        path.write_text(text)
        with pytest.raises(StateError):
            Chat.load(llm, path)


def test_a_damaged_file_is_refused(llm, chat, tmp_path):
    chat.send("one").result()
    path = tmp_path / "chat.json"
    chat.save(path)
    value = json.loads(path.read_text())
    for damage in ({"messages": [{"self": 1}]}, {"turns": [{"cls": 1}]}, {"turns": 1}, {"tokens": None}):
        path.write_text(json.dumps({**value, **damage}))
        with pytest.raises(StateError, match="damaged"):
            Chat.load(llm, path)


def test_a_chat_of_another_tokenizer_is_refused_and_its_texts_can_be_taken(llm, chat, loaded, tmp_path):
    chat.send("one").result()
    path = tmp_path / "chat.json"
    chat.save(path)
    value = json.loads(path.read_text())
    path.write_text(json.dumps({**value, "tokenizer": "other"}))
    with pytest.raises(StateError, match="another tokenizer"):
        Chat.load(llm, path)
    assert Chat.of_messages(llm, value["messages"], **OPTIONS).messages == chat.messages


def test_a_chat_of_messages(llm):
    messages = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "1"},
        {"role": "user", "content": "two"},
        {"role": "assistant", "content": "2"},
    ]
    chat = Chat.of_messages(llm, messages, **OPTIONS)
    assert chat.messages == messages
    assert [turn[:2] for turn in chat.turns] == [("one", "1"), ("two", "2")]
    assert list(chat.tokens) == [
        *llm.chat_template.encode_chat(messages[:4]),
        *llm.tokenizer.encode_continuation("2"),
    ]
    chat.undo()
    assert chat.messages == messages[:3]
    with pytest.raises(StateError, match="last message"):
        Chat.of_messages(llm, messages[:4])
    with pytest.raises(StateError, match="by turns"):
        Chat.of_messages(llm, [messages[1], messages[1]])


def test_a_model_without_a_template_has_no_chat(loaded):
    with (
        Engine.of(replace(loaded, chat_template=None), kv_tokens=64) as engine,
        pytest.raises(ModelError, match="no chat template"),
    ):
        Chat(engine)


def test_a_step_of_a_program_on_a_chat(llm, chat):
    chat.send("one").result()
    state = chat.state
    assert state.user("which?").select(["a", "b"]).result() in ("a", "b")
    assert len(chat.turns) == 1

"""Tools in states: made of functions, told and called in the model's own tongue, results as its template has them."""

from __future__ import annotations

import asyncio
import datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator

from stemma.lang.states.state import State
from stemma.lang.values.tools import Tool, ToolCall, result_text, tools_of
from stemma.runtime.errors import IncompleteOutput, InvalidOutput, InvalidRequest, StateError
from tests.runtime.tongues.making import speaking
from tests.runtime.tongues.templates import CALLING, HERMES, MUTE, OPENED
from tests.stemma.lang.scripted import Scripted

CALL = '<tool_call>\n{"name": "find", "arguments": {"on": true}}\n</tool_call>'


class Even(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def even(cls, n: int) -> int:
        if n % 2:
            raise ValueError("odd")
        return n


def find(on: bool) -> dict[str, bool]:
    """Find it."""
    return {"was": on}


def clock() -> str:
    """What time it is."""
    return "noon"


# Tools ----------------------------------------------------------------
def test_a_function_is_told_by_its_name_docstring_and_types() -> None:
    def look_up(
        word: Annotated[str, Field(description="What to look up.")], day: datetime.date, most: int = 3
    ) -> list[str]:
        """Look a word up.

        In a book.
        """
        return [word, day.isoformat(), str(most)]

    told = Tool.of(look_up).told
    assert told["type"] == "function"
    assert (told["function"]["name"], told["function"]["description"]) == ("look_up", "Look a word up.\n\nIn a book.")
    assert told["function"]["parameters"] == {
        "type": "object",
        "properties": {
            "word": {"type": "string", "description": "What to look up."},
            "day": {"type": "string", "format": "date"},
            "most": {"type": "integer"},
        },
        "required": ["word", "day"],
        "additionalProperties": False,
    }


def test_arguments_come_as_values_of_their_types() -> None:
    def add(day: datetime.date, names: set[str], most: int = 3) -> Any:
        return day, names, most

    tool = Tool.of(add)
    call = ToolCall("1", "add", {"day": "2020-02-03", "names": ["a", "a"]}, tool)
    assert call.run_sync() == (datetime.date(2020, 2, 3), {"a"}, 3)
    assert str(call) == "add(day='2020-02-03', names=['a', 'a'])"


def test_a_validator_that_says_no_is_an_error_of_ours() -> None:
    def take(even: Even) -> int:
        return even.n

    tool = Tool.of(take)
    assert ToolCall("1", "take", {"even": {"n": 2}}, tool).run_sync() == 2
    with pytest.raises(InvalidOutput, match="odd"):
        ToolCall("1", "take", {"even": {"n": 1}}, tool).run_sync()


def test_asynchronous_functions_run_from_both_sides() -> None:
    async def wait(on: bool) -> bool:
        await asyncio.sleep(0)
        return not on

    call = ToolCall("1", "wait", {"on": True}, Tool.of(wait))
    assert call.run_sync() is False
    assert asyncio.run(call.run()) is False
    assert asyncio.run(ToolCall("1", "find", {"on": True}, Tool.of(find)).run()) == {"was": True}


def test_what_is_no_tool_is_refused() -> None:
    def untyped(a): ...

    def many(*names: str) -> None: ...

    for wrong, said in (
        ([untyped], "a type"),
        ([many], "by name"),
        ([find, find], "same name"),
        (["find"], "is a function"),
    ):
        with pytest.raises(InvalidRequest, match=said):
            tools_of(wrong)
    for name, schema, said in (("a b", {}, "letters"), ("f", {"type": "string"}, "must be an object")):
        with pytest.raises(InvalidRequest, match=said):
            Tool(name, "", schema)


def test_results_are_texts_or_json() -> None:
    assert result_text("as it is") == "as it is"
    assert result_text("a name \udc80 of a file") == "a name ? of a file"
    assert result_text({"day": datetime.date(2020, 1, 2), "n": [1]}) == '{"day":"2020-01-02","n":[1]}'
    with pytest.raises(InvalidRequest, match="JSON"):
        result_text(object())


# States ----------------------------------------------------------------
@pytest.mark.parametrize("name", ["mistral list", "harmony", "opened", "mute"])
def test_calls_of_any_tongue_go_on_from_what_was_generated(name: str) -> None:
    """A random model, its calls bound by the grammar: the next prompt begins with all that was generated."""
    source = MUTE if name == "mute" else CALLING[name]
    options: dict[str, Any] = {"max_tokens": 60, "seed": 3, "temperature": 1.0, "finish_in_time": True}
    with (
        speaking(source) as llm,
        State(llm, **options) as state,
    ):
        first = state.tools(find, clock).user("Is it?").call(required=True, max_calls=2)
        said = first.result()
        before = state.tokens
        assert 1 <= len(said.calls) <= 2
        assert said.value is None
        for call in said.calls:
            assert call.run_sync() in ({"was": True}, {"was": False}, "noon")
            state.result(call, "Zresult")
        assert state.tokens[: len(before)] == before
        rest = Scripted(source).shown(state.tokens[len(before) :])
        assert rest.count("Zresult") == len(said.calls)
        assert "find" not in rest.replace("functions.find", "").replace("<|start|>find", "")
        reply = state.call(max_tokens=4)
        reply.result()
        assert reply.usage.cached_tokens >= len(before) - 1 - len(first.completion.jumped)


def test_an_answer_without_calls_is_a_value() -> None:
    llm = Scripted(HERMES, "yes", f"Let me.\n{CALL}", '"no"')
    with State(llm) as state:
        said = state.tools(find).user("Is it?").call(Literal["yes", "no"]).result()
        assert said == ("yes", (), "yes")
        said = state.user("And now?").call().result()
        assert (said.text, [str(call) for call in said.calls], said.value) == ("Let me.", ["find(on=True)"], None)
        assert state.messages[-1].value["tool_calls"][0]["function"] == {"name": "find", "arguments": '{"on": true}'}
        state.result(said.calls[0], find(True))
        assert state.messages[-1].value == {
            "role": "tool", "content": '{"was":true}', "tool_call_id": said.calls[0].id,
        }  # fmt: skip


def test_the_prompt_is_what_the_template_writes() -> None:
    llm = Scripted(HERMES, CALL, "It is.")
    with State(llm) as state:
        (call,) = state.tools(find).user("Is it?").call().result().calls
        state.result(call, "R").call().result()
        tools = [Tool.of(find).told]
        written = {"id": call.id, "function": {"name": "find", "arguments": {"on": True}}}
        chat = [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": "", "tool_calls": [written]},
                {"role": "tool", "content": "R", "tool_call_id": call.id}]  # fmt: skip
        assert llm.shown(llm.asked[1][0]) == llm.chat_template.render(chat, tools=tools)


def test_thoughts_are_apart_from_calls_and_words_are_heard_as_they_come() -> None:
    llm = Scripted(OPENED, 'Hm.</think>\n\n<|call|>find {"on": true}<|/call|>')
    with State(llm) as state:
        reply = state.tools(find).user("Is it?").call()
        parts = list(reply)
        assert "".join(part.thoughts for part in parts) == reply.thoughts == "Hm."
        assert "".join(part.text for part in parts) == reply.result().text == ""
        assert [call.arguments for call in reply.result().calls] == [{"on": True}]


def test_tools_that_are_offered_bind_no_gen() -> None:
    llm = Scripted(HERMES, CALL)
    with State(llm) as state:
        assert state.tools(find).user("Is it?").gen().result() == CALL
        assert "grammar" not in llm.asked[0][1]


def test_calls_want_their_results_first() -> None:
    llm = Scripted(HERMES, CALL)
    with State(llm) as state:
        (call,) = state.tools(find).user("Is it?").call().result().calls
        for go_on in (lambda: state.user("x"), lambda: state.text("x"), lambda: state.gen()):
            with pytest.raises(StateError, match="has called find"):
                go_on()
        with pytest.raises(StateError, match="no call waits"):
            state.result(ToolCall("other", "find", {}, call.tool), "x")
        state.result(call, "x")
        with pytest.raises(StateError, match="no call waits"):
            state.result(call, "x")
        with pytest.raises(StateError, match="result is whole"):
            state.text("x")


def test_tools_come_first_and_are_needed() -> None:
    llm = Scripted(HERMES, "yes")
    with State(llm) as state:
        with pytest.raises(StateError, match="nothing to call"):
            state.user("Is it?").call()
        with pytest.raises(StateError, match="has begun"):
            state.copy().tools(find).assistant("It").call()
        state.gen().result()
        with pytest.raises(StateError, match="before the first answer"):
            state.tools(find)


def test_an_answer_that_is_cut_inside_a_call_leaves_the_state_as_it_was() -> None:
    llm = Scripted(HERMES, CALL[:40], finish_reason="length")
    with State(llm) as state:
        state.tools(find).user("Is it?")
        before = state.tokens
        with pytest.raises(IncompleteOutput, match="inside a call"):
            state.call(max_tokens=40).result()
        assert state.tokens == before


def test_a_tool_without_a_function_is_the_callers_to_run() -> None:
    llm = Scripted(HERMES, CALL)
    schema = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
    with State(llm) as state:
        (call,) = state.tools(Tool("find", "Find it.", schema)).user("Is it?").call().result().calls
        with pytest.raises(StateError, match="no function to run"):
            call.run_sync()
        assert state.result(call, 7).messages[-1].content == "7"

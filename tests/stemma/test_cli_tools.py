"""`stemma chat --tools`: functions of a file, calls that are shown and asked for."""

from __future__ import annotations

import io
import json
import math

import pytest
from rich.console import Console
from typer.testing import CliRunner

from stemma import cli
from stemma.lang.chats.chat import Chat
from stemma.lang.values.tools import Called, Tool, ToolCall
from stemma.runtime.engine import Engine
from stemma.runtime.errors import InvalidRequest
from stemma.terminal.tools import MAX_SHOWN, Approval, read_tools
from tests.runtime.tongues.templates import HERMES
from tests.stemma.lang.scripted import Scripted

TOOLS = """
import math
def _hidden(): ...
def find(on: bool) -> str:
    'Find it.'
    return 'found'
"""


def test_chat_takes_tools_of_a_file(tmp_path, monkeypatch, tiny_loaded):
    monkeypatch.setattr(cli, "make_engine", lambda model, adapters, options: Engine.of(tiny_loaded, kv_tokens=8192))
    path = tmp_path / "tools.py"
    path.write_text(TOOLS)
    arguments = ["chat", "--tools", str(path), "--yes", "--max-tokens", "4", "--json"]
    result = CliRunner().invoke(cli.app, arguments, input="hello\n\n")
    assert json.loads(result.stdout)["usage"]["completion_tokens"] <= 4
    assert [function.__name__ for function in read_tools(path)] == ["find"]
    path.write_text(f"{TOOLS}\ntools = [math.isqrt]")
    assert read_tools(path) == [math.isqrt]
    for text, said in (("", "no public function"), ("1 / 0", "ZeroDivisionError")):
        path.write_text(text)
        with pytest.raises(InvalidRequest, match=said):
            read_tools(path)
    with pytest.raises(InvalidRequest, match="no Python file"):
        read_tools(tmp_path / "none.py")


def test_calls_that_nobody_can_allow_are_refused(tmp_path):
    result = CliRunner().invoke(cli.app, ["chat", "--tools", str(tmp_path / "tools.py")], input="hello\n")
    assert isinstance(result.exception, InvalidRequest)
    assert "--yes" in str(result.exception)


def test_calls_are_shown_and_asked_for(monkeypatch):
    def find(on: bool) -> str: ...

    said = io.StringIO()
    console = Console(file=said, width=80)
    answers = iter(["n", "", "y", "a"])
    monkeypatch.setattr(console, "input", lambda prompt: next(answers))
    approval = Approval(console, always=False)
    call = ToolCall("1", "find", {"on": True}, Tool.of(find))
    assert [approval(call) for _ in range(5)] == [False, False, True, True, True]
    approval.show(Called(call, "x" * 1000))
    assert said.getvalue().count("find(on=True)") == 5
    assert said.getvalue().count("x") == MAX_SHOWN


def test_what_passes_a_limit_is_said_and_taken_back(capsys):
    def find(on: bool) -> str:
        return "found"

    written = '<tool_call>\n{"name": "find", "arguments": {"on": true}}\n</tool_call>'
    script = Scripted(HERMES, written, written, written, "Well.")
    console = Console(stderr=True, width=200)
    approve = Approval(console, always=True)
    chat = Chat(script, tools=[find], max_rounds=1, approve=approve)
    cli._tell(chat.send("hello"), as_json=False, console=console, approve=approve, model="tiny")
    said = capsys.readouterr().err
    assert "→ find(on=True)" in said
    assert "← found" in said
    assert "ToolLimit" in said
    assert chat.messages == []
    cli._tell(chat.send("hello"), as_json=True, console=console, approve=approve, model="tiny")
    line = json.loads(capsys.readouterr().out)
    assert (line["text"], line["calls"]) == ("Well.", [{"name": "find", "arguments": {"on": True}, "result": "found"}])

"""Servers of the Model Context Protocol: how they are found, started, asked and ended, and what becomes of failures."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from typer.testing import CliRunner

from stemma import cli
from stemma.lang.chats.chat import Chat
from stemma.lang.mcp.config import ProgramSpec, UrlSpec, read_servers
from stemma.lang.mcp.servers import McpServers
from stemma.lang.values.tools import Tool
from stemma.runtime.errors import InvalidRequest, McpError, ToolLimit
from stemma.terminal.tools import offered
from tests.runtime.tongues.templates import HERMES
from tests.stemma.lang.scripted import Scripted
from tests.stemma.server.live import wait_until

mcpserver = pytest.importorskip("mcp.server.mcpserver")
PROGRAM = Path(__file__).parent / "mcp_server.py"
FAILED = "Error: McpError: Error executing tool fail: it is not to be"
WORDS = {"command": sys.executable, "args": [str(PROGRAM)]}


def words() -> Any:
    """A server of this process."""
    namespace: dict[str, Any] = {"__name__": "words"}
    exec(compile(PROGRAM.read_text(encoding="utf-8"), str(PROGRAM), "exec"), namespace)
    return namespace["server"]


def named(servers: McpServers) -> dict[str, Tool]:
    return {tool.name: tool for tool in servers.tools}


def run(tool: Tool, **arguments: Any) -> Any:
    assert tool.run is not None
    return tool.run(**arguments)


# Configurations ----------------------------------------------------------------
def test_files_are_read_as_people_have_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMMA_TEST_KEY", "secret")
    listed = {
        "program": {"command": "run", "args": ["-x"], "env": {"KEY": "${STEMMA_TEST_KEY}"}, "autoApprove": []},
        "typed": {"type": "stdio", "command": "run", "cwd": "/tmp"},
        "here": {"url": "http://x/mcp", "headers": {"Authorization": "Bearer ${env:STEMMA_TEST_KEY}"}},
        "older": {"url": "http://x/sse"},
        "said": {"type": "sse", "url": "http://${STEMMA_TEST_NONE:-y}/mcp"},
        "off": {"command": "run", "disabled": True},
    }
    for section in ("mcpServers", "servers"):
        path = tmp_path / "servers.json"
        path.write_text(json.dumps({section: listed, "inputs": []}), encoding="utf-8")
        assert read_servers(path) == read_servers(str(path)) == read_servers(listed) == {
            "program": ProgramSpec("run", ("-x",), {"KEY": "secret"}),
            "typed": ProgramSpec("run", cwd="/tmp"),
            "here": UrlSpec("http://x/mcp", "http", {"Authorization": "Bearer secret"}),
            "older": UrlSpec("http://x/sse", "sse"),
            "said": UrlSpec("http://y/mcp", "sse"),
        }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "no server is listed"),
        ({"mcpServers": {}}, "no server is listed"),
        ({"a": {"args": []}}, "server a has neither a command"),
        ({"a": {"type": "pigeon", "url": "http://x"}}, "server a has neither"),
        ({"a": "run"}, "server a is no object"),
        ({"a": {"command": ["run"]}}, "a.command is no text"),
        ({"a": {"command": "run", "args": "-x"}}, "a.args is no list"),
        ({"a": {"command": "run", "env": {"N": 1}}}, "a.env.N is no text"),
        ({"a": {"command": "run", "env": ["N"]}}, "a.env is no object"),
        ({"a": {"command": "${STEMMA_TEST_NONE}"}}, "STEMMA_TEST_NONE"),
    ],
)
def test_what_is_no_configuration_is_refused_by_name(given: Any, said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        read_servers(given)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "servers.json"
    for text in ("{", "[]"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InvalidRequest, match=r"servers\.json"):
            read_servers(path)
    with pytest.raises(InvalidRequest, match=r"none\.json"):
        McpServers(tmp_path / "none.json")
    with pytest.raises(InvalidRequest, match="timeout"):
        McpServers({"words": words()}, timeout=0)


# Tools ----------------------------------------------------------------
@pytest.fixture
def servers() -> Iterator[McpServers]:
    with McpServers({"words": words()}) as made:
        yield made


def test_tools_are_told_and_run(servers: McpServers) -> None:
    tools = named(servers)
    assert tools["longer"].description == "Make a word longer."
    assert set(tools["longer"].schema["properties"]) == {"word", "times"}
    assert run(tools["longer"], word="ab", times=3) == "ababab"
    assert json.loads(run(tools["sizes"], words=["a", "bc"])) == {"a": 1, "bc": 2}
    assert run(tools["picture"]) == "[image: image/png, 5 bytes, which cannot be shown here]"
    with pytest.raises(McpError, match="it is not to be"):
        run(tools["fail"])
    with pytest.raises(McpError, match="longer"):
        run(tools["longer"], times=1)


def test_lists_that_change_are_read_anew(servers: McpServers) -> None:
    before = named(servers)
    run(before["grow"])
    assert named(servers).keys() - before.keys() == {"new"}


def test_names_that_two_servers_have_begin_with_their_servers() -> None:
    other = mcpserver.MCPServer("other")
    other.add_tool(lambda: "other", name="longer", description="")
    other.add_tool(lambda: "odd", name="odd/name", description="")
    with McpServers({"one": words(), "an other": other}) as servers:
        tools = named(servers)
        assert {"one__longer", "an_other__longer", "odd_name", "fail"} <= tools.keys()
        assert "longer" not in tools
        assert run(tools["an_other__longer"]) == "other"
        assert run(tools["odd_name"]) == "odd"


def test_schemas_that_cannot_be_enforced_are_known_by_their_names(caplog: pytest.LogCaptureFixture) -> None:
    odd = mcpserver.MCPServer("odd")
    odd.add_tool(lambda **given: json.dumps(given), name="odd", description="")
    (tool,) = odd._tool_manager.list_tools()
    tool.parameters = {"type": "object", "required": ["a"],
                       "properties": {"a": {"$dynamicRef": "#x"}, "b": {"type": "string"}}}  # fmt: skip
    with McpServers({"odd": odd}) as servers:
        (made,) = servers.tools
    assert made.function.schema["properties"] == {"a": {}, "b": {}}
    assert made.function.schema["required"] == ["a"]
    assert made.told["function"]["parameters"] == tool.parameters
    assert "odd are not enforced" in caplog.text


async def test_a_chat_calls_them(servers: McpServers) -> None:
    call = '<tool_call>\n{"name": "longer", "arguments": {"word": "ab"}}\n</tool_call>'
    wrong = '<tool_call>\n{"name": "fail", "arguments": {}}\n</tool_call>'
    awaited, waited = (Chat(Scripted(HERMES, call, wrong, "Well."), tools=servers.tools).send("Go.") for _ in range(2))
    assert await awaited == waited.result() == "Well."
    for reply in (awaited, waited):
        assert [made.result for made in reply.calls] == ["abab", FAILED]
    chat = Chat(Scripted(HERMES, *[call] * 3), tools=servers.tools, max_rounds=2)
    with pytest.raises(ToolLimit):
        await chat.send("Go.")


# Programs and URLs ----------------------------------------------------------------
def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_program_is_started_and_ended() -> None:
    with McpServers({"mcpServers": {"words": WORDS}}) as servers:
        tools = named(servers)
        pid = int(run(tools["process"]))
        assert pid != os.getpid()
        assert is_there(pid)
    wait_until(lambda: not is_there(pid))
    servers.close()
    with McpServers({"mcpServers": {"words": WORDS}}) as servers:
        tools = named(servers)
        with pytest.raises(McpError, match=r"'words' has ended.*this is the end"):
            run(tools["end"])
        with pytest.raises(McpError, match="'words' has ended"):
            run(tools["longer"], word="ab")


def test_what_does_not_start_says_why() -> None:
    with pytest.raises(McpError, match="'none' cannot be started: FileNotFoundError"):
        McpServers({"none": {"command": "/no/such/program"}, "words": words()})
    code = "import sys; print('no key', file=sys.stderr)"
    with pytest.raises(McpError, match=r"'wrong' cannot be started.*no key"):
        McpServers({"wrong": {"command": sys.executable, "args": ["-c", code]}})
    with pytest.raises(McpError, match=r"'silent' did not answer within 0\.3 seconds"):
        McpServers({"silent": {"command": "sleep", "args": ["60"]}}, timeout=0.3)
    with pytest.raises(McpError, match="'gone' cannot be started"):
        McpServers({"gone": {"url": "http://127.0.0.1:9/mcp"}})


@pytest.mark.parametrize("kind", ["http", "sse"])
def test_urls_are_reached(kind: str) -> None:
    served = words()
    app = served.streamable_http_app() if kind == "http" else served.sse_app()
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/{'mcp' if kind == 'http' else 'sse'}"
    try:
        with McpServers({"words": {"url": url, "headers": {"X-Key": "k"}}}) as servers:
            assert run(named(servers)["longer"], word="ab") == "abab"
    finally:
        server.should_exit = True
        thread.join(timeout=60)


def test_a_call_that_lasts_too_long_is_given_up() -> None:
    slow = mcpserver.MCPServer("slow")

    async def wait() -> str:
        await __import__("asyncio").sleep(60)
        return "late"

    slow.add_tool(wait, description="")
    with McpServers({"slow": slow}, timeout=1.0) as servers:
        (tool,) = servers.tools
        with pytest.raises(McpError, match="'slow' did not answer within 1 seconds: wait"):
            run(tool)


def test_a_command_has_them_beside_functions(tmp_path: Path) -> None:
    path, functions = tmp_path / "servers.json", tmp_path / "functions.py"
    path.write_text(json.dumps({"mcpServers": {"words": WORDS}}), encoding="utf-8")
    functions.write_text("def find(on: bool) -> str: ...", encoding="utf-8")
    with offered(functions, path) as tools:
        names = [tool.name if isinstance(tool, Tool) else tool.__name__ for tool in tools]
        assert names[0] == "find"
        assert "longer" in names
    with offered(None, None) as tools:
        assert tools == []
    nobody = CliRunner().invoke(cli.app, ["chat", "--mcp", str(path)], input="hello\n")
    assert isinstance(nobody.exception, InvalidRequest)

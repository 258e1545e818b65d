"""A server of the Model Context Protocol that others have written, in an environment of its own: the model calls it."""

from __future__ import annotations

import json

import pytest

from stemma.lang.mcp.servers import McpServers
from stemma.lang.states.state import State
from tests.contract.conftest import Served
from tests.contract.environments import interpreter

CLOCK = interpreter("mcp").parent / "mcp-server-time"
pytestmark = pytest.mark.skipif(not CLOCK.exists(), reason="made by python tests/contract/environments.py mcp")


def test_the_model_calls_a_clock(served: Served) -> None:
    with McpServers({"mcpServers": {"clock": {"command": str(CLOCK), "args": ["--local-timezone", "UTC"]}}}) as servers:
        tools = {tool.name: tool for tool in servers.tools}
        assert tools.keys() == {"get_current_time", "convert_time"}
        now, _ = tools.values()
        assert now.run is not None
        assert json.loads(now.run(timezone="Europe/Paris"))["timezone"] == "Europe/Paris"
        with State(served.engine).tools(now).user("What time is it in Paris?") as state:
            said = state.call(required=True, max_calls=1, max_tokens=60, finish_in_time=True, temperature=0).result()
            (call,) = said.calls
            assert call.name == "get_current_time"
            assert set(call.arguments) == {"timezone"}

"""Stemma: a radix-tree prefix-caching runtime for language models with structured generation.

Names are loaded when they are first used: importing this package imports neither torch nor a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stemma.lazy_names import loaded
from stemma.version import VERSION

if TYPE_CHECKING:
    from stemma.fsm.ebnf import EBNF as Grammar
    from stemma.fsm.regex import Regex
    from stemma.lang.chats.chat import Chat
    from stemma.lang.mcp.servers import McpServers
    from stemma.lang.programs.program import program
    from stemma.lang.remote.connect import connect
    from stemma.lang.states.state import State
    from stemma.lang.values.gen import Gen
    from stemma.lang.values.tools import Tool, ToolCall
    from stemma.runtime import errors
    from stemma.runtime.core.sampling import Sampling
    from stemma.runtime.core.sequence import Usage
    from stemma.runtime.engine import Completion, Engine

__version__ = VERSION
__all__ = [
    "Chat",
    "Completion",
    "Engine",
    "Gen",
    "Grammar",
    "McpServers",
    "Regex",
    "Sampling",
    "State",
    "Tool",
    "ToolCall",
    "Usage",
    "connect",
    "errors",
    "program",
]

_HOMES = {
    "Chat": "stemma.lang.chats.chat:Chat",
    "Completion": "stemma.runtime.engine:Completion",
    "Engine": "stemma.runtime.engine:Engine",
    "Gen": "stemma.lang.values.gen:Gen",
    "Grammar": "stemma.fsm.ebnf:EBNF",
    "McpServers": "stemma.lang.mcp.servers:McpServers",
    "Regex": "stemma.fsm.regex:Regex",
    "Sampling": "stemma.runtime.core.sampling:Sampling",
    "State": "stemma.lang.states.state:State",
    "Tool": "stemma.lang.values.tools:Tool",
    "ToolCall": "stemma.lang.values.tools:ToolCall",
    "Usage": "stemma.runtime.core.sequence:Usage",
    "connect": "stemma.lang.remote.connect:connect",
    "errors": "stemma.runtime.errors",
    "program": "stemma.lang.programs.program:program",
}


def __getattr__(name: str) -> object:
    return loaded(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])

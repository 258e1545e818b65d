"""A server of the Model Context Protocol for tests: small tools that answer, fail, last, or end it."""

from __future__ import annotations

import os
import sys

import anyio
from mcp.server.mcpserver import Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("words")


@server.tool()
def process() -> int:
    """The process that it runs in."""
    return os.getpid()


@server.tool()
def longer(word: str, times: int = 2) -> str:
    """Make a word longer."""
    return word * times


@server.tool()
def sizes(words: list[str]) -> dict[str, int]:
    """How long words are."""
    return {word: len(word) for word in words}


@server.tool()
def fail() -> str:
    """Fail."""
    raise ToolError("it is not to be")


@server.tool()
def picture() -> Image:
    """A picture."""
    return Image(data=b"12345", format="png")


@server.tool()
async def wait() -> str:
    """Last."""
    await anyio.sleep(60)
    return "late"


@server.tool()
def end() -> str:
    """End the server."""
    print("this is the end", file=sys.stderr, flush=True)
    os._exit(3)


@server.tool()
def grow() -> str:
    """Offer another tool."""
    server.add_tool(lambda: "new", name="new", description="It is new.")
    return "grown"


if __name__ == "__main__":
    server.run("stdio")

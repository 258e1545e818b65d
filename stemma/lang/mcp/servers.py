"""Servers of the Model Context Protocol, and their tools for chats and programs.

The SDK lives on asyncio: its servers run on a loop in a thread of their own, and a call waits for its result in
whatever thread it is made.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import re
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from stemma.lang.loops import LoopThread
from stemma.lang.mcp.config import ServerSpec, read_servers
from stemma.lang.mcp.connection import Connection
from stemma.lang.values.tools import Tool
from stemma.runtime.core.checking import checked, describe
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.tongues.functions import enforceable, function_of, widened

if TYPE_CHECKING:
    from mcp.types import Tool as ListedTool

MAX_NAME_LEN = 128
UNUSUAL = re.compile(r"[^A-Za-z0-9_.-]")

log = logging.getLogger("stemma.mcp")


class Offer(NamedTuple):
    """A tool of a server."""

    connection: Connection
    listed: ListedTool


class McpServers:
    """Servers that run, or are reached, until they are closed.

        with stemma.McpServers("server.json") as servers:
            chat = stemma.Chat(llm, tools=servers.tools)

    given: a file, or what would be in one: `{"mcpServers": {NAME: {"command": ..., "args": ..., "env": ...}}}`, or
    `{"url": ..., "headers": ...}`; also servers of this process, by name. timeout: seconds for a start, for a call.
    Raises InvalidRequest for what is no such configuration or without the SDK, McpError where a server does not start.
    """

    def __init__(self, given: str | Path | Mapping[str, Any], *, timeout: float = 60.0) -> None:
        seconds = checked(timeout, float, "timeout")
        if not seconds > 0:
            raise InvalidRequest(f"timeout is a number of seconds above 0; it is {describe(timeout)}", "timeout")
        if importlib.util.find_spec("mcp") is None:
            raise InvalidRequest("servers are run by the package mcp: pip install 'stemma-llm[mcp]'", "mcp")
        specs = read_servers(given)
        self._loop = LoopThread().__enter__()
        self._connections: list[Connection] = []
        self._close = weakref.finalize(self, _close, self._loop, self._connections)
        try:
            self._loop.wait(_start(specs, seconds, self._connections))
        except BaseException:
            self.close()
            raise

    @property
    def tools(self) -> list[Tool]:
        """What they offer now, asked anew each time: a chat keeps those that it was made with. Raises McpError.

        A name that two servers have begins with its server's, `SERVER__NAME`. Where a schema has a keyword that forms
        cannot enforce, the arguments of that tool are only known by their names.
        """
        offers = self._loop.wait(_offers(self._connections))
        names = Counter(_plain(offer.listed.name) for offer in offers)
        return [self._tool(offer, names[_plain(offer.listed.name)] > 1) for offer in offers]

    def _tool(self, offer: Offer, is_taken: bool) -> Tool:
        connection, listed = offer
        name = _plain(f"{connection.name}__{listed.name}" if is_taken else listed.name)
        function = function_of(name, listed.input_schema)
        if (reason := enforceable(function)) is not None:
            log.warning("the arguments of %s are not enforced: %s", name, reason)
            function = widened(function)

        def run(**arguments: Any) -> str:
            return self._loop.wait(connection.call(listed.name, arguments))

        return Tool(name, listed.description or listed.title or "", listed.input_schema, run, function.arguments)

    def close(self) -> None:
        """End them. Happens by itself where neither they nor their tools are used any more, and when Python ends."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _plain(name: str) -> str:
    """A name as functions have it."""
    return UNUSUAL.sub("_", name)[:MAX_NAME_LEN]


async def _start(specs: Mapping[str, ServerSpec], seconds: float, connections: list[Connection]) -> None:
    """All at once. Raises the first error."""
    connections += [Connection(name, spec, seconds) for name, spec in specs.items()]
    await asyncio.gather(*(connection.started() for connection in connections))


async def _offers(connections: Sequence[Connection]) -> list[Offer]:
    listed = await asyncio.gather(*(connection.tools() for connection in connections))
    return [Offer(connection, each) for connection, tools in zip(connections, listed, strict=True) for each in tools]


def _close(loop: LoopThread, connections: Sequence[Connection]) -> None:
    """End all of them. The collector may call this in any thread, that of the loop among them, which cannot wait."""

    async def stop() -> None:
        await asyncio.gather(*(connection.stop() for connection in connections))

    if not loop.is_here:
        return
    if loop.is_current:
        stopping = loop.loop.create_task(stop())
        stopping.add_done_callback(lambda ended: loop.stop_soon())
        return
    loop.wait(stop())
    loop.stop()

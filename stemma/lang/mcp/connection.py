"""One server while it is connected. A task of the loop owns it from its start to its end, as the SDK's scopes want it.

task    start -> handshake -> started ........ until `stop` ............ -> end: pipes closed, process gone
calls                                 call | call | ...   from other tasks of the loop
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import IO, TYPE_CHECKING, Any

from stemma.lang.mcp.config import LiveSpec, ProgramSpec, ServerSpec
from stemma.lang.mcp.content import result_of
from stemma.runtime.errors import McpError
from stemma.version import VERSION

if TYPE_CHECKING:
    from mcp import Client
    from mcp.types import CallToolResult, Tool

MAX_PAGES = 100
"""Of a list of tools: one that has no end is given up."""

CLOSED = -32000
"""The SDK's code for a connection that has ended."""

MAX_SAID = 400
"""Characters of what a program wrote to its standard error that an error tells."""


class Connection:
    """A server by its name in the configuration. seconds: for its start, for a list, for a call. Used in the loop."""

    def __init__(self, name: str, spec: ServerSpec, seconds: float) -> None:
        self.name = name
        self._spec = spec
        self._seconds = seconds
        self._client: Client | None = None
        self._started = asyncio.Event()
        self._stop = asyncio.Event()
        self._said = ""
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed where the task ends
        self._task = asyncio.create_task(self._run(), name=f"stemma-mcp-{name}")

    async def started(self) -> None:
        """Wait until it can be asked. Raises McpError."""
        waiting = asyncio.ensure_future(self._started.wait())
        done, _ = await asyncio.wait((waiting, self._task), timeout=self._seconds, return_when="FIRST_COMPLETED")
        waiting.cancel()
        if self._task in done:
            raise self._ended("cannot be started", self._task.exception())
        if not done:
            raise self._ended(f"did not answer within {self._seconds:g} seconds")

    async def stop(self) -> None:
        """End it; a program that does not end by itself is killed, with those that it has started."""
        self._stop.set()
        if self._client is None:
            self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def tools(self) -> list[Tool]:
        """What it offers now. Raises McpError."""
        found: list[Tool] = []
        cursor = None
        for _ in range(MAX_PAGES):
            page = await self._asked("its tools", self._connected().list_tools(cursor=cursor))
            found += page.tools
            if (cursor := page.next_cursor) is None:
                return found
        raise McpError(f"the server {self.name!r} lists its tools on more than {MAX_PAGES} pages")

    async def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """What a call of a tool results in, as text. Raises McpError, for what the tool says is an error too."""
        result: CallToolResult = await self._asked(name, self._connected().call_tool(name, dict(arguments)))
        if result.is_error:
            raise McpError(result_of(result) or f"{name} failed and says nothing of it")
        return result_of(result)

    def _connected(self) -> Client:
        if self._client is None or self._task.done():
            raise self._ended("has ended")
        return self._client

    async def _asked(self, what: str, answer: Any) -> Any:
        try:
            async with asyncio.timeout(self._seconds):
                return await answer
        except TimeoutError as error:
            seconds = f"{self._seconds:g} seconds"
            raise McpError(f"the server {self.name!r} did not answer within {seconds}: {what}") from error
        except Exception as error:  # whatever the SDK raises: of the protocol, of HTTP, of a result that is none
            if getattr(error, "code", None) == CLOSED:
                raise self._ended("has ended") from error
            raise McpError(f"the server {self.name!r} refuses {what}: {error}") from error

    async def _run(self) -> None:
        try:
            async with AsyncExitStack() as stack:
                self._client = await stack.enter_async_context(await self._client_of(stack))
                self._started.set()
                await self._stop.wait()
        finally:
            self._client = None
            self._said = self._said_last()
            self._errors.close()

    async def _client_of(self, stack: AsyncExitStack) -> Client:
        from mcp import Client, StdioServerParameters, stdio_client
        from mcp.client.sse import sse_client
        from mcp.client.streamable_http import streamable_http_client
        from mcp.types import Implementation

        spec = self._spec
        served: Any
        if isinstance(spec, LiveSpec):
            served = spec.server
        elif isinstance(spec, ProgramSpec):
            parameters = StdioServerParameters(
                command=spec.command, args=list(spec.args), env=dict(spec.env) or None, cwd=spec.cwd
            )
            served = stdio_client(parameters, errlog=self._errors)  # type: ignore[arg-type]  # only its number is used
        elif spec.type == "sse":
            served = sse_client(spec.url, headers=dict(spec.headers), timeout=self._seconds)
        else:
            import httpx2

            timeout = httpx2.Timeout(self._seconds, read=None)
            http = await stack.enter_async_context(httpx2.AsyncClient(headers=dict(spec.headers), timeout=timeout))
            served = streamable_http_client(spec.url, http_client=http)
        return Client(served, client_info=Implementation(name="stemma", version=VERSION))

    def _ended(self, what: str, error: BaseException | None = None) -> McpError:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        reason = f": {type(error).__name__}: {error}" if error is not None else ""
        said = self._said_last()
        return McpError(f"the server {self.name!r} {what}{reason}" + (f"; it said: {said}" if said else ""))

    def _said_last(self) -> str:
        """The end of what a program wrote to its standard error."""
        if self._errors.closed:
            return self._said
        end = self._errors.seek(0, 2)
        self._errors.seek(max(0, end - MAX_SAID))
        return self._errors.read().decode("utf-8", "replace").strip()

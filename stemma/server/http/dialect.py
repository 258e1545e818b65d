"""How an API tells what every answer of it has: errors, the events of a stream, and the stream's end."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from stemma.server.http.errors import ApiError
from stemma.server.http.replies import EVENTS, StreamForm, error_in_stream, event

DONE = b"data: [DONE]\n\n"


def openai_error(error: ApiError) -> dict[str, Any]:
    """As JSON values, in OpenAI's shape."""
    return {"error": {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}}


@dataclass(frozen=True, slots=True)
class Dialect:
    """An API's; unless it says otherwise, it does as OpenAI's does.

    error: the body of an answer that is an error, which is also a stream's event of it. event: a chunk of a stream as
    it is sent. end: what follows the last chunk. form: what streams are made of. id_headers: in which an answer says
    what its request is called.
    """

    error: Callable[[ApiError], Any] = openai_error
    event: Callable[[Any], bytes] = event
    end: bytes = DONE
    form: StreamForm = EVENTS
    id_headers: tuple[str, ...] = ("x-request-id",)

    async def events(self, chunks: AsyncGenerator[Any], request_id: str) -> AsyncGenerator[bytes]:
        """Chunks as events, then the end. An error on the way is an event of its own: the status has been sent."""
        try:
            async with aclosing(chunks):
                async for chunk in chunks:
                    yield self.event(chunk)
        except Exception as error:
            yield self.event(self.error(error_in_stream(error, request_id)))
        if self.end:
            yield self.end


OPENAI = Dialect()

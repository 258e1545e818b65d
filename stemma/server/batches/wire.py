"""Requests to /v1/batches."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from stemma.server.wire.fields import Wire

HOUR, MONTH = 3600, 30 * 86_400


class ExpiresAfter(Wire):
    """When a file goes, counted from its making."""

    seconds: Annotated[int, Meta(ge=HOUR, le=MONTH)]
    anchor: Literal["created_at"] | None = None


class BatchRequest(Wire):
    """A file of requests to answer. completion_window: how long it may take, such as 24h."""

    input_file_id: str
    endpoint: str
    completion_window: Annotated[str, Meta(pattern=r"^[1-9][0-9]{0,3}[mhd]$")]
    metadata: dict[str, str] | None = None
    output_expires_after: ExpiresAfter | None = None


class LineRequest(Wire):
    """A line of a batch's input."""

    custom_id: str
    method: str
    url: str
    body: dict[str, Any]

"""Errors and events in Anthropic's shape."""

from __future__ import annotations

from typing import Any

from stemma.server.http.dialect import Dialect
from stemma.server.http.errors import ApiError
from stemma.server.http.replies import typed_event

VERSION_HEADER = "anthropic-version"
"""All requests of Anthropic's clients have it."""

KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}
NAMES = {
    "max_completion_tokens": "max_tokens",
    "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    "reasoning_effort": "output_config.effort",
    "response_format": "output_config.format",
    "stop": "stop_sequences",
}
"""What chats call fields that have another name here."""

DETAILS = {"thread": {"error_code": "thread_unsupported_request"}}
"""By the field that is refused: what tells a client that it shall send the whole conversation instead."""


def anthropic_error(error: ApiError) -> dict[str, Any]:
    """As JSON values. There is no place for the name of the field to change but the message."""
    kind = KINDS.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
    told: dict[str, Any] = {"type": "error", "error": {"type": kind, "message": _message(error)}}
    if error.code == "unsupported_parameter" and error.param in DETAILS:
        told["error"]["details"] = DETAILS[error.param]
    return told | ({"request_id": error.request_id} if error.request_id else {})


def _message(error: ApiError) -> str:
    if error.code == "context_length_exceeded":  # agents look for these words, and shorten the conversation
        return f"prompt is too long: {error.message}"
    param = NAMES.get(error.param or "", error.param)
    return error.message if param is None or param in error.message else f"{param}: {error.message}"


ANTHROPIC = Dialect(error=anthropic_error, event=typed_event, end=b"", id_headers=("x-request-id", "request-id"))

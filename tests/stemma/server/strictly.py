"""Answers with state, held against the types of OpenAI's own package as a strict reader would."""

from __future__ import annotations

from typing import Any

from tests.stemma.server.shapes import faults

ADDED = {
    "Response": ("store",),
    "ResponseUsage": ("stemma",),
    "CompletionUsage": ("stemma",),
    "ChatCompletionMessage": ("reasoning_content",),
    "Choice": ("stop_reason", "token_ids"),
    "ResponseFunctionCallArgumentsDoneEvent": ("name",),
    "Logprob": ("bytes",),
    "LogprobTopLogprob": ("bytes",),
}


def strictly(kind: Any, value: Any) -> None:
    """Raises AssertionError where a field is missing, is unknown, or has another type."""
    assert faults(value, kind, ADDED) == []

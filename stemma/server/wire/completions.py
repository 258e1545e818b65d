"""POST /v1/completions as it comes over the wire."""

from __future__ import annotations

from typing import Any

from stemma.server.wire.common import GenerationRequest, NumChoices, NumLogprobs


class CompletionRequest(GenerationRequest):
    """A text to continue, or several, each as text or as token ids.

    logprobs: this many of the most likely tokens at each position. echo: the prompt is part of the answer.
    """

    prompt: str | list[Any] | None = None
    best_of: NumChoices | None = None
    echo: bool | None = None
    logprobs: NumLogprobs | None = None
    suffix: None = None

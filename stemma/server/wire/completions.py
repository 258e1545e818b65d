"""POST /v1/completions as it comes over the wire."""

from __future__ import annotations

from typing import Any

from stemma.server.wire.common import Count, GenerationRequest, NumChoices, NumLogprobs


class CompletionRequest(GenerationRequest):
    """A text to continue, or several, each as text or as token ids.

    logprobs: this many of the most likely tokens at each position. echo: the prompt is part of the answer.
    prompt_logprobs: as vLLM's: the prompt's own log-probabilities, with this many alternatives; scored_from: beginning
    with this token of it (1 if left out), so that what stands before is looked up in the cache.
    """

    prompt: str | list[Any] | None = None
    best_of: NumChoices | None = None
    echo: bool | None = None
    logprobs: NumLogprobs | None = None
    prompt_logprobs: NumLogprobs | None = None
    scored_from: Count | None = None
    suffix: None = None

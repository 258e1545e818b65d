"""Usage and log-probabilities as OpenAI's clients read them."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stemma.runtime.core.sampling import TokenLogprob
from stemma.runtime.core.sequence import Usage
from stemma.server.generation.token_texts import TokenTexts
from stemma.server.wire.common import StreamOptions


def usage_report(usages: Sequence[Usage], num_choices: int = 1, num_reasoning: int = 0) -> dict[str, Any]:
    """The usage of one request. usages: of its choices, `num_choices` to a prompt; a prompt counts once.
    num_reasoning: tokens of thoughts.

    `stemma` says where all the tokens came from, over all choices.
    """
    firsts = usages[::num_choices]
    total = sum(usages, Usage())
    prompt = sum(usage.prompt_tokens for usage in firsts)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": total.completion_tokens,
        "total_tokens": prompt + total.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": sum(usage.cached_tokens for usage in firsts)},
        "completion_tokens_details": {"reasoning_tokens": num_reasoning},
        "stemma": {
            "cached_tokens": total.cached_tokens,
            "replayed_tokens": total.replayed_tokens,
            "prefilled_tokens": total.prefilled_tokens,
            "decoded_tokens": total.decoded_tokens,
            "jumped_tokens": total.jumped_tokens,
            "recomputed_tokens": total.recomputed_tokens,
        },
    }


@dataclass(slots=True)
class StreamUsage:
    """What the chunks of a stream say of the usage: nothing, that it comes at the end, or how it stands."""

    options: StreamOptions
    num_prompt: int
    num_completion: int = 0

    def report(self) -> dict[str, Any]:
        """A chunk's field."""
        if self.options.continuous_usage_stats:
            total = self.num_prompt + self.num_completion
            counts = {"prompt_tokens": self.num_prompt, "completion_tokens": self.num_completion, "total_tokens": total}
            return {"usage": counts}
        return {"usage": None} if self.options.include_usage else {}


def logprob_entries(logprobs: Sequence[TokenLogprob], texts: TokenTexts) -> list[dict[str, Any]]:
    """Chat's `logprobs.content`."""
    return [
        {
            **_token(entry.token, entry.logprob, texts),
            "top_logprobs": [_token(token, logprob, texts) for token, logprob in entry.top],
        }
        for entry in logprobs
    ]


def _token(token: int, logprob: float, texts: TokenTexts) -> dict[str, Any]:
    return {"token": texts.text(token), "logprob": finite(logprob), "bytes": list(texts.data(token))}


def finite(logprob: float) -> float:
    """JSON has no infinity; OpenAI writes -9999 for it."""
    return max(logprob, -9999.0)


def new_id(prefix: str) -> str:
    """An id that nobody has seen."""
    return f"{prefix}{secrets.token_hex(16)}"


def now() -> int:
    """Unix time in seconds."""
    return int(time.time())

"""What the language asks of a model, wherever that runs: the engine of this process, or a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self, Unpack

from stemma.radix import Explanation, NextUse
from stemma.runtime.engine import Generation, RequestOptions
from stemma.runtime.model import ChatTemplate, Tokenizer
from stemma.runtime.tongues.tongue import Tongue


class Hold(Protocol):
    """Keeps the KV of one path of the cache's tree."""

    def fork(self) -> Self:
        """A second hold on the same path."""

    def release(self, next_use: NextUse = NextUse.UNKNOWN) -> None:
        """Let go. next_use: what is known of what was computed past the hold it was forked from."""


class Backend(Protocol):
    """A model with its text (stemma.Engine, stemma.connect)."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The model's tokenizer."""

    @property
    def chat_template(self) -> ChatTemplate | None:
        """The model's chat template, if it has one."""

    @property
    def tongue(self) -> Tongue:
        """What the model's answers are written with."""

    @property
    def has_marks(self) -> bool:
        """Whether requests go on from a prefix only where a mark was left, so that it is of use to say where
        (`marks_at`)."""

    def submit(self, prompt: Sequence[int], *, hold: Any = None, **options: Unpack[RequestOptions]) -> Generation:
        """Start one request; `hold` (from this back end) keeps its path at the end."""

    def submit_all(self, prompts: Sequence[Sequence[int]], **options: Unpack[RequestOptions]) -> list[Generation]:
        """Start several requests at once."""

    def explain(self, tokens: Sequence[int], namespace: str = "", lora: str | None = None) -> Explanation:
        """How much of these tokens is cached, computed with this adapter, and why it is not more."""

    def hold(self, pinned_for: float = 0.0) -> Hold:
        """A hold on nothing yet."""

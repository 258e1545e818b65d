"""From the type that a value shall have to a request's options, and from what the model said to the value."""

from __future__ import annotations

from typing import Any, Protocol

from stemma.runtime.engine import Completion, RequestOptions


class Reader(Protocol):
    """Makes values of outputs. name: what a report calls it."""

    @property
    def name(self) -> str:
        """What a report calls it."""

    @property
    def options(self) -> RequestOptions:
        """What makes the model say nothing else."""

    def read(self, completion: Completion) -> Any:
        """The value. Raises IncompleteOutput if the output ended too early."""


class Text:
    """Any text."""

    name = "text"
    options: RequestOptions = {}  # noqa: RUF012

    def read(self, completion: Completion) -> str:
        """The text itself."""
        return completion.text

"""What goes wrong for a user's reason: typed, and each message says what to do. Broken invariants are `assert`s instead."""

from __future__ import annotations


class StemmaError(Exception):
    """The base of every error that Stemma raises on purpose."""


class ModelError(StemmaError):
    """A model cannot be found, read or run."""


class InvalidRequest(StemmaError, ValueError):
    """A request asks for something impossible. `param` names the parameter to change."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class PromptTooLong(InvalidRequest):
    """The prompt, or the prompt with its `max_tokens`, fits neither the context nor the KV pool."""


class EngineClosed(StemmaError):
    """The engine was closed before the request ended."""


class EngineFailed(StemmaError):
    """The engine's loop stopped on an internal error, which is the cause of this one."""

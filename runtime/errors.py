"""What goes wrong for a user's reason: typed, and each message says what to do. Broken invariants are `assert`s."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self


class StemmaError(Exception):
    """The base of every error that Stemma raises on purpose."""


class ModelError(StemmaError):
    """A model cannot be found, read or run."""


class ModelNotFound(ModelError):
    """There is no model at this place, or it cannot be fetched from here."""


class ModelFileError(ModelError):
    """A file of a model is damaged, or lacks something that it must hold."""


class UnsupportedModel(ModelError):
    """The model is one that this version does not run, and would not run correctly."""


class ChatTemplateError(ModelError):
    """The messages do not suit the model's chat template, or it is no template."""


class InvalidRequest(StemmaError, ValueError):
    """A request asks for something impossible. `param` names the parameter to change."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class PromptTooLong(InvalidRequest):
    """The prompt, or the prompt with its `max_tokens`, fits neither the context nor the KV pool."""

    @classmethod
    def beyond(cls, limit: int, told: str, param: str) -> Self:
        """It begins with OpenAI's words, by which clients (LiteLLM, CrewAI, agents) know that they must shorten."""
        return cls(f"this model's maximum context length is {limit} tokens; {told}", param)


class PoolExhausted(StemmaError):
    """No KV block can be had: what is not in use is held by pins or sessions."""


class DeadlineMissed(StemmaError):
    """The first token of a request cannot come within its `ttft_ms`: told as soon as that is certain."""


class PinRefused(StemmaError):
    """A pin would keep more blocks than pins may: release one, or raise `pin_share`."""


class CacheFileError(StemmaError):
    """A file is no saved cache, is damaged, or is of another model; or a cache is too large to be saved."""


class GrammarFailed(StemmaError):
    """A grammar went past its limits while an output was generated."""


class RequestFailed(StemmaError):
    """One request met an internal error, which is the cause of this one. The engine and all other requests go on."""


class OutOfDeviceMemory(RequestFailed):
    """One request needs more of a GPU's memory than is free beside the KV pool. The engine and all other requests go
    on."""


class NoRoomForGraphs(UserWarning):
    """A GPU's memory has no room to record steps in. Operations are launched one by one instead: the same answers, and
    a host that takes longer for each step."""


class EngineClosed(StemmaError):
    """The engine was closed before the request ended."""


class EngineForked(EngineClosed):
    """An engine, or what belongs to one, was used in a process that was forked after it was made."""


class EngineFailed(StemmaError):
    """The engine stopped for everybody on an internal error that is nobody's own, which is the cause of this one."""


class RemoteError(StemmaError):
    """A server cannot be reached, refuses the caller, is busy, or failed. `status`: HTTP's, None without an answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class StateError(StemmaError):
    """A program's state, or a chat, was asked for something that it cannot do now."""


class ToolLimit(StemmaError):
    """In a chat, the model went on calling tools for as many answers as it may, and gave none without calls."""


class McpError(StemmaError):
    """A server of the Model Context Protocol cannot be started or reached, does not answer, or says that a call
    failed."""


class IncompleteOutput(StemmaError):
    """An output ended, at `max_tokens`, a stop string or cancelled, before it was a value of its form: `text`."""

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


class InvalidOutput(StemmaError):
    """An output is whole, but code of its type, such as a pydantic validator, refuses it. `text` is the output."""

    def __init__(self, message: str, text: str) -> None:
        super().__init__(message)
        self.text = text


class BranchError(StemmaError, ExceptionGroup[Exception]):
    """Branches of a fork failed; their siblings were cancelled. `exceptions` are what they raised.

    branches: the names of the branches that failed, one for each exception. An `except*` takes the group apart.
    """

    branches: tuple[str, ...]

    def __new__(cls, branches: Sequence[str], exceptions: Sequence[Exception]) -> Self:
        names = "; ".join(f"{name}: {_brief(error)}" for name, error in zip(branches, exceptions, strict=True))
        made = super().__new__(cls, f"failed in branch {names}", exceptions)
        made.branches = tuple(branches)
        return made


def _brief(error: Exception) -> str:
    text = str(error) if isinstance(error, StemmaError) else f"{type(error).__name__}: {error}"
    return text.splitlines()[0] if text else type(error).__name__

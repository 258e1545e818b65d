"""Errors as clients see them: a status for each of Stemma's own, the parameter to change. A `Dialect` writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from stemma.fsm.errors import FormError
from stemma.runtime.errors import (
    DeadlineMissed,
    EngineClosed,
    GrammarFailed,
    InvalidRequest,
    ModelError,
    PinRefused,
    PoolExhausted,
    PromptTooLong,
    StemmaError,
)

PIN_SECONDS = 30
"""When a pin that was refused may be asked for again: some end by themselves."""
NO_ROOM_FOR_PIN = "pins keep as much of the pool as they may (pin_share): release one, or ask again later"
"""How much others have pinned is not said."""


@dataclass(eq=False)
class ApiError(Exception):
    """An answer that is an error. `param` names the field of the request to change.

    request_id: which request it answers, once it does.
    """

    status: int
    message: str
    kind: str = "invalid_request_error"
    param: str | None = None
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    request_id: str = ""


class ClientGone(Exception):
    """The client closed the connection, or takes nothing any more."""


def bad_request(message: str, param: str | None, code: str | None = None) -> ApiError:
    """400: the request must change before it is sent again."""
    return ApiError(400, message, param=param, code=code)


def unavailable(message: str, seconds: int = 1) -> ApiError:
    """503: the same request may be sent again later."""
    return ApiError(503, message, "service_unavailable_error", headers={"retry-after": str(seconds)})


def too_many(message: str, seconds: int) -> ApiError:
    """429: back-pressure."""
    return ApiError(429, message, "rate_limit_error", code="rate_limit_exceeded", headers={"retry-after": str(seconds)})


def api_error(error: Exception) -> ApiError | None:
    """What a client is told of an error; None for one that is a fault of the server's."""
    match error:
        case ApiError():
            return error
        case PromptTooLong():
            return bad_request(str(error), error.param, "context_length_exceeded")
        case InvalidRequest():
            return bad_request(str(error), error.param)
        case FormError() | GrammarFailed() | ModelError():
            return bad_request(str(error), None)  # who knows which field asked for it has raised an ApiError before
        case DeadlineMissed():
            return ApiError(
                503, str(error), "service_unavailable_error", "ttft_ms", "deadline_missed", headers={"retry-after": "1"}
            )
        case PinRefused():
            return too_many(NO_ROOM_FOR_PIN, PIN_SECONDS)
        case PoolExhausted() | EngineClosed():
            return unavailable(str(error))
        case StemmaError():
            return ApiError(500, str(error), "server_error")
        case _:
            return None

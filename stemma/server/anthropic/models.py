"""GET /v1/models for those who ask with Anthropic's headers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from starlette.responses import Response

from stemma.server.generation.service import Service
from stemma.server.http.endpoint import RequestContext
from stemma.server.http.errors import bad_request
from stemma.server.http.replies import json_reply

MAX_LIMIT = 1000
DEFAULT_LIMIT = 20


async def models(context: RequestContext[Service, None]) -> Response:
    """A page of the model and its adapters. Raises ApiError."""
    service, query = context.service, context.request.query_params
    names = service.listed_names
    text = query.get("limit", str(DEFAULT_LIMIT))
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 6 else 0
    if not 1 <= limit <= MAX_LIMIT:
        raise bad_request(f"limit is a number from 1 to {MAX_LIMIT}", "limit")
    begin, end = 0, len(names)
    if (after := query.get("after_id")) is not None:
        begin = _place(names, after, "after_id") + 1
    if (before := query.get("before_id")) is not None:
        end = _place(names, before, "before_id")
        begin = max(begin, end - limit)
    page = names[begin:end][:limit]
    has_more = begin > 0 if before is not None else begin + len(page) < end
    data = [_model(service, name) for name in page]
    ends = {"first_id": page[0] if page else None, "last_id": page[-1] if page else None}
    return json_reply({"data": data, "has_more": has_more, **ends})


async def model(context: RequestContext[Service, None]) -> Response:
    """One of them. Raises ApiError (404)."""
    return json_reply(_model(context.service, context.service.name_of(context.request.path_params["model"])))


def _place(names: list[str], name: str, param: str) -> int:
    if name not in names:
        raise bad_request(f"{param} is the id of a model: {name!r} is not there", param)
    return names.index(name)


def _model(service: Service, name: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": name,
        "created_at": datetime.fromtimestamp(int(service.started), UTC).isoformat().replace("+00:00", "Z"),
        "lifecycle": "active",
        "deprecated_at": None,
        "retires_at": None,
        "line": None,
        "max_input_tokens": service.engine.context_length,
        "max_tokens": service.engine.context_length,
        "capabilities": _capabilities(service),
    }


def _capabilities(service: Service) -> dict[str, Any]:
    """What Anthropic's clients look for before they send it."""
    no, yes = {"supported": False}, {"supported": True}
    thinks = {"supported": service.prompter.tongue.reasoning is not None}
    efforts = {"supported": bool(service.prompter.names_read & {"reasoning_effort", "enable_thinking", "thinking"})}
    return {
        "batch": no,
        "citations": no,
        "code_execution": no,
        "context_management": no,
        "effort": {**efforts, **dict.fromkeys(("low", "medium", "high", "xhigh", "max"), efforts)},
        "image_input": no,
        "pdf_input": no,
        "server_tools": {**no, "code_execution": no, "web_search": no},
        "structured_outputs": yes,
        "thinking": {
            **thinks,
            "types": {"adaptive": thinks, "between_tools": yes, "disabled": yes, "enabled": thinks},
        },
    }

"""An endpoint asked from inside the server, for a caller who is not waiting at a connection."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, NamedTuple

from starlette.requests import Request

from stemma.server.http.decoding import BodyReader
from stemma.server.http.endpoint import Endpoint, RequestContext, error_reply, request_id
from stemma.server.http.keys import Tenant
from stemma.server.http.record import RequestRecord
from stemma.server.http.state import HttpState


class Answered(NamedTuple):
    """What the endpoint's caller would be told; body: JSON."""

    status: int
    body: bytes


async def ask_inside(endpoint: Endpoint, service: HttpState, tenant: Tenant, value: Any) -> Answered:
    """The whole answer to a body, of JSON values, that a tenant sent: an error too. Whoever is cancelled here cancels
    the answer."""
    assert endpoint.body is not None
    reader = BodyReader(service.config.strict_fields)
    scope = {"type": "http", "method": endpoint.method, "path": endpoint.path, "headers": [], "query_string": b""}
    record = RequestRecord(request_id(None), endpoint.method, endpoint.path, tenant=tenant.name)
    try:
        body = await service.work(reader.convert, value, endpoint.body)
        with ExitStack() as cleanup:
            context = RequestContext(service, tenant, body, Request(scope), endpoint.dialect, record, reader, cleanup)
            response = await endpoint.handler(context)
            return Answered(response.status_code, bytes(response.body))
    except Exception as error:
        refused = error_reply(error, endpoint)
        return Answered(refused.status_code, bytes(refused.body))
    finally:
        service.counts.generated(record)

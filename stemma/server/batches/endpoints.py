"""Where files and batches are."""

from __future__ import annotations

from stemma.server.batches import files
from stemma.server.batches.batches import BatchApi
from stemma.server.batches.runner import BatchRunner
from stemma.server.batches.wire import BatchRequest
from stemma.server.http.endpoint import Endpoint
from stemma.server.openai.queries import FilesQuery, PageQuery

BYTES = "application/octet-stream"
ANSWERED = ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses")
"""What the lines of a batch may ask."""


def batch_endpoints(runner: BatchRunner) -> tuple[Endpoint, ...]:
    """The endpoints of one server; its batches are the runner's."""
    kept = BatchApi(runner)
    return (
        Endpoint("POST", "/v1/files", files.upload, "Upload a file", bytes),
        Endpoint("GET", "/v1/files", files.listed, "The caller's files", query=FilesQuery),
        Endpoint("GET", "/v1/files/{file_id}", files.retrieve, "A file"),
        Endpoint("DELETE", "/v1/files/{file_id}", files.delete, "Delete a file"),
        Endpoint(
            "GET",
            "/v1/files/{file_id}/content",
            files.content,
            "A file's content",
            media_type=BYTES,
        ),
        Endpoint("POST", "/v1/batches", kept.create, "Have a file of requests answered", BatchRequest),
        Endpoint("GET", "/v1/batches", kept.listed, "The caller's batches", query=PageQuery),
        Endpoint("GET", "/v1/batches/{batch_id}", kept.retrieve, "A batch"),
        Endpoint("POST", "/v1/batches/{batch_id}/cancel", kept.cancel, "End a batch"),
    )

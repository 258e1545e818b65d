"""Where Ollama's API is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from stemma.server.http.dialect import Dialect
from stemma.server.http.endpoint import Endpoint
from stemma.server.http.errors import ApiError
from stemma.server.http.replies import LINES, line
from stemma.server.ollama import chat, embed, models
from stemma.server.ollama.wire import (
    OllamaChatRequest,
    OllamaCopyRequest,
    OllamaEmbeddingsRequest,
    OllamaEmbedRequest,
    OllamaGenerateRequest,
    OllamaShowRequest,
    OllamaTransferRequest,
)


def ollama_error(error: ApiError) -> dict[str, Any]:
    """A text, and no more."""
    return {"error": error.message}


OLLAMA = Dialect(error=ollama_error, event=line, end=b"", form=LINES)


ENDPOINTS = tuple(
    replace(row, dialect=OLLAMA)
    for row in (
        Endpoint("POST", "/api/chat", chat.chat, "Answer a chat, as Ollama does", OllamaChatRequest),
        Endpoint("POST", "/api/generate", chat.generate, "Answer a question, as Ollama does", OllamaGenerateRequest),
        Endpoint("POST", "/api/embed", embed.embed, "Texts as vectors, as Ollama does", OllamaEmbedRequest),
        Endpoint("POST", "/api/embeddings", embed.embeddings, "A text as a vector", OllamaEmbeddingsRequest),
        Endpoint("GET", "/api/tags", models.tags, "The models served, as Ollama tells them"),
        Endpoint("GET", "/api/ps", models.processes, "The models loaded, as Ollama tells them"),
        Endpoint("POST", "/api/show", models.show, "What a model is, as Ollama tells it", OllamaShowRequest),
        Endpoint("GET", "/api/version", models.version, "The version of Ollama's API", is_open=True),
        Endpoint("POST", "/api/pull", models.pull, "Whether a model is there", OllamaTransferRequest),
        Endpoint("DELETE", "/api/delete", models.delete, "Refused: models stay", OllamaTransferRequest),
        Endpoint("POST", "/api/push", models.push, "Refused: models are not sent", OllamaTransferRequest),
        Endpoint("POST", "/api/create", models.create, "Refused: models are not made", OllamaTransferRequest),
        Endpoint("POST", "/api/copy", models.copy, "Refused: models are not copied", OllamaCopyRequest),
        Endpoint("POST", "/api/blobs/{digest}", models.blob, "Refused: models are not taken"),
    )
)

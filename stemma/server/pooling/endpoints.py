"""Where embeddings and scores are."""

from __future__ import annotations

from stemma.server.http.endpoint import Endpoint
from stemma.server.pooling.embeddings import embeddings
from stemma.server.pooling.scores import rerank, score
from stemma.server.pooling.wire import EmbeddingsRequest, RerankRequest, ScoreRequest

ENDPOINTS = (
    Endpoint("POST", "/v1/embeddings", embeddings, "Texts as vectors", EmbeddingsRequest),
    Endpoint("POST", "/v1/rerank", rerank, "Documents by how well they answer a query", RerankRequest),
    Endpoint("POST", "/rerank", rerank, "Documents by how well they answer a query", RerankRequest),
    Endpoint("POST", "/v1/score", score, "How well texts answer others", ScoreRequest),
    Endpoint("POST", "/score", score, "How well texts answer others", ScoreRequest),
)

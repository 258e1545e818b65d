"""Where SGLang's API is."""

from __future__ import annotations

from stemma.server.http.endpoint import Endpoint
from stemma.server.sglang.generate import generate
from stemma.server.sglang.wire import GenerateRequest

ENDPOINTS = (Endpoint("POST", "/generate", generate, "Continue texts, as SGLang does", GenerateRequest),)

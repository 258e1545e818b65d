"""What the server says of tiers beneath the cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny
from stemma.server import ServerConfig

PROMPT = "a text that is long enough to be kept in blocks of four tokens, and to be asked for beneath the cache. " * 2


async def test_a_hit_beneath_is_a_cached_token_and_told(serve_with: Any, tmp_path: Path) -> None:
    loaded = tiny(ReferenceOps(torch.device("cpu")))
    with Engine.of(loaded, kv_tokens=4096, block_size=4, kv_disk=tmp_path) as engine:
        engine.generate(PROMPT, max_tokens=1)
    with Engine.of(loaded, kv_tokens=4096, block_size=4, kv_disk=tmp_path) as engine:
        async with serve_with(engine, ServerConfig()) as client:
            found = await client.post("/cache/explain", prompt=PROMPT)
            assert found["hit_len"] == 0
            assert found["beneath_len"] >= 200
            usage = (await client.post("/v1/completions", prompt=PROMPT, max_tokens=2, temperature=0))["usage"]
            assert usage["prompt_tokens_details"]["cached_tokens"] >= 200
            told = (await client.http.get("/metrics")).text
            assert f'stemma_tier_is_up{{tier="disk {tmp_path}"}} 1.0' in told
            hits = next(line for line in told.splitlines() if line.startswith("stemma_tier_hit_tokens_total"))
            assert float(hits.split()[1]) >= 200

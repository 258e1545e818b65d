"""Schemathesis tries what the OpenAPI document allows, on the tiny model: nothing of it is a 500, nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny
from tests.stemma.server.live import is_idle, live_server, wait_until

pytest.importorskip("schemathesis", reason="schemathesis is not installed")


def test_nothing_that_the_document_allows_is_a_500(tmp_path: Path) -> None:
    with Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=16384) as engine, live_server(engine) as live:
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", f"{live.url}/openapi.json",
            "--checks", "not_a_server_error", "--max-examples", "25", "--phases", "examples,fuzzing",
            "--exclude-path", "/cache/events", "--request-timeout", "60", "--seed", "1",
            "--suppress-health-check", "all",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=500, check=False)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
        assert httpx.get(f"{live.url}/health").status_code == 200
        for pin in httpx.get(f"{live.url}/cache/pins").json()["pins"]:
            assert httpx.delete(f"{live.url}/cache/pins/{pin['id']}").status_code == 200
        wait_until(lambda: is_idle(engine), seconds=60)
        assert not any(status == 500 for _, status in live.server._service.counts.answered)
        engine.with_cache(lambda cache: cache.check())

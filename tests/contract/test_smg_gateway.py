"""The SMG gateway before two replicas: the same beginning comes to the same replica and is cached there."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from stemma.kernels.reference import ReferenceOps
from stemma.runtime.engine import Engine
from stemma.runtime.model.tiny import tiny
from stemma.server import ServerConfig
from tests.stemma.server.live import live_server, wait_until

pytest.importorskip("smg", reason="smg is not installed")
GATEWAY = shutil.which("smg", path=str(Path(sys.executable).parent))
CONFIG = ServerConfig(model_name="tiny", shutdown_seconds=1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def replica() -> Engine:
    return Engine.of(tiny(ReferenceOps(torch.device("cpu"))), kv_tokens=16384)


@pytest.mark.skipif(GATEWAY is None, reason="the command smg is not installed")
def test_two_replicas_are_routed_by_prefix(tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        replica() as left, replica() as right,
        live_server(left, CONFIG) as one, live_server(right, CONFIG) as two,
        (tmp_path / "gateway.log").open("w") as log,
    ):  # fmt: skip
        command = [
            str(GATEWAY), "launch", "--worker-urls", one.url, two.url, "--policy", "cache_aware",
            "--host", "127.0.0.1", "--port", str(port), "--prometheus-port", str(free_port()),
        ]  # fmt: skip
        gateway = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            wait_until(lambda: httpx.get(f"{url}/readiness").status_code == 200, seconds=60)
            for turn in range(3):
                for text in ("alpha " * 20, "beta " * 30):
                    body: Any = {"model": "tiny", "messages": [{"role": "user", "content": text}], "max_tokens": 4}
                    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=60)
                    assert answer.status_code == 200, answer.text
                    usage = answer.json()["usage"]
                    if turn:
                        cached = usage["prompt_tokens_details"]["cached_tokens"]
                        assert cached == usage["prompt_tokens"] - 1
            asked = [live.server._service.counts.answered["/v1/chat/completions", 200] for live in (one, two)]
            assert sum(asked) == 6
        finally:
            gateway.kill()
            gateway.wait()

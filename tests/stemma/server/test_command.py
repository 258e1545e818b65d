"""`stemma serve` as people start it: a process with the real model, and a signal in the middle of a stream."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.stemma.server.live import wait_until

ASK = {"messages": [{"role": "user", "content": "Tell me a long story."}], "stream": True, "ignore_eos": True}
KEY = {"authorization": "Bearer secret"}


@contextmanager
def served(log: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The server's address and process, once it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "stemma", "serve", "--port", str(port), "--kv-tokens", "8192",
               "--model-name", "mine", "--api-key", "alice:secret", *options]  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: process.poll() is not None or httpx.get(f"{url}/health").status_code == 200, seconds=120)
        assert process.poll() is None, log.read_text()
        yield url, process
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_a_stream_lets_it_finish(tmp_path: Path, sent: signal.Signals) -> None:
    with served(tmp_path / "log") as (url, process):
        assert httpx.get(f"{url}/v1/models").status_code == 401
        assert httpx.get(f"{url}/v1/models", headers=KEY).json()["data"][0]["id"] == "mine"
        lines = []
        body = {**ASK, "max_tokens": 40}
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, headers=KEY, timeout=60) as response:
            for line in response.iter_lines():
                lines.append(line)
                if len(lines) == 6:
                    process.send_signal(sent)
        assert process.wait(timeout=30) == 0
    events = [line.removeprefix("data: ") for line in lines if line]
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["choices"][0]["finish_reason"] == "length"
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_signal_ends_what_is_too_long_and_refuses_what_is_new(tmp_path: Path) -> None:
    with served(tmp_path / "log", "--shutdown-seconds", "2") as (url, process):
        body = {**ASK, "max_tokens": 7000}
        with (
            httpx.Client(base_url=url, headers=KEY, timeout=60) as kept,
            httpx.stream("POST", f"{url}/v1/chat/completions", json=body, headers=KEY, timeout=60) as response,
        ):
            kept.get("/health")
            lines = response.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            started = time.monotonic()
            with suppress(httpx.TransportError):  # the connection was idle, and is closed already
                assert kept.post("/v1/completions", json={"prompt": "x"}).status_code == 503
            with suppress(httpx.RemoteProtocolError):  # cut off, if not told
                assert any("error" in line for line in lines)
            process.wait(timeout=30)
            assert time.monotonic() - started < 20
        assert process.returncode == 0

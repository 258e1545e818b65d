"""`stemma serve` as people start it: a process with the real model, and a signal in the middle of a stream."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

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
            with suppress(httpx.TransportError):  # the connection was idle, and is closed already
                assert kept.post("/v1/completions", json={"prompt": "x"}).status_code == 503
            with suppress(httpx.RemoteProtocolError):  # cut off, if not told
                assert any("error" in line for line in lines)
            process.wait(timeout=60)
        assert process.returncode == 0


LONG: dict[str, Any] = {"max_tokens": 5000, "ignore_eos": True}
LETTERS = {"type": "json_schema", "name": "text", "schema": {"type": "string", "minLength": 4000}}
TURN = [{"role": "user", "content": "Tell me a long story."}]
DIALECTS = {
    "/v1/chat/completions": {"messages": TURN, **LONG},
    "/v1/completions": {"prompt": "Once upon a time", **LONG},
    "/v1/responses": {"input": "Tell me a long story.", "max_output_tokens": 5000, "text": {"format": LETTERS}},
    "/generate": {"text": "Once", "sampling_params": {"max_new_tokens": 5000, "ignore_eos": True}},
}


def answer(url: str, path: str, body: dict[str, Any]) -> tuple[str, int, str]:
    """How an answer ended: its path, its status, and all of its text."""
    with httpx.stream("POST", f"{url}{path}", json=body, headers=KEY, timeout=120) as response:
        return path, response.status_code, "".join(response.iter_text())


def num_inside(url: str) -> int:
    info = httpx.get(f"{url}/server_info", headers=KEY, timeout=60).json()
    return int(info["num_running"] + info["num_waiting"])


def check_end(path: str, status: int, text: str, stream: bool) -> None:
    if not stream:
        assert status == 503, text
        error = json.loads(text)["error"]
        assert error["type"] == "service_unavailable_error"
        assert "shut down" in error["message"]
        return
    assert status == 200
    events = [block for block in text.split("\n\n") if block]
    if path == "/v1/responses":
        assert events[-1].startswith("event: response.failed\n")
        assert "shut down" in events[-1]
    else:
        assert events[-1] == "data: [DONE]"
        assert "shut down" in json.loads(events[-2].removeprefix("data: "))["error"]["message"]


@pytest.mark.parametrize(
    ("seconds", "signals"),
    [("1", [signal.SIGTERM]), ("600", [signal.SIGINT, signal.SIGTERM])],
)
def test_whoever_is_left_at_the_end_is_told(tmp_path: Path, seconds: str, signals: list[signal.Signals]) -> None:
    asked = [(path, body, stream) for path, body in DIALECTS.items() for stream in (False, True)] * 2
    log = tmp_path / "log"
    with served(log, "--shutdown-seconds", seconds) as (url, process), ThreadPoolExecutor(len(asked)) as threads:
        answers = [threads.submit(answer, url, path, {**body, "stream": stream}) for path, body, stream in asked]
        half = socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])))
        half.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer secret\r\n")
        half.sendall(b"content-length: 100\r\n\r\n{")
        wait_until(lambda: num_inside(url) == len(asked), 60)
        for sent in signals:
            process.send_signal(sent)
            time.sleep(0.3)
        assert process.wait(timeout=60) == 0
        for (_, _, stream), future in zip(asked, answers, strict=True):
            check_end(*future.result(timeout=60), stream)
        assert b"503 Service Unavailable" in half.recv(1 << 16)
        half.close()
    said = log.read_text()
    assert "Traceback" not in said
    assert "Error" not in said
    assert "Exception" not in said

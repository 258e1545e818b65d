"""llama.cpp's own server, built for this machine, behind the workers' protocol. Arguments: the model's file, the
server's binary, slots, tokens of a slot, threads, and whatever else the server shall be told.

The server is a process of its own that ends with this one. It keeps context checkpoints for layers that cannot go back,
and the prompts of slots that it takes for others in memory. Tokens are streamed, so the first one's time is a client's.
"""

from __future__ import annotations

import ctypes
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from protocol import Request, Timed, serve

PARENT_DIES = 1  # PR_SET_PDEATHSIG
START_LIMIT = 300.0

model, binary, slots, slot_tokens, threads, *more = sys.argv[1:]
pool = ThreadPoolExecutor(int(slots))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


port = free_port()
server = subprocess.Popen(
    [binary, "--model", model, "--parallel", slots, "--ctx-size", str(int(slots) * int(slot_tokens)),
     "--threads", threads, "--threads-batch", threads, "--host", "127.0.0.1",
     "--port", str(port), "--threads-http", slots, *more],
    stdout=sys.stderr, stderr=sys.stderr,
    preexec_fn=lambda: ctypes.CDLL(None).prctl(PARENT_DIES, signal.SIGKILL),
)  # fmt: skip


def is_ready() -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def complete(request: Request, prompt: list[int], started: float) -> tuple[list[int], float]:
    body: dict[str, Any] = {
        "prompt": prompt, "n_predict": request["max"], "temperature": 0, "samplers": ["temperature"],
        "cache_prompt": True, "ignore_eos": True, "return_tokens": True, "stream": True,
    }  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("POST", "/completion", json.dumps(body), {"Content-Type": "application/json"})
    tokens: list[int] = []
    first = 0.0
    for line in connection.getresponse():
        if not line.startswith(b"data: "):
            continue
        event = json.loads(line.removeprefix(b"data: "))
        if event.get("tokens") and not event.get("stop"):
            first = first or time.perf_counter() - started
            tokens += event["tokens"]
        if event.get("stop"):
            print("timings", json.dumps(event["timings"]), file=sys.stderr)
            break
    connection.close()
    return tokens, first


def run(requests: list[Request], prompts: list[list[int]]) -> Timed:
    started = time.perf_counter()
    done = list(pool.map(lambda request, prompt: complete(request, prompt, started), requests, prompts))
    return Timed([tokens for tokens, _ in done], [first for _, first in done])


deadline = time.perf_counter() + START_LIMIT
while not is_ready():
    if server.poll() is not None or time.perf_counter() > deadline:
        raise SystemExit(f"{binary} does not start")
    time.sleep(0.1)
serve(run)

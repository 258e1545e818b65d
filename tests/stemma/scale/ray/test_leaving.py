"""How a deployment ends: what is under way ends by itself, or is told; and the whole of it, by signals."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

pytest.importorskip("ray.serve", reason="ray[serve] is not installed: pip install 'stemma-llm[scale]'")

from ray.serve.exceptions import RayServeException
from ray.serve.schema import ApplicationStatus

from stemma.scale.ray import leaving as under_test
from stemma.scale.ray.leaving import Door, Leaving, is_going_on, leave_all
from stemma.scale.ray.run import LOCAL
from stemma.server.http.errors import ApiError
from tests.stemma.scale.ray.processes import alive, descendants
from tests.stemma.scale.ray.test_run import free_port, wait_until

LONG = 600.0


class Behind:
    """Stands for the handle of a deployment: what its replicas were told. runs: set once nothing runs there."""

    def __init__(self, *, is_there: bool = True) -> None:
        self.told: list[str] = []
        self.runs = asyncio.Event()
        self._is_there = is_there

    def broadcast(self, what: str) -> Any:
        if not self._is_there:
            raise RayServeException("no replicas")
        self.told.append(what)

        async def results_async(return_exceptions: bool) -> list[Any]:
            if what == "leave":
                await self.runs.wait()
            return []

        return SimpleNamespace(results_async=results_async)


async def test_who_is_inside_may_end_and_nobody_comes_in():
    door, behind = Door(), Behind()
    leaving: Any = Leaving(door, [behind])  # type: ignore[list-item]
    with door.enter(), door.enter():
        task = asyncio.create_task(leaving.leave(LONG))
        await asyncio.sleep(0)
        with pytest.raises(ApiError, match="shutting down") as refused, door.enter():
            pass
        assert refused.value.status == 503
    await asyncio.sleep(0.05)
    assert not task.done(), "a background answer of a replica was not waited for"
    behind.runs.set()
    await task
    assert behind.told == ["leave"]
    assert not door.is_over.is_set()


@pytest.mark.parametrize("insists", [True, False])
async def test_what_is_left_is_told_when_its_time_is_over_or_somebody_insists(insists):
    door, behind = Door(), Behind()
    leaving: Any = Leaving(door, [Behind(is_there=False), behind])  # type: ignore[list-item]
    with door.enter():
        task = asyncio.create_task(leaving.leave(LONG if insists else 0.05))
        if insists:
            await asyncio.sleep(0)
            leaving.hurry()
        await door.is_over.wait()
        assert behind.told == ["leave", "cut_short"]
    behind.runs.set()
    await task


async def test_what_does_not_end_though_it_is_told_is_waited_for_no_longer(monkeypatch):
    monkeypatch.setattr(under_test, "LAST_SECONDS", 0.05)
    leaving: Any = Leaving(Door(), [Behind()])  # type: ignore[list-item]
    await leaving.leave(0.0)


@pytest.mark.parametrize("error", [None, RayServeException("gone"), TimeoutError()])
def test_further_signals_insist_until_the_entrances_have_left(error, caplog):
    told: SimpleQueue[int | None] = SimpleQueue()
    asked: list[tuple[Any, ...]] = []
    hurried = threading.Event()

    def left(**_: Any) -> None:
        assert hurried.wait(LONG)
        if error is not None:
            raise error

    def broadcast(*what: Any) -> Any:
        asked.append(what)
        if what == ("leave", 5.0):
            return SimpleNamespace(results=left)
        return SimpleNamespace(results=lambda **_: hurried.set())

    told.put(15)
    leave_all(SimpleNamespace(broadcast=broadcast), 5.0, told)  # type: ignore[arg-type]
    assert asked == [("leave", 5.0), ("hurry",)]
    assert ("not all" in caplog.text) == (error is not None)


@pytest.mark.parametrize(
    ("known", "expected"),
    [({"stemma": ApplicationStatus.RUNNING}, True), ({"stemma": ApplicationStatus.DELETING}, False), ({}, False)],
)
def test_a_deployment_that_is_deleted_does_not_go_on(known, expected, monkeypatch):
    applications = {name: SimpleNamespace(status=status) for name, status in known.items()}
    monkeypatch.setattr(under_test.serve, "status", lambda: SimpleNamespace(applications=applications))
    assert is_going_on("stemma") is expected


def ask(url: str, **more: Any) -> dict[str, Any]:
    body = {"messages": [{"role": "user", "content": "Tell a story."}], "ignore_eos": True, "stream": True, **more}
    return {"url": f"{url}/v1/chat/completions", "json": body, "timeout": LONG}


def begin(url: str, has_begun: Callable[[], None], **more: Any) -> list[str]:
    """The lines of a stream."""
    with httpx.stream("POST", **ask(url, **more)) as answer:
        lines = []
        for line in answer.iter_lines():
            lines += [line.removeprefix("data: ")] if line.startswith("data: ") else []
            if len(lines) > 2:
                has_begun()
    return lines


def test_signals_end_a_deployment_of_two_replicas(tmp_path: Path) -> None:
    """The first one lets streams go on, the second one ends them; newcomers are refused, and nothing stays."""
    port, before = free_port(), descendants()
    url = f"http://127.0.0.1:{port}"
    options = {"replicas": 2, "replica-cpus": 1, "kv-tokens": 16384, "port": port, "shutdown-seconds": LONG}
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with (tmp_path / "said").open("w+") as said:
        command = [sys.executable, "-m", "stemma", "scale", "--address", LOCAL, *words]
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT)
        try:
            wait_until(lambda: answers(process, url), LONG)
            started = descendants() - before
            ended = end_by_signals(process, url)
        finally:
            process.kill()
            process.wait()
        said.seek(0)
        assert "Traceback" not in said.read()
    assert ended == 0
    assert len(started) > 5
    wait_until(lambda: not alive(started))


def answers(process: subprocess.Popen[Any], url: str) -> bool:
    assert process.poll() is None, "it ended before it began"
    try:
        return httpx.get(f"{url}/health", timeout=LONG).status_code == 200
    except httpx.HTTPError:
        return False


def end_by_signals(process: subprocess.Popen[Any], url: str) -> int:
    """The exit status."""
    streams: dict[str, list[str]] = {}
    begun = [threading.Event(), threading.Event()]

    def read(name: str, event: threading.Event, **more: Any) -> None:
        streams[name] = begin(url, event.set, **more)

    short = threading.Thread(target=read, args=("short", begun[0]), kwargs={"max_tokens": 60})
    long = threading.Thread(target=read, args=("long", begun[1]), kwargs={"max_tokens": 8000})
    for thread in (short, long):
        thread.start()
    for event in begun:
        assert event.wait(LONG)
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: httpx.post(**ask(url, max_tokens=1)).status_code == 503)
    refused = httpx.post(**ask(url, max_tokens=1))
    assert refused.json()["error"]["type"] == "service_unavailable_error"
    assert refused.headers["retry-after"] == "1"
    short.join()
    assert streams["short"][-1] == "[DONE]"
    assert json.loads(streams["short"][-2])["choices"][0]["finish_reason"] == "length"
    assert long.is_alive()
    process.send_signal(signal.SIGTERM)
    long.join()
    assert streams["long"][-1] == "[DONE]"
    assert "the server shut down" in json.loads(streams["long"][-2])["error"]["message"]
    return process.wait(LONG)

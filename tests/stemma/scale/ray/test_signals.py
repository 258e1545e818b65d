"""What signals do while a deployment starts: noted, looked at, and a second one is not to be withstood."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray.serve", reason="ray[serve] is not installed: pip install 'stemma-llm[scale]'")

from stemma.scale.ray.run import LOCAL, NoRay, run
from stemma.scale.ray.signals import ASKING, Signals
from stemma.scale.spec import spec_of
from tests.stemma.scale.ray.processes import alive, descendants
from tests.stemma.scale.ray.test_run import free_port, wait_until

GUARD_SECONDS = 300.0
"""Far more than anything here takes: nobody waits for ever."""


@pytest.fixture
def signals() -> Iterator[Signals]:
    before = {number: signal.getsignal(number) for number in ASKING}
    yield Signals()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", ASKING)
def test_a_signal_is_noted_and_ends_where_it_is_looked_at(signals, number):
    signals.listen()
    signals.look()
    os.kill(os.getpid(), number)
    with pytest.raises(SystemExit) as ended:
        signals.look()
    assert ended.value.code == 128 + number


def test_a_second_one_is_the_systems_until_all_has_started(signals):
    signals.listen()
    os.kill(os.getpid(), signal.SIGTERM)
    assert [signal.getsignal(number) for number in ASKING] == [signal.SIG_DFL] * 2
    with pytest.raises(SystemExit):
        signals.started()


def test_once_all_has_started_each_is_told(signals):
    signals.listen()
    signals.started()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        os.kill(os.getpid(), number)
    assert [signals.told.get(timeout=GUARD_SECONDS) for _ in range(3)] == [15, 2, 15]


def test_nobody_else_takes_sigterm_inside(signals):
    signals.listen()
    set_handler, ours = signal.signal, signal.getsignal(signal.SIGTERM)
    with signals.kept():
        assert signal.signal(signal.SIGTERM, sys.exit) == ours
        os.kill(os.getpid(), signal.SIGTERM)
    assert signal.signal is set_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with pytest.raises(SystemExit):
        signals.look()


def test_a_deployment_that_starts_ends_without_serving(tmp_path: Path) -> None:
    """The signal comes while Ray itself starts, which is where a handler that raises did most harm."""
    words = ["--replicas", "1", "--replica-cpus", "1", "--kv-tokens", "4096", "--port", str(free_port())]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    before, started = descendants(), set[int]()

    def note_until(condition: Callable[[], Any]) -> None:
        wait_until(lambda: started.update(descendants() - before) or condition(), GUARD_SECONDS)

    with (tmp_path / "said").open("w+") as said:
        command = [sys.executable, "-m", "stemma", "scale", "--address", LOCAL, *words]
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=subprocess.STDOUT)
        try:
            note_until(lambda: len(started) > 1)
            process.send_signal(signal.SIGTERM)
            note_until(lambda: process.poll() is not None)
        finally:
            process.kill()
            process.wait()
        said.seek(0)
        text = said.read()
    assert process.returncode == 128 + signal.SIGTERM, text
    assert "Traceback" not in text
    assert "replicas at" not in text
    wait_until(lambda: not alive(started))


@pytest.mark.parametrize("number", [None, signal.SIGTERM])
def test_what_fails_by_a_signal_that_others_had_too_is_no_error(number, monkeypatch, signals):
    def init(**_: object) -> None:
        if number is not None:
            os.kill(os.getpid(), number)
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr("ray.init", init)
    with pytest.raises(NoRay if number is None else SystemExit):
        run(spec_of({}), LOCAL, print)

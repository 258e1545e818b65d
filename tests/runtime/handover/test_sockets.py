"""A process that hangs or is killed in the middle holds nobody up, whichever way KV comes; nor does a silent caller."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from stemma.kernels.select import select_ops
from stemma.runtime.engine import Engine
from stemma.runtime.errors import InvalidRequest
from stemma.runtime.handover import DecodeEntrance, HandoverError, NetworkListener, Taker, call, connect, listen
from stemma.runtime.handover import network as over_network
from stemma.runtime.handover import shared_memory as over_memory
from stemma.runtime.handover.network import Address, address_of
from stemma.runtime.handover.protocol import Channel, Done, Piece, Refused
from stemma.runtime.handover.sockets import Door, connection_of
from stemma.runtime.model.tiny import tiny

KEY = "a key of both"
HALF = 1 << 18
OPTIONS = {"kv_tokens": 8192, "max_chunk": 32}
OTHER = """
import sys
from pathlib import Path
from stemma.kernels.select import select_ops
from stemma.runtime.engine import Engine
from stemma.runtime.handover import NetworkListener, PrefillService, listen
from stemma.runtime.handover.network import Address
from stemma.runtime.model.tiny import tiny
with Engine.of(tiny(select_ops("cpu", "cpu"), "llama"), kv_tokens=8192, max_chunk=32) as engine:
    if sys.argv[1] == "tcp":
        listener = NetworkListener(Address("127.0.0.1", 0), "a key of both")
        print(f"tcp://127.0.0.1:{listener.address.port}", flush=True)
    else:
        listener = listen(Path(sys.argv[1]))
        print(sys.argv[1], flush=True)
    PrefillService(engine).serve(listener)
"""


def prompt(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 256, length).tolist()


@pytest.fixture(scope="module")
def loaded():
    return tiny(select_ops("cpu", "cpu"), "llama")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch) -> None:
    for module in (over_network, over_memory):
        monkeypatch.setattr(module, "SILENCE", 1)
        monkeypatch.setattr(module, "PATIENCE", 1)


@pytest.fixture(params=["shared memory", "tcp"])
def other(request, tmp_path) -> Iterator[tuple[subprocess.Popen[str], Callable[[], Channel]]]:
    """A process that computes prompts, and how it is reached."""
    asked = "tcp" if request.param == "tcp" else str(tmp_path / "s")
    with subprocess.Popen([sys.executable, "-c", OTHER, asked], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        place = process.stdout.readline().strip()
        reach = (lambda: call(address_of(place), KEY)) if asked == "tcp" else lambda: connect(Path(place), HALF)
        yield process, reach
        process.kill()


class Stopping:
    """A connection to a process that gets a signal as soon as it has given something."""

    def __init__(self, channel: Channel, process: subprocess.Popen[str], number: signal.Signals) -> None:
        self._channel, self._process, self._number = channel, process, number
        self.room, self.send, self.close = channel.room, channel.send, channel.close

    def receive(self, seconds=float("inf")):
        message, data = self._channel.receive(seconds)
        if isinstance(message, Piece):
            self._process.send_signal(self._number)
        return message, data


def enter(engine: Engine, reach: Callable[[], Channel]) -> DecodeEntrance:
    saver, made = engine.saver(), []

    def make(loop):
        made.append(DecodeEntrance(loop, lambda _: Taker(reach(), saver), lambda: "there"))
        return made[0]

    engine.enter_by(make)
    return made[0]


def test_one_that_stops_in_the_middle_leaves_all_requests_to_be_computed_here(other, loaded, caplog):
    process, reach = other
    for number in (signal.SIGSTOP, signal.SIGKILL):
        prompts = [prompt(700, 100 * number + seed) for seed in range(12)]
        with Engine.of(loaded, **OPTIONS) as alone:
            expected = [alone.generate(ids, max_tokens=4).tokens for ids in prompts]
        with Engine.of(loaded, **OPTIONS) as engine:
            entrance = enter(engine, lambda to=number: Stopping(reach(), process, to))
            made = [engine.submit(ids, max_tokens=4) for ids in prompts]
            assert [each.result(60).tokens for each in made] == expected
            assert entrance.num_failed > 0
            assert "is computed here" in caplog.text
            entrance.close()
            engine.with_cache(lambda cache: cache.check())
            assert engine.stats().cache.leased == 0
        process.send_signal(signal.SIGCONT)


@pytest.mark.parametrize("kind", ["shared memory", "tcp"])
def test_one_that_hangs_is_not_asked_by_each_request_anew(kind, loaded, tmp_path, caplog):
    """The system lets others in for a process that was stopped; nobody greets them."""
    with ExitStack() as ending:
        hanging = ending.enter_context(
            socket.create_server(("127.0.0.1", 0)) if kind == "tcp" else socket.socket(socket.AF_UNIX)
        )
        if kind != "tcp":
            hanging.bind(str(tmp_path / "s"))
            hanging.listen(64)
        reach = (
            (lambda: call(Address(*hanging.getsockname()), KEY)) if kind == "tcp" else lambda: connect(tmp_path / "s")
        )
        engine = ending.enter_context(Engine.of(loaded, **OPTIONS))
        entrance = enter(engine, reach)
        for seed in range(6):
            engine.generate(prompt(200, seed), max_tokens=2)
        assert (entrance.num_handed, entrance.num_failed) == (0, 6)
        assert caplog.text.count("does not answer in time") + caplog.text.count("no Stemma") < 3
        assert "a moment ago" in caplog.text
        entrance.close()


@contextmanager
def both(kind: str, folder: Path) -> Iterator[tuple[Channel, Channel]]:
    """Two ends: of who was asked, and of who asks."""
    with ExitStack() as ending:
        door = NetworkListener(Address("127.0.0.1", 0), KEY) if kind == "tcp" else listen(folder / "s")
        ending.callback(door.close)
        there = call(door.address, KEY) if isinstance(door, NetworkListener) else connect(folder / "s", 1 << 16)
        here = next(iter(door))
        ending.callback(here.close)
        ending.callback(there.close)
        yield here, there


@pytest.mark.parametrize("kind", ["shared memory", "tcp"])
def test_who_asked_and_hears_nothing_waits_no_longer_and_who_listens_does(kind, tmp_path):
    with both(kind, tmp_path) as (here, there):
        heard = []
        listening = threading.Thread(target=lambda: heard.append(here.receive()[0]))
        listening.start()
        with pytest.raises(HandoverError, match="does not answer in time"):
            there.receive()
        there.send(Refused("later than a second"))
        listening.join(10)
        assert heard == [Refused("later than a second")]


def test_what_nobody_takes_is_not_sent_for_ever(tmp_path):
    with both("shared memory", tmp_path) as (here, _):

        def send() -> None:
            for _ in range(500):
                here.send(Done(), [bytes(1 << 16)])

        with pytest.raises(HandoverError, match="does not answer in time"):
            send()


def test_who_comes_to_the_socket_and_never_greets_keeps_nobody_out(tmp_path):
    listener = listen(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_UNIX) as odd:
        silent.connect(str(tmp_path / "s"))
        odd.connect(str(tmp_path / "s"))
        connection = connection_of(odd)
        connection.send_bytes(b"\xff is the name of nothing")
        connect(tmp_path / "s", HALF).close()
        next(iter(listener)).close()
        connection.close()
    listener.close()


def test_the_socket_of_one_that_was_killed_is_taken_over_and_that_of_one_that_runs_is_not(tmp_path):
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(tmp_path / "s"))
    listener = listen(tmp_path / "s")
    with pytest.raises(InvalidRequest, match="name another path"):
        listen(tmp_path / "s")
    connect(tmp_path / "s", HALF).close()
    listener.close()
    listener.close()
    assert not (tmp_path / "s").exists()
    (tmp_path / "s").write_text("a file of somebody's")
    with pytest.raises(InvalidRequest, match="name another path"):
        listen(tmp_path / "s")
    assert (tmp_path / "s").read_text() == "a file of somebody's"


def test_a_door_goes_on_when_nobody_could_be_let_in(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        tries = iter([OSError(24, "too many open files")])

        class Failing:
            def accept(self):
                for error in tries:
                    raise error
                return listening.accept()

            def shutdown(self, how: int) -> None:
                listening.shutdown(how)

            def close(self) -> None:
                listening.close()

        door: Door[socket.socket] = Door(Failing(), lambda reached: reached)  # type: ignore[arg-type, type-var]
        with socket.create_connection(listening.getsockname()):
            inside = next(iter(door))
            assert os.get_inheritable(inside.fileno()) is False
            inside.close()
        door.close()

"""Each thread that enters works on one device and stream, in order with what stands around; kernels are launched in one
place, which is called inside. torch's CUDA is a fake that keeps what each thread does: no GPU is needed."""

from __future__ import annotations

import ast
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import stemma.kernels.triton.home as home_module
from stemma.kernels.triton.home import Home

ROOT = Path(__file__).parents[3]


class FakeCuda:
    """Current device and stream of each thread; `waits` are (who waits, for whom)."""

    def __init__(self) -> None:
        self.here = threading.local()
        self.waits: list[tuple[str, str]] = []
        self.num_streams = 0

    def Stream(self, device: torch.device) -> FakeStream:  # as torch calls it
        self.num_streams += 1
        return FakeStream(self, f"own {self.num_streams} of {device}")

    def state(self) -> tuple[str, dict[str, Any]]:
        """Device, and stream of each device, of this thread."""
        return getattr(self.here, "device", "cuda:0"), self.here.__dict__.setdefault("streams", {})

    def current_stream(self, device: torch.device) -> Any:
        return self.state()[1].get(str(device), FakeStream(self, f"default of {device}"))

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        before, self.here.device = self.state()[0], str(device)
        yield
        self.here.device = before

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        device, streams = self.state()
        before, streams[device] = self.current_stream(torch.device(device)), stream
        yield
        streams[device] = before

    def launch(self) -> tuple[str, str]:
        """Where a launch of this thread would go, as Triton finds it."""
        device = self.state()[0]
        return device, self.current_stream(torch.device(device)).name


class FakeStream:
    def __init__(self, cuda: FakeCuda, name: str) -> None:
        self.cuda, self.name = cuda, name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FakeStream) and other.name == self.name

    __hash__ = None  # type: ignore[assignment]

    def wait_stream(self, other: FakeStream) -> None:
        self.cuda.waits.append((self.name, other.name))


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    for name in ("Stream", "current_stream", "device", "stream"):
        monkeypatch.setattr(home_module.torch.cuda, name, getattr(fake, name))
    return fake


def test_all_threads_launch_on_one_device_and_stream_and_leave_as_they_came(cuda: FakeCuda) -> None:
    home, seen = Home(torch.device("cuda:1")), []

    def work() -> None:
        with home.enter():
            seen.append(cuda.launch())
        seen.append(cuda.launch())

    work()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [("cuda:1", "own 1 of cuda:1"), ("cuda:0", "default of cuda:0")] * 2
    own, default = "own 1 of cuda:1", "default of cuda:1"
    assert cuda.waits == [(own, default), (default, own)] * 2, "what a thread launched before and after is in order"


def test_who_is_inside_enters_again_for_nothing(cuda: FakeCuda) -> None:
    home = Home(torch.device("cuda:0"))
    with home.enter():
        before = list(cuda.waits)
        with home.enter():
            assert cuda.launch() == ("cuda:0", "own 1 of cuda:0")
        assert cuda.waits == before


def test_two_homes_lie_within_each_other(cuda: FakeCuda) -> None:
    """A draft model on a card of its own."""
    first, second = Home(torch.device("cuda:0")), Home(torch.device("cuda:1"))
    with first.enter():
        with second.enter():
            assert cuda.launch() == ("cuda:1", "own 2 of cuda:1")
        assert cuda.launch() == ("cuda:0", "own 1 of cuda:0")


def test_a_device_without_an_index_is_no_home() -> None:
    with pytest.raises(AssertionError, match="current device"):
        Home(torch.device("cuda"))


def test_on_a_cpu_there_is_nothing_to_enter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home_module.torch, "cuda", None)
    with Home(torch.device("cpu")).enter():
        assert home_module.torch.cuda is None


def launches(tree: ast.AST) -> list[int]:
    """Lines with `kernel[grid](...)`: a call of something subscripted whose name is a kernel's."""
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Subscript)
        and isinstance(node.func.value, ast.Name | ast.Attribute)
        and ast.unparse(node.func.value).endswith("kernel")
    ]


def test_kernels_are_launched_in_one_place() -> None:
    found = {
        path.name: lines
        for path in (ROOT / "kernels").rglob("*.py")
        if (lines := launches(ast.parse(path.read_text("utf-8"))))
    }
    assert {name: len(lines) for name, lines in found.items()} == {"launches.py": 1}

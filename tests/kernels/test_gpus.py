"""Whatever a machine lacks for its GPU is told in one line that names what to install or to change. All of it is faked:
torch's version and build, its counts of devices, the driver's files."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from stemma.kernels import gpus, select
from stemma.kernels.gpus import UnknownBackend, check_gpu, check_triton
from stemma.kernels.tensors import definite

NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU\nand installed a driver"
OLD_DRIVER = "The NVIDIA driver on your system is too old (found version 11040)."


def fails(message: str, error: type[Exception] = RuntimeError) -> Callable[..., Any]:
    def fail(*given: object, **named: object) -> Any:
        raise error(message)

    return fail


@pytest.fixture
def torch_with(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A torch built for CUDA that sees so many cards, of which each can be used."""

    def fake(count: int = 0, *, built: str | None = "13.0", number: str = "2.11.0+cu130", **cuda: Any) -> None:
        monkeypatch.setattr(torch, "__version__", number)
        monkeypatch.setattr(torch.version, "cuda", built)
        monkeypatch.setattr(torch.version, "hip", None)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "init", lambda: None)
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H999")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
        monkeypatch.setattr(torch, "empty", lambda size, device: None)
        for name, value in cuda.items():
            monkeypatch.setattr(torch if name == "empty" else torch.cuda, name, value)

    return fake


def refusal(name: str = "cuda") -> str:
    with pytest.raises(UnknownBackend) as refused:
        check_gpu(name)
    assert refused.value.param == "device"
    message = str(refused.value)
    assert "\n" not in message
    return message


def test_a_card_that_works_is_taken(torch_with: Callable[..., None]) -> None:
    torch_with(2)
    assert check_gpu("cuda") is None
    assert check_gpu("cuda:1") is None


def test_a_torch_without_cuda(torch_with: Callable[..., None]) -> None:
    torch_with(0, built=None, number="2.11.0+cpu")
    assert "torch 2.11.0+cpu was built without CUDA" in refusal()
    assert "pytorch.org" in refusal("cuda:1")


def test_an_old_torch(torch_with: Callable[..., None]) -> None:
    torch_with(1, number="2.4.1+cu121")
    assert "torch 2.4.1+cu121 is too old" in refusal()
    assert "'torch>=2.10'" in refusal()


@pytest.mark.parametrize(
    ("init", "told"),
    [
        (fails(NO_DRIVER), ["Found no NVIDIA driver", "install the driver", "--gpus all"]),
        (fails("No HIP GPUs are available"), ["No HIP GPUs", "install the driver"]),
        (fails(OLD_DRIVER), ["is too old", "update the driver"]),
        (fails("an odd thing", AssertionError), ["an odd thing", "nvidia-smi"]),
        (lambda: None, ["CUDA_VISIBLE_DEVICES"]),
    ],
)
def test_no_card(torch_with: Callable[..., None], init: Callable[..., Any], told: list[str]) -> None:
    torch_with(0, init=init)
    message = refusal()
    assert [part for part in [*told, "device='cpu'"] if part not in message] == []


def test_an_index_that_there_is_not(torch_with: Callable[..., None]) -> None:
    torch_with(2)
    assert "it has cuda:0, cuda:1" in refusal("cuda:2")
    assert "'cuda:1'" in refusal("cuda:first")


@pytest.mark.parametrize(
    ("said", "told"), [("CUDA error: out of memory", "another process"), ("CUDA error: device not ready", "nvidia-smi")]
)
def test_a_card_that_cannot_be_used(torch_with: Callable[..., None], said: str, told: str) -> None:
    torch_with(1, empty=fails(f"{said}\nCompile with TORCH_USE_CUDA_DSA"))
    assert told in refusal()
    assert "TORCH_USE" not in refusal()


@pytest.mark.parametrize(("found", "fits"), [("3.5.1", False), ("3.6.0", True), ("3.7.1", True), ("4.0.0", True)])
def test_the_oldest_triton(monkeypatch: pytest.MonkeyPatch, found: str, fits: bool) -> None:
    monkeypatch.setattr(gpus, "find_spec", lambda name: object())
    monkeypatch.setattr(gpus, "version", lambda package: found)
    if fits:
        assert check_triton() is None
        return
    with pytest.raises(UnknownBackend, match=r"triton 3.5.1 is too old.*3\.6\.0"):
        check_triton()


def test_no_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "find_spec", lambda name: None)
    with pytest.raises(UnknownBackend, match="needs Triton"):
        check_triton()


@pytest.mark.parametrize(
    ("capability", "told"), [((7, 5), "capability 7.5 is not supported"), ((11, 0), "capability 11.0 is not supported")]
)
def test_a_card_without_kernels(
    torch_with: Callable[..., None], capability: tuple[int, int], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("triton", reason="triton has no build for this platform")
    torch_with(1, get_device_capability=lambda device: capability)
    with pytest.raises(UnknownBackend, match=told) as refused:
        select.select_ops("cuda")
    assert refused.value.param == "device"
    assert "backend='reference'" in str(refused.value)


def test_without_a_drivers_files_torch_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "DRIVER_FILES", (Path("/dev/no such driver"),))
    monkeypatch.setattr(select, "check_gpu", fails("asked"))
    assert select.choose_device() == "cpu"


def test_auto_stays_on_the_cpu_and_says_why(
    monkeypatch: pytest.MonkeyPatch, torch_with: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    torch_with(0, init=fails(NO_DRIVER))
    monkeypatch.setattr(gpus, "DRIVER_FILES", (Path("/dev/null"),))
    with caplog.at_level(logging.WARNING):
        assert select.choose_device() == "cpu"
    (record,) = caplog.records
    assert "on the CPU" in record.getMessage()
    assert "no NVIDIA driver" in record.getMessage()
    with pytest.raises(UnknownBackend, match="no NVIDIA driver"):
        select.choose_device(backend="triton")
    assert [select.choose_device(backend=name) for name in ("cpu", "reference")] == ["cpu", "cpu"]


def test_auto_takes_the_card_and_says_how_to_stay(
    monkeypatch: pytest.MonkeyPatch, torch_with: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    torch_with(1)
    monkeypatch.setattr(gpus, "DRIVER_FILES", (Path("/dev/null"),))
    monkeypatch.setattr(select, "_triton", fails("a back end was made, only to see whether one could be"))
    pytest.importorskip("triton", reason="triton has no build for this platform")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(multi_processor_count=132))
    with caplog.at_level(logging.WARNING):
        assert select.choose_device() == "cuda"
    (record,) = caplog.records
    assert "H999" in record.getMessage()
    assert "--device cpu" in record.getMessage()


@pytest.mark.parametrize(
    ("asked", "param"),
    [({"dtype": "float64"}, "dtype"), ({"kv_dtype": "int3"}, "kv_dtype"), ({"kv_dtype": "fp8"}, "kv_dtype")],
)
def test_what_a_card_does_not_compute_is_told_by_the_option(
    monkeypatch: pytest.MonkeyPatch, torch_with: Callable[..., None], asked: dict[str, str], param: str
) -> None:
    pytest.importorskip("triton", reason="triton has no build for this platform")
    torch_with(1, get_device_capability=lambda device: (8, 0))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(multi_processor_count=108))
    monkeypatch.setattr(gpus, "DRIVER_FILES", (Path("/dev/null"),))
    with pytest.raises(UnknownBackend) as refused:
        select.choose_device(backend="triton", **asked)
    assert refused.value.param == param
    with pytest.raises(UnknownBackend) as refused:
        select.select_ops("cuda", backend="triton", **asked)
    assert refused.value.param == param


def test_a_device_gets_the_index_of_the_thread_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    assert definite(torch.device("cuda")) == torch.device("cuda:3")
    assert definite(torch.device("cuda:1")) == torch.device("cuda:1")
    assert definite(torch.device("cpu")) == torch.device("cpu")

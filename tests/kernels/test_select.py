"""The choice of a back end."""

from __future__ import annotations

import logging

import pytest

from stemma.kernels import select
from stemma.kernels.cpu.machine.target import UnsupportedCPU
from stemma.kernels.select import UnknownBackend, select_ops


def test_the_compiled_kernels_serve_a_cpu() -> None:
    assert select_ops().name == "cpu"
    assert select_ops(device="cpu", backend="reference").name == "reference"
    assert select_ops(dtype="float64").name == "reference"


def test_a_machine_without_vectors_gets_the_reference_and_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse() -> None:
        raise UnsupportedCPU("no vectors here")

    monkeypatch.setattr(select, "host_target", refuse)
    with caplog.at_level(logging.WARNING):
        assert select_ops().name == "reference"
    assert "no vectors here" in caplog.text


@pytest.mark.parametrize(
    "options",
    [{"backend": "magic"}, {"backend": "cpu", "device": "meta"}, {"backend": "cpu", "dtype": "float16"},
     {"backend": "cpu", "kv_dtype": "int3"}, {"backend": "reference", "kv_dtype": "int8"}],
)  # fmt: skip
def test_what_there_is_not_is_refused(options: dict[str, str]) -> None:
    with pytest.raises(UnknownBackend):
        select_ops(**options)


def test_a_target_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMMA_TARGET", "abacus")
    for backend in ("auto", "cpu"):
        with pytest.raises(UnknownBackend, match="STEMMA_TARGET=abacus"):
            select_ops(backend=backend)

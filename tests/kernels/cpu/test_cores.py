"""How many threads there are by default."""

from __future__ import annotations

from pathlib import Path

import pytest

from stemma.kernels.cpu.machine import cores


def test_a_core_with_two_processors_counts_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for cpu, siblings in enumerate(("0,2", "1,3", "0,2", "1,3")):
        folder = tmp_path / f"cpu{cpu}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings)
    monkeypatch.setattr(cores, "CORES", tmp_path)
    monkeypatch.setattr(cores.sys, "platform", "linux")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for allowed, number in (({0, 1, 2, 3}, 2), ({0, 2}, 1), ({3}, 1), ({0, 3, 9}, 3)):  # of 9 nothing is known
        monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _, allowed=allowed: allowed, raising=False)
        assert cores.physical_cores() == number


def test_the_variable_of_other_libraries_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert cores.physical_cores() == 7


def test_slow_cores_are_left_out_where_linux_says_how_fast_they_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for cpu, capacity in enumerate((250, 250, 1024, 790)):
        folder = tmp_path / f"cpu{cpu}"
        folder.mkdir()
        (folder / "cpu_capacity").write_text(f"{capacity}\n")
    monkeypatch.setattr(cores, "CORES", tmp_path)
    monkeypatch.setattr(cores.sys, "platform", "linux")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for allowed, number in (({0, 1, 2, 3}, 2), ({0, 1}, 2), ({0, 1, 3}, 1)):
        monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _, allowed=allowed: allowed, raising=False)
        assert cores.physical_cores() == number


@pytest.mark.parametrize(
    ("known", "number"),
    [
        ({"hw.perflevel0.physicalcpu": 4, "hw.physicalcpu": 10}, 4),  # an M4: 4 fast cores, 6 slow ones
        ({"hw.physicalcpu": 6}, 6),  # an Intel
    ],
)
def test_a_macs_fast_cores_count(monkeypatch: pytest.MonkeyPatch, known: dict[str, int], number: int) -> None:
    """It has neither /sys nor affinities."""
    monkeypatch.setattr(cores.sys, "platform", "darwin")
    monkeypatch.setattr(cores, "sysctl", known.get)
    monkeypatch.delattr(cores.os, "sched_getaffinity", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert cores.physical_cores() == number

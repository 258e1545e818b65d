"""Tensors that are put back when they are taken: what a file holds is neither changed nor held twice."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from stemma.kernels.weights import StoredWeight
from stemma.runtime.model.undone import Undone, as_stored


def mapped(path: Path) -> StoredWeight:
    np.arange(1 << 20, dtype=np.float32).tofile(path)
    data = np.memmap(path, np.float32, "c").view(np.ndarray).reshape(1024, 1024)
    return StoredWeight("F32", (1024, 1024), data)


def resident(path: Path) -> int:
    """Kilobytes of the file's mapping that are this process's."""
    text = Path("/proc/self/smaps").read_text().split(str(path))[1]
    return int(text.split("Rss:")[1].split()[0])


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux what is in memory")
def test_a_copy_is_made_when_it_is_taken_and_its_source_let_go(tmp_path: Path) -> None:
    stored = mapped(tmp_path / "weights")
    expected = np.array(stored.data[::-1])
    assert resident(tmp_path / "weights") >= 4096
    tensors = Undone({"a": stored}, lambda name, tensor: tensor.rows(np.arange(1023, -1, -1)))
    assert as_stored(tensors)["a"] is stored
    assert np.array_equal(tensors["a"].data, expected)
    assert resident(tmp_path / "weights") < 100
    assert np.array_equal(tensors["a"].data, expected)


def test_what_is_not_changed_is_the_file_itself(tmp_path: Path) -> None:
    stored = mapped(tmp_path / "weights")
    tensors = Undone({"a": stored, "b": stored}, lambda name, tensor: tensor)
    assert tensors["a"] is stored
    assert [*tensors] == ["a", "b"]
    assert "a" in tensors
    assert "c" not in tensors

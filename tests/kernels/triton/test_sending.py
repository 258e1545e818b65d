"""Weights arrive as they were stored, copied once on the host; no buffer is written before what was in it was sent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import stemma.kernels.triton.sending as sending
from stemma.kernels.triton.sending import Sender
from stemma.kernels.weights import dequantize
from tests.kernels.stored import stored

CPU = torch.device("cpu")


class LateBuffer:
    """What is sent from it arrives when it is waited for: whoever writes before that destroys it."""

    made: list[LateBuffer]

    def __init__(self) -> None:
        self.bytes = torch.empty(sending.BUFFER_BYTES, dtype=torch.uint8)
        self.num_waits = self.num_marks = 0
        self.made.append(self)

    def wait(self) -> None:
        self.num_waits += 1
        assert self.num_waits <= self.num_marks, "waited for what was not sent"

    def mark(self) -> None:
        self.num_marks += 1


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> type[LateBuffer]:
    """Buffers of 4 KB, and threads that share 1 KB."""
    monkeypatch.setattr(sending, "BUFFER_BYTES", 4096)
    monkeypatch.setattr(sending, "LEAST_BYTES", 1024)
    monkeypatch.setattr(sending, "Buffer", LateBuffer)
    LateBuffer.made = []
    return LateBuffer


@pytest.mark.parametrize("staged", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize("kinds", [["BF16"], ["F16", "F16"], ["F32", "BF16"], ["Q8_0"], ["Q4_0", "BF16", "F32"]])
def test_what_arrives_is_what_is_stored(small: Any, staged: bool, dtype: torch.dtype, kinds: list[str]) -> None:
    parts = [stored(kind, (40 + 3 * index, 96), index) for index, kind in enumerate(kinds)]
    found = Sender(CPU, staged).dense(parts, dtype)
    wanted = torch.cat([torch.from_numpy(np.array(dequantize(part))).to(dtype) for part in parts])
    assert found.dtype == dtype
    assert torch.equal(found, wanted)


def test_no_number_is_copied_twice_nor_widened(small: type[LateBuffer], monkeypatch: pytest.MonkeyPatch) -> None:
    copied = []
    copyto = np.copyto
    monkeypatch.setattr(sending.np, "copyto", lambda into, value: (copied.append(into.nbytes), copyto(into, value)))
    monkeypatch.setattr(sending, "dequantize", None)
    Sender(CPU, staged=True).dense([stored("BF16", (100, 256))], torch.bfloat16)
    assert sum(copied) == 100 * 256 * 2
    assert len(copied) > len(small.made) * 2, "shared among threads"


def test_two_buffers_take_turns_and_each_is_waited_for(small: type[LateBuffer]) -> None:
    Sender(CPU, staged=True).dense([stored("BF16", (80, 256))], torch.bfloat16)
    assert [(buffer.num_marks, buffer.num_waits) for buffer in small.made] == [(5, 4), (5, 4)]


def test_a_row_that_is_longer_than_a_buffer_is_sent_all_the_same(small: Any) -> None:
    long = stored("F32", (2, 2048))
    assert torch.equal(Sender(CPU, staged=True).dense([long], torch.float32), torch.from_numpy(long.data))

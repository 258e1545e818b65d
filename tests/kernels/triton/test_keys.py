"""Sizes of graphs, and the room that they share: of loads as servers have them, and of odd limits."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
import torch

if find_spec("triton") is None:
    pytest.skip("triton has no build for this platform", allow_module_level=True)

from gpu_graph_keys import LIMITS, LOADS, POOL, simulate

from stemma.kernels.limits import StepLimits, Widths
from stemma.kernels.triton.keys import MOST_KEYS, MOST_PARTIALS, Key, Room, key_for, keys_of, reserved_bytes
from stemma.kernels.triton.step import StepBuffers
from stemma.kernels.triton.uploads import DEPTH, Buffer, CapacityError, Fields, Staging, Uploads


@pytest.mark.parametrize("load", LOADS)
def test_a_server_s_steps_need_few_graphs(load: str) -> None:
    """Only steps that keep a GPU busy longer than a host needs for their launches are no graph."""
    found = simulate(LOADS[load], 1500)
    assert found["keys used"] <= found["keys"] <= MOST_KEYS
    assert found["eager %"] < 25
    assert found["eager %"] == 0 or found["tokens of an eager step"] > 512


@pytest.mark.parametrize("most", [1, 7, 64, 300, 8192])
def test_keys_hold_what_a_step_may_have(most: int) -> None:
    keys = keys_of(StepLimits(max_batch_tokens=most))
    assert list(keys) == sorted(set(keys))
    for tokens in range(1, min(most, 256) + 1):
        key = key_for(keys, tokens, tokens)
        assert key is not None
        assert key.tokens >= tokens
    assert key_for(keys, 513, 1) is None


def test_the_smallest_that_fits() -> None:
    keys = keys_of(LIMITS)
    cases = {(1, 1): (1, 1), (9, 2): (12, 12), (100, 3): (128, 16), (100, 17): (128, 128), (300, 17): (384, 256)}
    assert {case: key_for(keys, *case) for case in cases} == {case: Key(*key) for case, key in cases.items()}
    assert key_for(keys, 512, 300) is None


def test_the_room_is_what_is_reserved() -> None:
    room = Room.of(LIMITS, [POOL], has_states=False)
    assert room.partials == MOST_PARTIALS
    assert Room.of(LIMITS._replace(context_length=500), [POOL], has_states=False).partials == 1
    buffers = StepBuffers(room, [POOL], torch.device("cpu"))
    widths = Widths(4096, 14_336, 128_256)
    less = reserved_bytes(room, [POOL], widths, LIMITS, 2)
    assert less > buffers.num_bytes + room.rows * widths.vocabulary * 4
    more = LIMITS._replace(max_batch_tokens=16_384)
    assert reserved_bytes(Room.of(more, [POOL], has_states=False), [POOL], widths, more, 2) > less


class Events:
    """torch.cuda, as far as staging needs it. Nothing is copied before it is waited for."""

    class Event:
        def __init__(self) -> None:
            self.is_done = True

        def record(self) -> None:
            self.is_done = False

        def query(self) -> bool:
            return self.is_done

        def synchronize(self) -> None:
            self.is_done = True


def test_staging_is_kept_and_waited_for() -> None:
    """A buffer is written again only when its copy is done, and made anew only for more than it holds."""
    staging, target = Staging(torch.device("cpu"), Events), torch.zeros(100, dtype=torch.int32)
    staging._is_pinned = True
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", lambda *size, dtype, pin_memory: torch.zeros(*size, dtype=dtype))
        for step in range(3 * DEPTH):
            staging.take(20 + step)[:20] = step
            staging.send(20 + step, target)
        assert (staging.num_allocations, staging.num_waits) == (DEPTH, 2 * DEPTH)
        staging.take(90)
        assert staging.num_allocations == DEPTH + 1
    assert int(target[0]) == 3 * DEPTH - 1


def test_fields_and_tails() -> None:
    uploads = Uploads({"a.ids": 5, "a.slots": 3}, torch.device("cpu"), tail=6)
    tail = uploads.tail()
    start = tail.add(np.arange(4, dtype=np.int32)), tail.add(np.array([7, 9], dtype=np.int32))
    assert uploads.send({"a.ids": np.array([1, 2], dtype=np.int32)}, {"a.slots": -1}, tail) == 8 + 4 + 6
    fields = Fields(uploads, "a.")
    assert fields["ids"].tolist() == [1, 2, 0, 0, 0]
    assert fields["slots"].tolist() == [-1] * 3
    assert fields.words[start[0] : start[0] + 4].tolist() == [0, 1, 2, 3]
    assert fields.words[start[1] : start[1] + 2].tolist() == [7, 9]
    for array, more in ((np.zeros(6, dtype=np.int32), tail), (np.zeros(1, dtype=np.int32), uploads.tail())):
        more.add(np.zeros(7, dtype=np.int32))
        with pytest.raises(CapacityError, match="plan of its own"):
            uploads.send({"a.ids": array}, {}, more)
    with pytest.raises(CapacityError, match="do not fit"):
        Uploads({"ids": 9}, torch.device("cpu"), buffer=Buffer.of(8, torch.device("cpu")))

"""Layers with a state against the reference, and the same bits however a step is cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.ops import CpuOps
from stemma.kernels.reference import ReferenceOps
from stemma.kernels.states import DeltaRuleSpec, LayerState, Mamba2Spec, StateShape
from tests.kernels.cpu.state_worlds import (
    LENGTHS,
    Part,
    StateWorld,
    conv_case,
    delta_case,
    scan_case,
    weight_of,
)
from tests.kernels.on_tensors import tensor_ops

CASES = {
    "conv of 2": conv_case(64, 2, "silu"),
    "conv of 3, odd, plain": conv_case(83, 3, "none", bias=False),
    "conv of 4, wide": conv_case(700, 4, "silu"),
    "conv of 4, 5 channels": conv_case(5, 4, "silu"),
    "delta": delta_case(DeltaRuleSpec(4, 4, 32, 32)),
    "delta, repeated": delta_case(DeltaRuleSpec(2, 6, 16, 48)),
    "delta, tiled": delta_case(DeltaRuleSpec(2, 6, 16, 48, "tile")),
    "delta, odd": delta_case(DeltaRuleSpec(3, 3, 23, 37)),
    "delta, narrow": delta_case(DeltaRuleSpec(1, 17, 128, 8)),
    "delta, deep": delta_case(DeltaRuleSpec(1, 1, 256, 128)),
    "scan": scan_case(Mamba2Spec(4, 32, 1, 16)),
    "scan, groups, limits": scan_case(Mamba2Spec(6, 64, 3, 128, 0.5, 1.0)),
    "scan, odd": scan_case(Mamba2Spec(18, 21, 2, 19)),
    "scan, deep": scan_case(Mamba2Spec(2, 16, 2, 256)),
}
CUT = ("conv of 3, odd, plain", "conv of 4, wide", "delta, tiled", "delta, odd", "scan, odd", "scan")


@pytest.fixture(scope="module")
def pools(ops: CpuOps) -> list[CpuOps]:
    """Of two, one and three threads."""
    return [ops, *(tensor_ops(ops.target, count, cache_dir=ops.cache_dir) for count in (1, 3))]


@pytest.mark.parametrize("name", CASES)
def test_equals_the_reference(ops: CpuOps, reference: ReferenceOps, name: str) -> None:
    case = CASES[name]
    mine, specified = StateWorld(ops, case, torch.float32), StateWorld(reference, case, torch.float64)
    steps = [
        [Part(0, 0, 1), Part(2, 0, 7, (2,)), Part(3, 0, 1)],
        [Part(1, 0, 3, (1, 2))],
        [Part(3, 1, 2), Part(2, 7, 20)],
        [Part(3, 2, 41, (3, 40))],
    ]
    for parts in steps:
        got, want = (world.run(parts).double() for world in (mine, specified))
        assert got.shape == want.shape
        torch.testing.assert_close(got, want, rtol=2e-5, atol=2e-5 * float(want.abs().max()))


@pytest.mark.parametrize("name", ["delta, odd", "scan, odd"])
def test_time_steps_and_weights_far_from_zero(ops: CpuOps, reference: ReferenceOps, name: str) -> None:
    worlds = StateWorld(ops, CASES[name], torch.float32), StateWorld(reference, CASES[name], torch.float64)
    for world in worlds:
        world.rows = [[inputs[0], *(200 * each for each in inputs[1:])] for inputs in world.rows]
    got, want = (world.whole().double() for world in worlds)
    torch.testing.assert_close(got, want, rtol=2e-5, atol=2e-5 * float(want.abs().max()))


@pytest.mark.parametrize("name", CUT)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_pieces_chunks_company_and_threads_never_change_a_bit(
    pools: list[CpuOps], name: str, data: st.DataObject
) -> None:
    case = CASES[name]
    whole = torch.split(StateWorld(pools[0], case, torch.float32).whole(), LENGTHS)
    world = StateWorld(data.draw(st.sampled_from(pools)), case, torch.float32)
    at = [0] * len(LENGTHS)
    while any(position < length for position, length in zip(at, LENGTHS, strict=True)):
        open_ = [i for i, length in enumerate(LENGTHS) if at[i] < length]
        chosen = data.draw(st.lists(st.sampled_from(open_), min_size=1, unique=True))
        parts = []
        for i in chosen:
            end = data.draw(st.integers(at[i] + 1, LENGTHS[i]))
            inside = st.sets(st.integers(at[i] + 1, end - 1), max_size=3) if end - at[i] > 1 else st.just(set())
            parts.append(Part(i, at[i], end, tuple(sorted(data.draw(inside)))))
            at[i] = end
        got = torch.split(world.run(parts), [part.end - part.first for part in parts])
        for part, rows in zip(parts, got, strict=True):
            assert torch.equal(rows, whole[part.sequence][part.first : part.end])


@pytest.mark.parametrize("name", CUT)
def test_a_slot_is_the_same_bytes_whoever_wrote_it(ops: CpuOps, name: str) -> None:
    one, two = (StateWorld(ops, CASES[name], torch.float32) for _ in range(2))
    one.run([Part(3, 0, 41, (1, 2, 3, 10))])
    for first, end in ((0, 1), (1, 2), (2, 3), (3, 10), (10, 11), (11, 41)):
        two.run([Part(2, 0, 3), Part(3, first, end)])
    for end in (1, 2, 3, 10, 41):
        assert one.kept(3, end) == two.kept(3, end)


@pytest.mark.parametrize("name", CUT)
def test_lesser_instruction_sets_give_the_same_bits(lesser: Target, ops: CpuOps, name: str) -> None:
    other = tensor_ops(lesser, 2, cache_dir=ops.cache_dir)
    one, two = (StateWorld(each, CASES[name], torch.float32) for each in (ops, other))
    assert torch.equal(one.whole(), two.whole())


@pytest.mark.parametrize("name", CUT)
def test_a_step_computed_again_gives_the_same(ops: CpuOps, name: str) -> None:
    world = StateWorld(ops, CASES[name], torch.float32)
    world.run([Part(3, 0, 9)])
    slots, free = list(world.slots), list(world.free)
    first = world.run([Part(3, 9, 30, (12, 13))])
    world.slots, world.free = slots, free
    assert torch.equal(world.run([Part(3, 9, 30, (12, 13))]), first)


def test_slots_go_out_and_come_back(ops: CpuOps) -> None:
    case = CASES["delta, odd"]
    one, two = (StateWorld(ops, case, torch.float32) for _ in range(2))
    one.run([Part(3, 0, 9)])
    data = ops.states.read(one.states, [one.slots[3], 3])
    two.slots[3] = 7
    ops.states.write(two.states, [7, 8], data)
    assert torch.equal(two.run([Part(3, 9, 10)]), one.run([Part(3, 9, 10)]))
    assert one.states.format == two.states.format
    with pytest.raises(ValueError, match="another model"):
        ops.states.write(two.states, [7], data)


def test_a_pool_too_large_for_the_machine_is_refused(ops: CpuOps) -> None:
    with pytest.raises(MemoryError, match="does not fit"):
        ops.states.allocate(StateShape(1 << 30, (LayerState(recurrent=(16, 128, 128)),)))


def test_slots_begin_at_cache_lines_one_behind_the_other(ops: CpuOps) -> None:
    states = ops.states.allocate(StateShape(5, (LayerState((5, 2), (1, 3, 7)), LayerState((16, 3)))))
    assert states.memory.ctypes.data % 64 == 0
    assert states.stride % 64 == 0
    assert all(address % 64 == 0 for address in (*states.conv, *states.recurrent))
    assert states.num_bytes == 5 * states.stride
    assert not states.memory.any()


@pytest.mark.parametrize("gate_first", [False, True])
@pytest.mark.parametrize(("rows", "groups", "part", "whole"), [
    (1, 1, 64, True), (7, 16, 128, False), (3, 5, 21, True), (40, 3, 7, False), (200, 2, 16, True),
])  # fmt: skip
def test_gated_norms_equal_the_reference(
    ops: CpuOps, reference: ReferenceOps, rows: int, groups: int, part: int, whole: bool, gate_first: bool
) -> None:
    width = groups * part
    both = 3 * torch.randn(rows, 2 * width + 5)
    x, gate = both[:, 2 : 2 + width], both[:, 5 + width :]
    weight = weight_of((width if whole else part,), 1)
    got = ops.states.gated_norm(x, gate, ops.norm(weight, 1e-5), groups, gate_first=gate_first)
    norm = reference.norm(weight, 1e-5)
    want = reference.states.gated_norm(x.double(), gate.double(), norm, groups, gate_first=gate_first)
    torch.testing.assert_close(got.double(), want, rtol=3e-6, atol=1e-6)
    alone = torch.clone(got[-1:])
    again = ops.states.gated_norm(x[-1:], gate[-1:], ops.norm(weight, 1e-5), groups, gate_first=gate_first)
    assert torch.equal(again, alone)


@pytest.mark.parametrize("activation", ["none", "sigmoid", "silu"])
@pytest.mark.parametrize(("rows", "width"), [(1, 5), (1, 5000), (9, 37), (100, 256)])
def test_gates_equal_the_reference(
    ops: CpuOps, reference: ReferenceOps, activation: Any, rows: int, width: int
) -> None:
    both = 8 * torch.randn(rows, 2 * width + 1)
    x, gate = both[:, :width], both[:, 1 + width :]
    want = reference.states.gate(x.double(), gate.double(), activation)
    torch.testing.assert_close(ops.states.gate(x, gate, activation).double(), want, rtol=1e-6, atol=0)

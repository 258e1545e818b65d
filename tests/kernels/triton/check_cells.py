"""The recurrences in cells of 64 tokens: against the reference, and that ends of steps and pieces do not change a
bit where they divide no cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from check_rows import stored
from check_states import Both, both_handles, columns, pieces_of
from triton_support import DEVICE, EXACT, FLOATS, TOLERANCE, assert_close, metadata_of

from stemma.kernels.ops import Int32Array, KVShape
from stemma.kernels.states import ZEROS, DeltaRuleSpec, LayerState, Mamba2Spec, StateMetadata, StateShape
from stemma.kernels.triton.keys import Pool, Room
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.plan import NOTHING
from stemma.kernels.triton.rounds import Part, cut_rounds
from stemma.kernels.triton.states import StateCapacity, TritonStates
from stemma.kernels.triton.step import PlannedStep, Size, Step, StepBuffers
from stemma.kernels.triton.uploads import CapacityError


def at(positions: Sequence[int], sequences: Sequence[tuple[int, Sequence[int]]]) -> StateMetadata:
    return replace(pieces_of(sequences), positions=np.array(positions, dtype=np.int32))


def test_rounds_keep_cells_where_they_are() -> None:
    """The piece of the picture, one that ends with a cell, the next that begins with one, and a decode token."""
    metadata = at([100, 64, 7], [(0, (170,)), (ZEROS, (64, 130)), (1, (1,))])
    rounds = cut_rounds(metadata)
    assert [each.kind for each in rounds] == ["tokens", "cells", "tokens"]
    assert rounds[0].runs == [[Part(0, 28, 0, 3)], [Part(364, 365, 1, 6)]]
    assert rounds[1].runs == [[Part(28, 156, 3, 3)], [Part(170, 234, ZEROS, 4), Part(234, 362, 4, 5)]]
    assert rounds[2].runs == [[Part(156, 170, 3, 3)], [Part(362, 364, 5, 5)]]


@pytest.mark.parametrize("positions", [None, np.array([1, 40], dtype=np.int32)], ids=["unknown", "divided"])
def test_steps_without_a_whole_cell_are_walked(positions: Int32Array | None) -> None:
    assert cut_rounds(replace(pieces_of([(0, (64, 62)), (1, (70,))]), positions=positions)) == []


def test_a_plan_of_a_graph_walks_whatever_it_is_filled_with() -> None:
    sizes = Size(64, 1, (NOTHING,), StateCapacity(64, 2, 4))
    pools = (Pool("full.", KVShape(0, 1, 16, 1, 16), None),)
    plan = PlannedStep(pools, sizes, StepBuffers(Room(2000, 1, 1), pools, DEVICE))
    plan.walk_all()
    metadata = replace(metadata_of([(0, 64)], 16)[0], states=at([0], [(ZEROS, (64,))]))
    none = np.zeros(64, dtype=np.int32)
    plan.send(Step(none, metadata, none[:1], (None,)))
    assert [walk.kind for walk in plan.plans.states.walks()] == ["tokens"]
    assert plan.plans.states.walks()[0].num_runs == 2
    with pytest.raises(CapacityError, match="plan of its own"):
        plan.send(Step(none, replace(metadata, states=pieces_of([(0, (1,))] * 5)), none[:1], (None,)))


SPECS = [DeltaRuleSpec(1, 2, 16, 32), DeltaRuleSpec(2, 4, 32, 16, "tile")]


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_cells_match_the_reference(spec: DeltaRuleSpec) -> None:
    """Parts of cells at both ends, two pieces that meet inside one and two between them, and a decode token."""
    both = Both(LayerState((0, 0), (spec.value_heads, spec.key_dim, spec.value_dim)))
    heads = spec.value_heads
    handles = both_handles(both, "delta_rule", spec, stored("F32", heads, seed=1), stored("F32", heads, seed=2))
    metadata = at([60, 7, 128], [(0, (70, 3)), (1, (1,)), (ZEROS, (64, 65))])
    assert len(cut_rounds(metadata)) == 3
    both.compare("gated_delta", columns(1, spec.width, heads, heads, tokens=203), handles, metadata)


SCANS = [Mamba2Spec(2, 16, 1, 32), Mamba2Spec(4, 32, 2, 16, 0.01, 0.9)]


@pytest.mark.parametrize("spec", SCANS, ids=str)
def test_cells_of_scans_match_the_reference(spec: Mamba2Spec) -> None:
    both = Both(LayerState((0, 0), (spec.heads, spec.head_dim, spec.state)))
    handles = both_handles(both, "mamba2", spec, *[stored("F32", spec.heads, seed=seed) for seed in (1, 2, 3)])
    metadata = at([60, 7, 128], [(0, (70, 3)), (1, (1,)), (ZEROS, (64, 65))])
    both.compare("selective_scan", columns(1, spec.width, spec.heads, tokens=203), handles, metadata)


@pytest.mark.parametrize("dtype", FLOATS[1:])
def test_cells_of_short_types(dtype: torch.dtype) -> None:
    """Products are of the activations' type; states are not rounded to it, and come as near as their inputs allow."""
    shape, results = StateShape(4, (LayerState((0, 0), (1, 16, 16)),)), []
    metadata = at([0], [(ZEROS, (64,))])
    for kind in (dtype, EXACT):
        states, run = layers_of(TritonOps(DEVICE, kind), tokens=64, rounded=dtype)
        pools = [states.allocate(shape) for _ in range(2)]
        outs = run(slice(0, 64), pools, states.plan(metadata, shape))
        results.append([*outs, *(pool.recurrent[0][3] for pool in pools)])
    for mine, exact in zip(*results, strict=True):
        assert (mine.double() - exact.double()).abs().max() <= 2e-2 * exact.abs().max()


def layers_of(ops: TritonOps, tokens: int, rounded: torch.dtype) -> tuple[Any, Callable[..., list[torch.Tensor]]]:
    """A delta rule and a scan of one head of 16, and a function that runs both on some rows, each on its pool."""
    states, rule_spec, scan_spec = ops.states, DeltaRuleSpec(1, 1, 16, 16), Mamba2Spec(1, 16, 1, 16)
    rule = states.delta_rule(rule_spec, stored("F32", 1), stored("F32", 1))
    scan = states.mamba2(scan_spec, *[stored("F32", 1, seed=seed) for seed in range(3)])
    made = columns(0, rule_spec.width, 1, 1, scan_spec.width, tokens=tokens)
    qkv, beta, step, x = (part.to(rounded).to(DEVICE, ops.dtype) for part in made)

    def run(rows: slice, pools: Sequence[TritonStates], plan: Any) -> list[torch.Tensor]:
        return [
            states.gated_delta(qkv[rows], beta[rows], step[rows], rule, pools[0], 0, plan),
            states.selective_scan(x[rows], step[rows], scan, pools[1], 0, plan),
        ]

    return states, run


DIVIDED = 14 + 64
"""The first row of the second cell: rows begin at position 50."""


@pytest.mark.parametrize(
    ("cuts", "num_equal"),
    [([[14, 64, 68]], 146), ([[6, 8], [64], [64], [1, 3]], 146), ([[14, 64], [60, 4], [4]], DIVIDED)],
    ids=["pieces", "steps", "a cell is divided"],
)
def test_ends_that_divide_no_cell_do_not_change_a_bit(cuts: list[list[int]], num_equal: int) -> None:
    shape = StateShape(12, (LayerState((0, 0), (1, 16, 16)),))
    states, run = layers_of(TritonOps(DEVICE, EXACT), tokens=146, rounded=EXACT)

    def ran(steps: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """All outputs and the last states."""
        pools, parts, first, source = [states.allocate(shape) for _ in range(2)], [], 0, ZEROS
        for pieces in steps:
            metadata = at([50 + first], [(source, pieces)])
            rows = slice(first, first + sum(pieces))
            parts.append(torch.cat(run(rows, pools, states.plan(metadata, shape)), dim=1))
            for pool in pools:
                pool.recurrent[0][0] = pool.recurrent[0][int(metadata.targets[-1])]
            first, source = rows.stop, 0
        return torch.cat(parts), torch.stack([pool.recurrent[0][0] for pool in pools])

    (expected, expected_state), (out, state) = ran([[146]]), ran(cuts)
    assert torch.equal(out[:num_equal], expected[:num_equal])
    assert_close(out, expected, TOLERANCE[EXACT])
    assert_close(state, expected_state, TOLERANCE[EXACT])
    assert torch.equal(state, expected_state) == (num_equal == 146)

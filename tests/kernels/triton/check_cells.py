"""The gated delta rule in cells of 64 tokens: against the reference, and that ends of steps and pieces do not change a
bit where they divide no cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from check_rows import stored
from check_states import Both, both_handles, columns, pieces_of
from triton_support import DEVICE, EXACT, FLOATS, TOLERANCE, assert_close

from stemma.kernels.ops import Int32Array
from stemma.kernels.states import ZEROS, DeltaRuleSpec, LayerState, StateMetadata, StateShape
from stemma.kernels.triton.ops import TritonOps
from stemma.kernels.triton.rounds import Part, cut_rounds


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


@pytest.mark.parametrize("dtype", FLOATS[1:])
def test_cells_of_short_types(dtype: torch.dtype) -> None:
    """Products are of the activations' type; states are not rounded to it, and come as near as their inputs allow."""
    spec = DeltaRuleSpec(1, 1, 16, 16)
    ops, reference = TritonOps(DEVICE, dtype).states, TritonOps(DEVICE, EXACT).states
    shape = StateShape(4, (LayerState((0, 0), (1, 16, 16)),))
    parts = [part.to(dtype).to(DEVICE) for part in columns(0, spec.width, 1, 1, tokens=64)]
    results = []
    for each, kind in ((ops, dtype), (reference, EXACT)):
        rule = each.delta_rule(spec, stored("F32", 1), stored("F32", 1))
        states = each.allocate(shape)
        plan = each.plan(at([0], [(ZEROS, (64,))]), shape)
        out = each.gated_delta(*(part.to(kind) for part in parts), rule, states, 0, plan)
        results.append((out.double(), states.recurrent[0][3].double()))
    for mine, exact in zip(*results, strict=True):
        assert (mine - exact).abs().max() <= 2e-2 * exact.abs().max()


DIVIDED = 14 + 64
"""The first row of the second cell: rows begin at position 50."""


@pytest.mark.parametrize(
    ("cuts", "num_equal"),
    [([[14, 64, 68]], 146), ([[6, 8], [64], [64], [1, 3]], 146), ([[14, 64], [60, 4], [4]], DIVIDED)],
    ids=["pieces", "steps", "a cell is divided"],
)
def test_ends_that_divide_no_cell_do_not_change_a_bit(cuts: list[list[int]], num_equal: int) -> None:
    spec = DeltaRuleSpec(1, 1, 16, 16)
    ops, shape = TritonOps(DEVICE, EXACT).states, StateShape(12, (LayerState((0, 0), (1, 16, 16)),))
    rule = ops.delta_rule(spec, stored("F32", 1), stored("F32", 1))
    qkv, beta, step = (part.to(EXACT).to(DEVICE) for part in columns(0, spec.width, 1, 1, tokens=146))

    def ran(steps: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """All outputs and the last state."""
        states, parts, first, source = ops.allocate(shape), [], 0, ZEROS
        for pieces in steps:
            metadata = at([50 + first], [(source, pieces)])
            rows, plan = slice(first, first + sum(pieces)), ops.plan(metadata, shape)
            parts.append(ops.gated_delta(qkv[rows], beta[rows], step[rows], rule, states, 0, plan))
            states.recurrent[0][0] = states.recurrent[0][int(metadata.targets[-1])]
            first, source = rows.stop, 0
        return torch.cat(parts), states.recurrent[0][0].clone()

    (expected, expected_state), (out, state) = ran([[146]]), ran(cuts)
    assert torch.equal(out[:num_equal], expected[:num_equal])
    assert_close(out, expected, TOLERANCE[EXACT])
    assert_close(state, expected_state, TOLERANCE[EXACT])
    assert torch.equal(state, expected_state) == (num_equal == 146)

"""What each kernel of layers with a state is given, with which tile, on which grid. Outputs are the caller's.

Tiles depend on a layer's sizes alone, so sums do not depend on the step. A panel of a recurrence is what the registers
of one warp hold beside what is loaded ahead: no step waits for another warp.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch

from stemma.kernels.states import DeltaRuleSpec, Mamba2Spec
from stemma.kernels.triton.cells import cell_kernel, cells_kernel, scan_cells_kernel, scores_kernel
from stemma.kernels.triton.conv import conv_kernel
from stemma.kernels.triton.gates import gate_kernel, gated_norm_kernel
from stemma.kernels.triton.launches import Launcher, dot_type
from stemma.kernels.triton.packing import TritonNorm
from stemma.kernels.triton.recurrence import delta_kernel, scan_kernel
from stemma.kernels.triton.rounds import CELL, Walk
from stemma.kernels.triton.states import StatePlan, TritonConv, TritonDelta, TritonScan
from stemma.kernels.triton.targets import CELLS, SCAN_CELLS, Target, cdiv, power_of_2

PANEL = 2048
"""Numbers of a head's state that one warp keeps."""
CONV_TOKENS = 8
CONV_CHANNELS = 128
CELL_DIMS = frozenset({16, 32, 64, 128})
CELL_STATES = CELL_DIMS | {256}
NORM_TILE = 1024
GATE_TILE = 1024

GateActivation = Literal["none", "sigmoid", "silu"]


class Slots(NamedTuple):
    """One layer's states of one kind, and the step's pieces."""

    states: torch.Tensor
    plan: StatePlan


class DeltaInputs(NamedTuple):
    """Of a gated delta rule; each may be columns of a wider product."""

    qkv: torch.Tensor
    beta: torch.Tensor
    step: torch.Tensor

    def arguments(self, rule: TritonDelta) -> dict[str, Any]:
        """What all kernels of the rule read."""
        spec = rule.spec
        return {
            "qkv": self.qkv,
            "beta": self.beta,
            "step": self.step,
            "rates": rule.rates,
            "dt_bias": rule.dt_bias,
            "scale": spec.key_dim**-0.5,
            "QKV_STRIDE": self.qkv.stride(0),
            "BETA_STRIDE": self.beta.stride(0),
            "STEP_STRIDE": self.step.stride(0),
            "KEY_HEADS": spec.key_heads,
            "VALUE_HEADS": spec.value_heads,
            "KEY_DIM": spec.key_dim,
            "VALUE_DIM": spec.value_dim,
            "TILED": spec.grouped == "tile",
        }


def fits_cells(spec: DeltaRuleSpec) -> bool:
    """Whether cells are made as products: heads of sizes that matrix instructions take whole."""
    return spec.key_dim in CELL_DIMS and spec.value_dim in CELL_DIMS


def panel(along: int, across: int) -> int:
    """How wide a panel is, of heads `across` wide: a power of two."""
    widest = power_of_2(across)
    return max(1, min(widest, PANEL // power_of_2(along)))


class StateKernels:
    """The kernels of layers with a state, for one target and one type of activations."""

    def __init__(self, target: Target, dtype: torch.dtype, launch: Launcher) -> None:
        self._launch, self._dot = launch, dot_type(dtype)
        self._cell_tile, self._scan_tile = CELLS[target.family], SCAN_CELLS[target.family]

    def conv(self, x: torch.Tensor, conv: TritonConv, slots: Slots, out: torch.Tensor, *, silu: bool) -> None:
        """x, out: (tokens, channels)."""
        states, plan = slots
        taps, channels = conv.weight.shape
        arguments = {
            "x": x,
            "weight": conv.weight,
            "bias": conv.weight if conv.bias is None else conv.bias,
            "states": states,
            "out": out,
            "firsts": plan["firsts"],
            "origins": plan["origins"],
            "ends": plan["ends"],
            "targets": plan["targets"],
            "num_tokens": len(x),
            "STRIDE": x.stride(0),
            "CHANNELS": channels,
            "TAPS": taps,
            "TAPS_PAD": power_of_2(taps),
            "TOKENS": CONV_TOKENS,
            "TILE": CONV_CHANNELS,
            "BIAS": conv.bias is not None,
            "SILU": silu,
        }
        num_tiles = cdiv(len(x), CONV_TOKENS)
        grid = (num_tiles + plan.capacity.num_pieces, cdiv(channels, CONV_CHANNELS))
        self._launch(conv_kernel, grid, arguments, 4, 1)

    def delta(self, inputs: DeltaInputs, rule: TritonDelta, slots: Slots, out: torch.Tensor) -> None:
        """out: (tokens, value_heads, value_dim)."""
        for walk in slots.plan.walks() if fits_cells(rule.spec) else (slots.plan.walk,):
            if walk.kind == "cells":
                self._cells(inputs, rule, slots.states, walk, out)
            else:
                self._tokens(inputs, rule, slots.states, walk, out)

    def _tokens(
        self, inputs: DeltaInputs, rule: TritonDelta, states: torch.Tensor, walk: Walk, out: torch.Tensor
    ) -> None:
        spec = rule.spec
        columns = panel(spec.key_dim, spec.value_dim)
        arguments = {
            **inputs.arguments(rule),
            "states": states,
            "out": out,
            **walk.arrays,
            "KEY_PAD": power_of_2(spec.key_dim),
            "COLUMNS": columns,
        }
        grid = (walk.num_runs, spec.value_heads, cdiv(spec.value_dim, columns))
        self._launch(delta_kernel, grid, arguments, 1, 1)

    def _cells(
        self, inputs: DeltaInputs, rule: TritonDelta, states: torch.Tensor, walk: Walk, out: torch.Tensor
    ) -> None:
        """What does not depend on the state, for all cells at once; then the state from cell to cell."""
        spec, arrays = rule.spec, dict(walk.arrays)
        units = (walk.num_cells, spec.value_heads)
        made = {
            "own": out.new_empty((*units, CELL, spec.value_dim)),
            "taken": out.new_empty((*units, CELL, spec.key_dim)),
            "scores": out.new_empty((*units, CELL, CELL)),
            "factors": out.new_empty((*units, 3, CELL), dtype=torch.float32),
            "cells": arrays.pop("cells"),
            "CELL": CELL,
            "DOT": self._dot,
        }
        given = inputs.arguments(rule)
        self._launch(cell_kernel, units, {**given, **made}, 4, 1)
        names = ("qkv", "QKV_STRIDE", "KEY_HEADS", "VALUE_HEADS", "KEY_DIM", "VALUE_DIM", "TILED")
        tile = self._cell_tile
        columns = min(tile.columns, spec.value_dim)
        arguments = {name: given[name] for name in names} | made | arrays
        arguments |= {"states": states, "out": out, "COLUMNS": columns}
        grid = (walk.num_runs, spec.value_heads, spec.value_dim // columns)
        self._launch(cells_kernel, grid, arguments, tile.num_warps, tile.num_stages)

    def scan(self, x: torch.Tensor, step: torch.Tensor, scan: TritonScan, slots: Slots, out: torch.Tensor) -> None:
        """out: (tokens, heads, head_dim)."""
        spec = scan.spec
        given = {
            "x": x,
            "step": step,
            "rates": scan.rates,
            "skips": scan.skips,
            "dt_bias": scan.dt_bias,
            "states": slots.states,
            "out": out,
            "low": spec.low,
            "high": spec.high,
            "X_STRIDE": x.stride(0),
            "STEP_STRIDE": step.stride(0),
            "HEADS": spec.heads,
            "HEAD_DIM": spec.head_dim,
            "GROUPS": spec.groups,
            "STATE": spec.state,
        }
        fits = spec.head_dim in CELL_DIMS and spec.state in CELL_STATES
        for walk in slots.plan.walks() if fits else (slots.plan.walk,):
            self._scan_walk(given, spec, walk)

    def _scan_walk(self, given: dict[str, Any], spec: Mamba2Spec, walk: Walk) -> None:
        if walk.kind == "cells":
            tile = self._scan_tile
            outputs = min(tile.columns, spec.head_dim)
            scores = self._scores(given["x"], spec, walk)
            more = {"scores": scores, "OUTPUTS": outputs, "CELL": CELL, "DOT": self._dot}
            kernel, num_warps, num_stages = scan_cells_kernel, tile.num_warps, tile.num_stages
        else:
            outputs = panel(spec.state, spec.head_dim)
            more = {"OUTPUTS": outputs, "STATE_PAD": power_of_2(spec.state)}
            kernel, num_warps, num_stages = scan_kernel, 1, 1
        grid = (walk.num_runs, spec.heads, cdiv(spec.head_dim, outputs))
        self._launch(kernel, grid, given | walk.arrays | more, num_warps, num_stages)

    def _scores(self, x: torch.Tensor, spec: Mamba2Spec, walk: Walk) -> torch.Tensor:
        """Of each cell and group: what C and B have in common."""
        scores = x.new_empty((walk.num_cells, spec.groups, CELL, CELL), dtype=torch.float32)
        arguments = {
            "x": x,
            "cells": walk.arrays["cells"],
            "scores": scores,
            "B_AT": spec.heads * spec.head_dim,
            "X_STRIDE": x.stride(0),
            "GROUPS": spec.groups,
            "STATE": spec.state,
            "DEPTH": min(spec.state, CELL),
            "CELL": CELL,
            "DOT": self._dot,
        }
        self._launch(scores_kernel, (walk.num_cells, spec.groups), arguments, 8, 2)
        return scores

    def gate(self, x: torch.Tensor, gate: torch.Tensor, activation: GateActivation, out: torch.Tensor) -> None:
        """out = x * activation(gate)."""
        features = x.shape[1]
        arguments = {
            "x": x,
            "gate": gate,
            "out": out,
            "X_STRIDE": x.stride(0),
            "GATE_STRIDE": gate.stride(0),
            "FEATURES": features,
            "TILE": GATE_TILE,
            "ACTIVATION": activation,
        }
        self._launch(gate_kernel, (len(x), cdiv(features, GATE_TILE)), arguments, 4, 1)

    def gated_norm(
        self, x: torch.Tensor, gate: torch.Tensor, norm: TritonNorm, groups: int, out: torch.Tensor, *, gate_first: bool
    ) -> None:
        """out = norm(x) * silu(gate), or norm(x * silu(gate))."""
        width = x.shape[1] // groups
        padded = power_of_2(width)
        parts = max(1, min(power_of_2(groups), NORM_TILE // padded))
        arguments = {
            "x": x,
            "gate": gate,
            "weight": norm.weight,
            "out": out,
            "epsilon": norm.epsilon,
            "X_STRIDE": x.stride(0),
            "GATE_STRIDE": gate.stride(0),
            "GROUPS": groups,
            "WIDTH": width,
            "WIDTH_PAD": padded,
            "PARTS": parts,
            "WHOLE": len(norm.weight) == x.shape[1],
            "GATE_FIRST": gate_first,
        }
        grid = (len(x), cdiv(groups, parts))
        self._launch(gated_norm_kernel, grid, arguments, 4 if padded * parts <= 4096 else 8, 1)

"""What each kernel of layers with a state is given, with which tile, on which grid. Outputs are the caller's.

Tiles depend on a layer's sizes alone, so sums do not depend on the step. A panel of a recurrence is what the registers
of one warp hold beside what is loaded ahead: no step waits for another warp.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import triton

from stemma.kernels.triton.conv import conv_kernel
from stemma.kernels.triton.gates import gate_kernel, gated_norm_kernel
from stemma.kernels.triton.launches import Launcher
from stemma.kernels.triton.packing import TritonNorm
from stemma.kernels.triton.recurrence import delta_kernel, scan_kernel
from stemma.kernels.triton.states import StatePlan, TritonConv, TritonDelta, TritonScan

PANEL = 2048
"""Numbers of a head's state that one warp keeps."""
CONV_TOKENS = 8
CONV_CHANNELS = 128
NORM_TILE = 1024
GATE_TILE = 1024

GateActivation = Literal["none", "sigmoid", "silu"]


class Slots(NamedTuple):
    """One layer's states of one kind, and the step's pieces."""

    states: torch.Tensor
    plan: StatePlan

    @property
    def pieces(self) -> dict[str, torch.Tensor]:
        """What a recurrence reads of the plan."""
        return {name: self.plan[name] for name in ("rows", "starts", "sources", "targets")}


def panel(along: int, across: int) -> int:
    """How wide a panel is, of heads `across` wide: a power of two."""
    widest = int(triton.next_power_of_2(across))
    return max(1, min(widest, PANEL // int(triton.next_power_of_2(along))))


class StateKernels:
    """The kernels of layers with a state, through one launcher."""

    def __init__(self, launch: Launcher) -> None:
        self._launch = launch

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
            "starts": plan["starts"],
            "targets": plan["targets"],
            "num_tokens": len(x),
            "STRIDE": x.stride(0),
            "CHANNELS": channels,
            "TAPS": taps,
            "TAPS_PAD": triton.next_power_of_2(taps),
            "TOKENS": CONV_TOKENS,
            "TILE": CONV_CHANNELS,
            "BIAS": conv.bias is not None,
            "SILU": silu,
        }
        num_tiles = triton.cdiv(len(x), CONV_TOKENS)
        grid = (num_tiles + plan.capacity.num_pieces, triton.cdiv(channels, CONV_CHANNELS))
        self._launch(conv_kernel, grid, arguments, 4, 1)

    def delta(
        self, qkv: torch.Tensor, beta: torch.Tensor, step: torch.Tensor, rule: TritonDelta, slots: Slots,
        out: torch.Tensor,
    ) -> None:  # fmt: skip
        """out: (tokens, value_heads, value_dim)."""
        spec = rule.spec
        columns = panel(spec.key_dim, spec.value_dim)
        arguments = {
            "qkv": qkv,
            "beta": beta,
            "step": step,
            "rates": rule.rates,
            "dt_bias": rule.dt_bias,
            "states": slots.states,
            "out": out,
            **slots.pieces,
            "scale": spec.key_dim**-0.5,
            "QKV_STRIDE": qkv.stride(0),
            "BETA_STRIDE": beta.stride(0),
            "STEP_STRIDE": step.stride(0),
            "KEY_HEADS": spec.key_heads,
            "VALUE_HEADS": spec.value_heads,
            "KEY_DIM": spec.key_dim,
            "KEY_PAD": triton.next_power_of_2(spec.key_dim),
            "VALUE_DIM": spec.value_dim,
            "COLUMNS": columns,
            "TILED": spec.grouped == "tile",
        }
        grid = (slots.plan.capacity.num_sequences, spec.value_heads, triton.cdiv(spec.value_dim, columns))
        self._launch(delta_kernel, grid, arguments, 1, 1)

    def scan(self, x: torch.Tensor, step: torch.Tensor, scan: TritonScan, slots: Slots, out: torch.Tensor) -> None:
        """out: (tokens, heads, head_dim)."""
        spec = scan.spec
        outputs = panel(spec.state, spec.head_dim)
        arguments = {
            "x": x,
            "step": step,
            "rates": scan.rates,
            "skips": scan.skips,
            "dt_bias": scan.dt_bias,
            "states": slots.states,
            "out": out,
            **slots.pieces,
            "low": spec.low,
            "high": spec.high,
            "X_STRIDE": x.stride(0),
            "STEP_STRIDE": step.stride(0),
            "HEADS": spec.heads,
            "HEAD_DIM": spec.head_dim,
            "GROUPS": spec.groups,
            "STATE": spec.state,
            "STATE_PAD": triton.next_power_of_2(spec.state),
            "OUTPUTS": outputs,
        }
        grid = (slots.plan.capacity.num_sequences, spec.heads, triton.cdiv(spec.head_dim, outputs))
        self._launch(scan_kernel, grid, arguments, 1, 1)

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
        self._launch(gate_kernel, (len(x), triton.cdiv(features, GATE_TILE)), arguments, 4, 1)

    def gated_norm(
        self, x: torch.Tensor, gate: torch.Tensor, norm: TritonNorm, groups: int, out: torch.Tensor, *, gate_first: bool
    ) -> None:
        """out = norm(x) * silu(gate), or norm(x * silu(gate))."""
        width = x.shape[1] // groups
        padded = int(triton.next_power_of_2(width))
        parts = max(1, min(int(triton.next_power_of_2(groups)), NORM_TILE // padded))
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
        grid = (len(x), triton.cdiv(groups, parts))
        self._launch(gated_norm_kernel, grid, arguments, 4 if padded * parts <= 4096 else 8, 1)

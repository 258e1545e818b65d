"""Operations for layers with a state (`StateOps`). Their kernels are compiled when they are first asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from stemma.kernels.cpu.buffers import Floats
from stemma.kernels.cpu.calls import Calls
from stemma.kernels.cpu.machine import compile
from stemma.kernels.cpu.machine.target import Target
from stemma.kernels.cpu.rows.norms import CpuNorm
from stemma.kernels.cpu.states.conv import CpuConv, add_short_conv, make_conv
from stemma.kernels.cpu.states.delta import CpuDelta, add_gated_delta, make_delta
from stemma.kernels.cpu.states.gated import ACTIVATIONS, add_gated
from stemma.kernels.cpu.states.scan import CpuScan, add_selective_scan, make_scan
from stemma.kernels.cpu.states.slots import (
    CpuStatePlan,
    CpuStates,
    allocate,
    make_plan,
    read_slots,
    write_slots,
)
from stemma.kernels.states import DeltaRuleSpec, Mamba2Spec, StateMetadata, StateShape
from stemma.kernels.weights import StoredWeight

Native = Callable[..., None]


class CpuStateOps:
    """Of one back end."""

    def __init__(self, calls: Calls, target: Target, cache_dir: Path) -> None:
        self._calls, self._target, self._cache_dir = calls, target, cache_dir
        self._libraries: dict[tuple[str, object], compile.Library] = {}
        self._natives: dict[tuple[str, object], Native] = {}

    def _native(self, name: str, parameter: Any, add: Callable[..., None], num_arguments: int) -> Native:
        """Compiled for each parameter when it is first asked for."""
        found = self._natives.get((name, parameter))
        if found is None:
            key = add.__name__.removeprefix("add_"), parameter
            if key not in self._libraries:
                given = () if parameter is None else (parameter,)
                self._libraries[key] = compile.load(
                    key[0], lambda module: add(module, *given), self._target, key, self._cache_dir
                )
            found = self._natives[name, parameter] = self._libraries[key].function(name, num_arguments)
        return found

    # Handles ---------------------------------------------------------------------------------------------------------
    def allocate(self, shape: StateShape) -> CpuStates:
        self._calls.pool.check()
        return allocate(shape)

    def plan(self, metadata: StateMetadata, shape: StateShape) -> CpuStatePlan:
        return make_plan(metadata)

    def conv(self, weight: StoredWeight, bias: StoredWeight | None) -> CpuConv:
        return make_conv(weight, bias)

    def delta_rule(self, spec: DeltaRuleSpec, decay: StoredWeight, dt_bias: StoredWeight) -> CpuDelta:
        return make_delta(spec, decay, dt_bias)

    def mamba2(self, spec: Mamba2Spec, decay: StoredWeight, skip: StoredWeight, dt_bias: StoredWeight) -> CpuScan:
        return make_scan(spec, decay, skip, dt_bias)

    # A step ----------------------------------------------------------------------------------------------------------
    def short_conv(
        self, x: Floats, conv: CpuConv, activation: Literal["silu", "none"], states: CpuStates, layer: int,
        plan: CpuStatePlan,
    ) -> Floats:  # fmt: skip
        native = self._native("short_conv", conv.taps, add_short_conv, 10)
        out, address = self._calls.take("short_conv", tuple(x.shape))
        self._calls.run(
            native, *_strided(x), address, conv.address, states.conv[layer], states.stride, plan.address,
            int(activation == "silu"), self._calls.pool.num_threads,
        )  # fmt: skip
        return out

    def gated_delta(
        self, qkv: Floats, beta: Floats, step: Floats, rule: CpuDelta, states: CpuStates, layer: int,
        plan: CpuStatePlan,
    ) -> Floats:  # fmt: skip
        native = self._native("gated_delta", rule.spec, add_gated_delta, 15)
        tokens, sizes = qkv.shape[0], rule.sizes
        out, address = self._calls.take("gated_delta", (tokens, sizes.heads * sizes.width))
        work = self._calls.take("prepared_states", (sizes.work_floats(tokens),))[1]
        self._calls.run(
            native, *_strided(qkv), *_strided(beta), *_strided(step), address, rule.address, work,
            states.recurrent[layer], states.stride, plan.address, tokens, self._calls.pool.num_threads,
        )  # fmt: skip
        return out

    def selective_scan(
        self, x: Floats, step: Floats, scan: CpuScan, states: CpuStates, layer: int, plan: CpuStatePlan
    ) -> Floats:
        native = self._native("selective_scan", scan.spec, add_selective_scan, 13)
        tokens, sizes = x.shape[0], scan.sizes
        out, address = self._calls.take("selective_scan", (tokens, sizes.heads * sizes.width))
        work = self._calls.take("prepared_states", (sizes.work_floats(tokens),))[1]
        self._calls.run(
            native, *_strided(x), *_strided(step), address, scan.address, work, states.recurrent[layer], states.stride,
            plan.address, tokens, self._calls.pool.num_threads,
        )  # fmt: skip
        return out

    def gated_norm(self, x: Floats, gate: Floats, norm: CpuNorm, groups: int, *, gate_first: bool) -> Floats:
        assert norm.bias is None, "an RMS norm"
        native = self._native("gated_norm", None, add_gated, 13)
        rows, width = x.shape
        out, address = self._calls.take("gated_norm", (rows, width))
        part = width // groups
        step = 4 * part if norm.weight.shape[0] == width else 0
        self._calls.run(
            native, *_strided(x), *_strided(gate), norm.address, address, rows, groups, part, step, int(gate_first),
            self._calls.pool.num_threads,
        )  # fmt: skip
        return out

    def gate(self, x: Floats, gate: Floats, activation: Literal["none", "sigmoid", "silu"]) -> Floats:
        native = self._native("gate", None, add_gated, 10)
        rows, width = x.shape
        out, address = self._calls.take("gate", (rows, width))
        self._calls.run(
            native, *_strided(x), *_strided(gate), address, rows, width, ACTIVATIONS[activation],
            self._calls.pool.num_threads,
        )  # fmt: skip
        return out

    # Snapshots -------------------------------------------------------------------------------------------------------
    def read(self, states: CpuStates, slots: Sequence[int]) -> bytes:
        return read_slots(states, slots)

    def write(self, states: CpuStates, slots: Sequence[int], data: bytes) -> None:
        write_slots(states, slots, data)


def _strided(x: Floats) -> tuple[int, int]:
    """A row's address, and bytes from row to row: columns of a wider product are read where they stand."""
    assert x.strides[1] == x.itemsize, "the numbers of a row stand side by side"
    return x.ctypes.data, x.strides[0]

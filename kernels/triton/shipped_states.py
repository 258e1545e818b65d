"""The launches of layers with a state, as the models make them that have such layers: see shipped.py."""

from __future__ import annotations

from typing import NamedTuple, get_args

import numpy as np
import torch

from stemma.kernels.states import ZEROS, DeltaRuleSpec, LayerState, Mamba2Spec, StateMetadata, StateShape
from stemma.kernels.triton.launches import Launcher
from stemma.kernels.triton.packing import TritonNorm
from stemma.kernels.triton.state_launches import GateActivation
from stemma.kernels.triton.state_ops import TritonStateOps
from stemma.kernels.triton.targets import Target
from stemma.kernels.weights import StoredWeight


class StateModel(NamedTuple):
    """The sizes of a family that kernels are specialised for. mixer: an int is a gated convolution so wide."""

    name: str
    mixer: DeltaRuleSpec | Mamba2Spec | int
    taps: int
    conv_bias: bool
    norm_groups: int = 1


STATE_MODELS = (
    StateModel("Qwen3-Next-80B", DeltaRuleSpec(16, 32, 128, 128), 4, False),
    StateModel("Nemotron-H-8B", Mamba2Spec(128, 64, 8, 128), 4, True, 8),
    StateModel("Falcon-H1-1.5B", Mamba2Spec(48, 64, 1, 256), 4, True),
    StateModel("LFM2-1.2B", 2048, 3, False),
)
METADATA = StateMetadata(
    np.array([0, 1, 3], dtype=np.int32), np.array([0, 1, 65, 66], dtype=np.int32),
    np.array([0, ZEROS, 2], dtype=np.int32), np.array([1, 2, 3], dtype=np.int32), np.array([1500, 0], dtype=np.int32),
)  # fmt: skip
"""A decode token, and a prompt in two pieces, of which the first is a whole cell."""
NUM_TOKENS = 66


def record_states(launch: Launcher, target: Target, model: StateModel, dtype: torch.dtype) -> None:
    """What a layer launches behind its projection, whose columns it reads."""
    ops, mixer = TritonStateOps(torch.device("cpu"), dtype, target, launch), model.mixer
    width = mixer if isinstance(mixer, int) else mixer.width
    recurrent = (0, 0, 0)
    if isinstance(mixer, DeltaRuleSpec):
        recurrent = mixer.value_heads, mixer.key_dim, mixer.value_dim
    elif isinstance(mixer, Mamba2Spec):
        recurrent = mixer.heads, mixer.head_dim, mixer.state
    shape = StateShape(4, (LayerState((width, model.taps - 1), recurrent),))
    states, plan = ops.allocate(shape), ops.plan(METADATA, shape)
    bias = ones(width) if model.conv_bias else None
    conv = ops.conv(ones(width, model.taps), bias)
    if isinstance(mixer, int):
        b, c, x = torch.zeros(NUM_TOKENS, 3 * width, dtype=dtype).chunk(3, dim=1)
        mixed = ops.short_conv(ops.gate(x, b, "none"), conv, "none", states, 0, plan)
        for activation in get_args(GateActivation):
            ops.gate(mixed, c, activation)
        return
    heads = recurrent[0]
    inner = heads * (recurrent[2] if isinstance(mixer, DeltaRuleSpec) else recurrent[1])
    product = torch.zeros(NUM_TOKENS, width + inner + 2 * heads, dtype=dtype)
    x, gate, beta, step = torch.split(product, [width, inner, heads, heads], dim=1)
    x = ops.short_conv(x, conv, "silu", states, 0, plan)
    if isinstance(mixer, DeltaRuleSpec):
        out = ops.gated_delta(x, beta, step, ops.delta_rule(mixer, ones(heads), ones(heads)), states, 0, plan)
        norm, groups = TritonNorm(torch.zeros(mixer.value_dim), 1e-6), heads
    else:
        out = ops.selective_scan(x, step, ops.mamba2(mixer, *[ones(heads)] * 3), states, 0, plan)
        norm, groups = TritonNorm(torch.zeros(inner), 1e-6), model.norm_groups
    ops.gated_norm(out, gate, norm, groups, gate_first=isinstance(mixer, Mamba2Spec))


def ones(*shape: int) -> StoredWeight:
    return StoredWeight("F32", shape, np.ones(shape, dtype=np.float32))

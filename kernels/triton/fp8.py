"""Weights in floats of 8 bits (E4M3, Micikevicius et al. 2022) with a scale for each output.

16 bits   codes = round(weight / scale), where scale = the output's largest magnitude / 448
a file's  codes and scales as they are, where one scale is all of an output's

Of what a file holds with a scale for 128 inputs, codes and scales stay too: packing.py makes it a matrix of "floats".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from stemma.kernels.triton.sending import Sender
from stemma.kernels.triton.targets import Target, UnsupportedDevice
from stemma.kernels.weights import StoredWeight

LIMIT = 448.0
"""The largest number of E4M3."""
SMALLEST = 2.0**-64
"""The least scale, so that nothing is divided by zero."""
MULTIPLE = 16
"""Of inputs and outputs, what matrix units want; other matrices are not quantised."""
GROUP = 128
"""Inputs that share a scale, where not all of an output do: those of the squares of DeepSeek V3 and Qwen3."""
PIECE_BYTES = 64 << 20
"""Of a matrix in 16 bits that is on the device while it is quantised."""

Eight = Literal["none", "stored", "all"]
"""Which matrices are of 8 bits: none, those that are stored so, all that would be dense."""


@dataclass(frozen=True, slots=True, eq=False)
class Fp8Linear:
    """weight: (out_features, in_features) float8_e4m3fn. scales: (1, out_features) float32."""

    weight: torch.Tensor
    scales: torch.Tensor
    bias: torch.Tensor | None
    in_features: int
    out_features: int

    @property
    def num_bytes(self) -> int:
        return self.weight.nbytes + self.scales.nbytes + (0 if self.bias is None else self.bias.nbytes)


def eight_of(target: Target, quantization: str | None) -> Eight:
    """What a target makes of weights. gfx942 has another E4M3 than files, of which the largest number is 240.

    Raises UnsupportedDevice where what is asked for cannot be had.
    """
    if quantization not in (None, "fp8"):
        raise UnsupportedDevice(f"there is no quantization {quantization!r}; use 'fp8', or leave it out")
    has_units = target.backend == "cuda" and isinstance(target.arch, int) and target.arch >= 89
    if quantization is not None and not has_units:
        raise UnsupportedDevice(
            f"{target.name} does not multiply the floats of 8 bits that files hold (compute capability 8.9, 9, 10 and "
            "12 do); leave quantization out, or take a GGUF of Q8_0 or Q4_K, whose weights stay packed"
        )
    return "all" if quantization else "stored" if has_units else "none"


def quantize(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(outputs, inputs) -> codes, and scales (outputs, 1): quantize_kernel's arithmetic."""
    wide = values.float()
    scales = (wide.abs().amax(dim=1, keepdim=True) / LIMIT).clamp_(min=SMALLEST)
    return (wide / scales).clamp_(-LIMIT, LIMIT).to(torch.float8_e4m3fn), scales


def pack_fp8(
    parts: Sequence[StoredWeight], bias: torch.Tensor | None, sender: Sender, dtype: torch.dtype, eight: Eight
) -> Fp8Linear | None:
    """Parts as one matrix of 8 bits; None where `eight` does not want it or sizes do not allow it."""
    inputs, outputs = parts[0].shape[1], sum(part.shape[0] for part in parts)
    if eight == "none" or inputs % MULTIPLE or outputs % MULTIPLE:
        return None
    stored = [found if found is not None and found[1].shape[1] == 1 else None for found in map(as_stored, parts)]
    if eight == "stored" and None in stored:
        return None
    weight = torch.empty((outputs, inputs), dtype=torch.float8_e4m3fn, device=sender.device)
    scales = torch.empty((outputs, 1), dtype=torch.float32, device=sender.device)
    at = 0
    for part, found in zip(parts, stored, strict=True):
        end = at + part.shape[0]
        if found is not None:
            weight[at:end].view(torch.uint8).copy_(torch.from_numpy(found[0]))
            scales[at:end].copy_(torch.from_numpy(found[1]))
        else:
            _quantize_into(part, sender, dtype, weight[at:end], scales[at:end])
        at = end
    return Fp8Linear(weight, scales.view(1, outputs), bias, inputs, outputs)


def _quantize_into(
    part: StoredWeight, sender: Sender, dtype: torch.dtype, codes: torch.Tensor, scales: torch.Tensor
) -> None:
    """Piece by piece, so that no matrix is on the device in 16 bits as a whole."""
    step = max(1, PIECE_BYTES // (dtype.itemsize * part.shape[1]))
    for first in range(0, part.shape[0], step):
        piece = slice(first, first + step)
        codes[piece], scales[piece] = quantize(sender.dense([part.rows(piece)], dtype))


def as_stored(part: StoredWeight) -> tuple[np.ndarray, np.ndarray] | None:
    """Codes (outputs, inputs) and scales (outputs, 1), or (outputs, groups of GROUP inputs); None for what is no FP8 of
    such scales."""
    if part.type != "FP8":
        return None
    outputs, inputs = part.shape
    blocks = np.ascontiguousarray(part.data).view(np.uint8).reshape(outputs, inputs // 32, 36)
    codes = np.ascontiguousarray(blocks[..., 4:]).reshape(outputs, inputs)
    scales = np.ascontiguousarray(blocks[..., :4]).view(np.float32)[..., 0]
    for each in (inputs // 32, GROUP // 32):  # blocks that share a scale
        shared = np.ascontiguousarray(scales[:, ::each])
        if (np.repeat(shared, each, axis=1)[:, : inputs // 32] == scales).all():
            return codes, shared
    return None


def zeros(in_features: int, out_features: int, device: torch.device | None = None) -> Fp8Linear:
    """A matrix of zeros, for whoever wants to see what launches do with one, or fills it."""
    weight = torch.zeros((out_features, in_features), dtype=torch.uint8, device=device).view(torch.float8_e4m3fn)
    return Fp8Linear(weight, torch.ones((1, out_features), device=device), None, in_features, out_features)

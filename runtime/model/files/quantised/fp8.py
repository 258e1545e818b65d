"""Weights in floats of 8 bits (E4M3) with scales: one for the matrix, one for each output, or one for each square of
inputs and outputs (DeepSeek V3). Activations, which other runtimes round to 8 bits as well, are not rounded here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stemma.kernels.weights import small_floats
from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model.files.quantised.blocks import BLOCK, Array, Folder, fits, floats, plain, small

USED = frozenset({"weight_block_size", "fmt", "quant_algo", "quantization"})
WITHOUT_EFFECT = frozenset(
    ("modules_to_not_convert", "ignored_layers", "activation_scheme", "activation_scale_ub", "scale_fmt", "dequantize",
     "producer", "exclude_modules", "ignore", "kv_cache_quant_algo")
)  # fmt: skip
SCALES = (".weight_scale_inv", ".weight_scale", ".scale_weight", ".scale")
"""All of these are what a weight is multiplied by."""
OF_ACTIVATIONS = (".input_scale", ".activation_scale", ".activation_scale_inv", ".scale_input", ".k_scale", ".v_scale")


def read_fp8(settings: Mapping[str, Any], folder: Folder) -> None:
    """Read all modules. Raises UnsupportedModel for what is not read."""
    algorithm = settings.get("quant_algo") or (settings.get("quantization") or {}).get("quant_algo") or "FP8"
    if algorithm != "FP8" or settings.get("fmt", "e4m3") != "e4m3":
        raise UnsupportedModel(f"weights quantised as {settings.get('fmt', algorithm)!r} are not read; FP8 (E4M3) is")
    square = settings.get("weight_block_size")
    for name, weight in list(folder.tensors.items()):
        if weight.type == "F8_E4M3" and name.endswith(".weight"):
            read_module(folder, name.removesuffix(".weight"), square)


def read_module(folder: Folder, name: str, square: list[int] | None) -> None:
    """A matrix with its scales; square: outputs and inputs that share one, if they do."""
    codes = np.ascontiguousarray(folder.take(f"{name}.weight").data).view(np.uint8)
    if codes.ndim != 2:
        raise UnsupportedModel(f"tensor {name + '.weight'!r} has {codes.ndim} dimensions in FP8, which is not read")
    ending = next((ending for ending in SCALES if name + ending in folder.tensors), None)
    if ending is None:
        raise ModelFileError(f"the model's files hold no scales for {name + '.weight'!r}, which is stored in FP8")
    scales = _by_output(floats(folder.take(name + ending)), codes.shape, square, name)
    folder.drop(*(name + each for each in OF_ACTIVATIONS))
    inputs = codes.shape[1]
    per = inputs // scales.shape[1] if square is None else square[1]
    if fits(inputs, scales.shape[1]) and per * scales.shape[1] == inputs:
        folder.put(f"{name}.weight", small(codes, scales))
    elif inputs % BLOCK == 0 and per % BLOCK == 0:
        by_input = np.repeat(scales, per // BLOCK, axis=1)[:, : inputs // BLOCK]
        folder.put(f"{name}.weight", small(codes, by_input))
    else:
        values = small_floats(codes) * np.repeat(scales, per, axis=1)[:, :inputs]
        folder.put(f"{name}.weight", plain(values, "F32"), "inputs or groups are no multiple of 32")


def _by_output(scales: Array, shape: tuple[int, ...], square: list[int] | None, name: str) -> Array:
    """Scales of any shape -> (outputs, groups of inputs)."""
    outputs, inputs = shape
    if scales.size == 1:
        return np.broadcast_to(scales.reshape(1, 1), (outputs, 1))
    if square is not None:
        expected = (-(-outputs // square[0]), -(-inputs // square[1]))
        if scales.shape == expected:
            return np.repeat(scales, square[0], axis=0)[:outputs]
    elif scales.ndim <= 2 and len(scales) == outputs:
        return scales.reshape(outputs, -1)
    raise ModelFileError(f"scales of {name!r} have shape {scales.shape}, which does not fit a matrix of {shape}")

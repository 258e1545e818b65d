"""compressed-tensors, as llm-compressor writes them: whole numbers and floats of 4 and 8 bits, with scales for
each matrix, output or group of inputs.

    pack-quantized    weight_packed (outputs, inputs * bits / 32), codes with half their range added;  weight_shape
    int-quantized, float-quantized, naive-quantized, mxfp8-quantized    weight: bytes
    all               weight_scale (outputs, groups), perhaps weight_zero_point, weight_g_idx
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model.files.quantised import fp4, fp8
from stemma.runtime.model.files.quantised.blocks import (
    Array,
    Folder,
    affine,
    beside,
    fits,
    floats,
    plain,
    spread,
    unpacked,
    whole,
)

USED = frozenset({"config_groups", "format", "sparsity_config", "kv_cache_scheme", "quantization_status"})
WITHOUT_EFFECT = frozenset({"ignore", "global_compression_ratio", "version", "transform_config"})
FORMATS = (
    "pack-quantized", "int-quantized", "float-quantized", "naive-quantized", "nvfp4-pack-quantized",
    "mxfp4-pack-quantized", "mxfp8-quantized", "mixed-precision", "dense",
)  # fmt: skip
SCATTERED = "the order of activations scatters the inputs of a group"


def read_compressed(settings: Mapping[str, Any], folder: Folder) -> None:
    """Read all modules. Raises UnsupportedModel for what is not read."""
    groups = settings.get("config_groups") or {}
    formats = {settings.get("format", "dense"), *(group.get("format") or "dense" for group in groups.values())}
    if unknown := sorted(formats - set(FORMATS)):
        raise UnsupportedModel(f"compressed-tensors in the format {unknown[0]!r} are not read; read are {FORMATS}")
    if (settings.get("sparsity_config") or {}).get("format", "dense") != "dense":
        raise UnsupportedModel("compressed-tensors with a 'sparsity_config' are not read; save them dense")
    if settings.get("kv_cache_scheme"):
        raise UnsupportedModel("compressed-tensors with a 'kv_cache_scheme' are not read: the KV would be rounded")
    if settings.get("transform_config"):
        raise UnsupportedModel("compressed-tensors with a 'transform_config' are not read: activations are rotated")
    schemes = [group.get("weights") or {} for group in groups.values()]
    squares = {tuple(scheme.get("block_structure") or ()) for scheme in schemes} - {()}
    bits = {scheme.get("num_bits") for scheme in schemes if scheme.get("type", "int") == "int"} - {None}
    if len(squares) > 1:
        raise UnsupportedModel(f"compressed-tensors with several block structures {sorted(squares)} are not read")
    for name in folder.modules(".weight_packed"):
        if folder.tensors[f"{name}.weight_packed"].type == "U8":
            fp4.read_module(folder, name)
        else:
            _read_packed(folder, name, bits)
    for name, weight in list(folder.tensors.items()):
        module = name.removesuffix(".weight")
        if name.endswith(".weight") and weight.type == "F8_E4M3":
            _widen_exponents(folder, f"{module}.weight_scale")
            scales = folder.tensors.get(f"{module}.weight_scale", weight).shape
            # Of a matrix that is one square wide, scales are one column too.
            has_square = squares and (scales[-1] != 1 or scales[0] not in (1, weight.shape[0]))
            fp8.read_module(folder, module, list(next(iter(squares))) if has_square else None)
            folder.drop(f"{module}.weight_zero_point", f"{module}.input_zero_point")
        elif name.endswith(".weight") and weight.type == "I8":
            _read_bytes(folder, module)


def _widen_exponents(folder: Folder, name: str) -> None:
    """Scales that are powers of two (MXFP8), as floats."""
    scales = folder.tensors.get(name)
    if scales is not None and scales.type == "U8":
        folder.tensors[name] = plain(floats(replace(scales, type="F8_E8M0")), "F32")


def _read_packed(folder: Folder, name: str, all_bits: set[Any]) -> None:
    words = folder.take(f"{name}.weight_packed").data
    outputs, inputs = (int(size) for size in folder.take(f"{name}.weight_shape").data)
    bits = next((bits for bits in all_bits if -(-inputs * bits // 32) == words.shape[1] and bits in (4, 8)), None)
    if bits is None:
        raise UnsupportedModel(f"weights of {name!r}, packed with {sorted(all_bits)} bits, are not read; 4 and 8 are")
    codes = unpacked(np.ascontiguousarray(words), bits)[:, :inputs]
    packed_zeros = folder.tensors.pop(f"{name}.weight_zero_point", None)
    zeros = None
    if packed_zeros is not None:  # packed along the outputs
        zeros = unpacked(np.ascontiguousarray(packed_zeros.data.T), bits)[:, :outputs].T.astype(np.float32)
    middle = 1 << (bits - 1)
    _put(folder, name, codes.astype(np.float32) - middle, None if zeros is None else zeros - middle)


def _read_bytes(folder: Folder, name: str) -> None:
    codes = folder.take(f"{name}.weight").data.view(np.int8)
    zeros = folder.tensors.pop(f"{name}.weight_zero_point", None)
    _put(folder, name, codes.astype(np.float32), None if zeros is None else floats(zeros))


def _put(folder: Folder, name: str, codes: Array, zeros: Array | None) -> None:
    """codes: signed. zeros: (outputs, groups), or fewer."""
    outputs, inputs = codes.shape
    stored = folder.take(f"{name}.weight_scale")
    scales = _by_output(floats(stored), outputs, name)
    zeros = np.zeros_like(scales) if zeros is None else np.broadcast_to(_by_output(zeros, outputs, name), scales.shape)
    folder.drop(f"{name}.input_scale", f"{name}.input_zero_point", f"{name}.output_scale")
    order = folder.tensors.pop(f"{name}.weight_g_idx", None)
    groups = scales.shape[1]
    if order is not None and not np.array_equal(order.data, np.arange(inputs) * groups // inputs):
        if int(order.data.max()) >= groups or int(order.data.min()) < 0:
            raise ModelFileError(f"{name}.weight_g_idx names groups that are not there; fetch the model again")
        values = scales[:, order.data] * (codes - zeros[:, order.data])
        weight = plain(values, stored.type)
        if codes.min() >= -8 and codes.max() <= 7:
            weight = beside(weight, (codes + 8).astype(np.uint8), scales, zeros + 8, order.data.astype(np.int64))
        folder.put(f"{name}.weight", weight, SCATTERED)
    elif not fits(inputs, groups):
        values = spread(scales, inputs) * (codes - spread(zeros, inputs))
        folder.put(f"{name}.weight", plain(values, stored.type), "groups are no multiple of 32 inputs")
    elif codes.min() >= -8 and codes.max() <= 7:
        folder.put(f"{name}.weight", affine((codes + 8).astype(np.uint8), scales, zeros + 8))
    elif not zeros.any():
        folder.put(f"{name}.weight", whole(codes.astype(np.int8), scales))
    else:
        values = spread(scales, inputs) * (codes - spread(zeros, inputs))
        folder.put(f"{name}.weight", plain(values, stored.type), "bytes with a zero of their own have nine bits")


def _by_output(facts: Array, outputs: int, name: str) -> Array:
    if facts.size == 1:
        return np.broadcast_to(facts.reshape(1, 1), (outputs, 1))
    if facts.ndim > 2 or len(facts) != outputs:
        raise ModelFileError(f"scales or zeros of {name!r} have shape {facts.shape}, but it has {outputs} outputs")
    return facts.reshape(outputs, -1)

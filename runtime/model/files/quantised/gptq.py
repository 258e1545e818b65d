"""GPTQ (Frantar et al. 2022), as AutoGPTQ and GPTQModel store it: codes of 2, 3, 4 or 8 bits packed along the inputs.

    qweight (inputs * bits / 32, outputs)   scales (groups, outputs)   qzeros (groups, outputs * bits / 32)
    g_idx (inputs,): the group of each input
    weight = scale * (code - zero); format "gptq" stores zeros less one, "gptq_v2" as they are

An order of activations (`desc_act`) scatters the inputs of a group; such a matrix becomes floats of its scales' type,
as GPTQ's own kernels round them. Its codes stand beside them, for back ends that put inputs in order (`Ordered`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model.files.quantised.blocks import Folder, affine, beside, fits, floats, plain, unpacked, whole

USED = frozenset({"bits", "group_size", "checkpoint_format", "format", "dynamic", "pack_dtype", "is_marlin_format"})
WITHOUT_EFFECT = frozenset(
    ("desc_act", "act_group_aware", "sym", "static_groups", "true_sequential", "damp_percent", "damp_auto_increment",
     "damp", "mse", "lm_head", "meta", "model_name_or_path", "model_file_base_name", "tokenizer", "dataset",
     "batch_size", "use_cuda_fp16", "use_exllama", "disable_exllama", "exllama_config", "max_input_length",
     "model_seqlen", "block_name_to_quantize", "module_name_preceding_first_block", "pad_token_id",
     "cache_block_outputs", "backend", "modules_in_block_to_quantize", "modules_to_not_convert", "version",
     "quantizer", "hyb_act")
)  # fmt: skip
SCATTERED = "the order of activations scatters the inputs of a group (on a GPU they stay four bits)"


def read_gptq(settings: Mapping[str, Any], folder: Folder) -> None:
    """Read all modules. Raises UnsupportedModel for what is not read."""
    bits = settings.get("bits")
    if bits not in (2, 3, 4, 8):
        raise UnsupportedModel(f"GPTQ with {bits!r} bits is not read; those of 2, 3, 4 and 8 bits are")
    form = settings.get("checkpoint_format") or settings.get("format") or "gptq"
    if form not in ("gptq", "gptq_v2") or settings.get("is_marlin_format"):
        form = "marlin" if settings.get("is_marlin_format") else form
        raise UnsupportedModel(f"GPTQ in the format {form!r} is not read; save it as 'gptq' or 'gptq_v2'")
    if settings.get("pack_dtype", "int32") not in ("int32", "torch.int32"):
        raise UnsupportedModel(f"GPTQ packed into {settings['pack_dtype']!r} is not read; only int32 is")
    for pattern, changes in (settings.get("dynamic") or {}).items():
        if changes and not pattern.startswith("-:"):
            raise UnsupportedModel(f"GPTQ with settings of its own for modules {pattern!r} ('dynamic') is not read")
    names = list(folder.modules(".qweight"))
    for name in names:
        _read_module(folder, name, bits, 1 if form == "gptq" else 0)
    biases = [f"{name}.bias" for name in names if f"{name}.bias" in folder.tensors]
    if not any(folder.tensors[bias].data.any() for bias in biases):
        folder.drop(*biases)  # which AutoGPTQ gives to modules without


def _read_module(folder: Folder, name: str, bits: int, zero_offset: int) -> None:
    codes = unpacked(np.ascontiguousarray(folder.take(f"{name}.qweight").data.T), bits)
    outputs, inputs = codes.shape
    stored_scales = folder.take(f"{name}.scales")
    scales = floats(stored_scales).T
    zeros = (unpacked(folder.take(f"{name}.qzeros").data, bits)[:, :outputs].T + zero_offset) & ((1 << bits) - 1)
    zeros, groups = zeros.astype(np.float32), scales.shape[1]
    if scales.shape != zeros.shape:
        raise ModelFileError(f"scales and zeros of {name!r} do not fit: {scales.shape} and {zeros.shape}")
    g_idx = folder.tensors.pop(f"{name}.g_idx", None)
    in_order = np.arange(inputs) * groups // inputs
    order = in_order if g_idx is None else g_idx.data.astype(np.int64)
    if g_idx is not None and (order.shape != (inputs,) or order.min() < 0 or order.max() >= groups):
        raise ModelFileError(f"{name}.g_idx names groups that are not there; fetch the model again")
    reason = "" if np.array_equal(order, in_order) else SCATTERED
    if not reason and not fits(inputs, groups):
        reason = "groups are no multiple of 32 inputs"
    if not reason and bits == 8 and (zeros != 128).any():
        reason = "bytes with a zero of their own have nine bits"
    if reason:
        values = scales[:, order] * (codes.astype(np.float32) - zeros[:, order])
        weight = plain(values, stored_scales.type)
        if reason == SCATTERED and bits <= 4:
            weight = beside(weight, codes, scales, zeros, order)
        folder.put(f"{name}.weight", weight, reason)
    elif bits == 8:
        folder.put(f"{name}.weight", whole((codes ^ 128).view(np.int8), scales))
    else:
        folder.put(f"{name}.weight", affine(codes, scales, zeros))

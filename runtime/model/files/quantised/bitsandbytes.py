"""bitsandbytes (Dettmers et al. 2022, 2023): bytes with a scale for each output, or places in a table of 16 floats
(NF4, FP4) with a scale for 64 weights in a row, which may be quantised once more.

The products of table and scale are no whole numbers; they become floats of the type that bitsandbytes computes in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from stemma.kernels.weights import StoredWeight
from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model.files.quantised.blocks import Folder, floats, plain, whole

USED = frozenset({"load_in_4bit", "load_in_8bit", "_load_in_4bit", "_load_in_8bit"})
WITHOUT_EFFECT = frozenset(
    ("bnb_4bit_compute_dtype", "bnb_4bit_quant_storage", "bnb_4bit_quant_type", "bnb_4bit_use_double_quant",
     "llm_int8_enable_fp32_cpu_offload", "llm_int8_has_fp16_weight", "llm_int8_skip_modules", "llm_int8_threshold")
)  # fmt: skip
STATE = ".weight.quant_state.bitsandbytes__"
TYPES = {"float16": "F16", "bfloat16": "BF16", "float32": "F32"}


def read_bitsandbytes(settings: Mapping[str, Any], folder: Folder) -> None:
    """Read all modules. Raises UnsupportedModel for what is not read."""
    for name in folder.modules(".SCB"):
        scales = floats(folder.take(f"{name}.SCB")).reshape(-1, 1) / np.float32(127)
        layout = folder.tensors.pop(f"{name}.weight_format", None)
        if layout is not None and int(layout.data.reshape(-1)[0]) != 0:
            raise UnsupportedModel(f"{name}.weight_format is not 'row'; save the model again with bitsandbytes")
        codes = folder.take(f"{name}.weight").data.view(np.int8)
        if codes.shape[1] % 32:
            folder.put(f"{name}.weight", plain(codes * scales, "F32"), "inputs are no multiple of 32")
        else:
            folder.put(f"{name}.weight", whole(codes, scales))
    for name in list(folder.tensors):
        if STATE in name:
            _read_table(folder, name.split(STATE)[0], name)


def _read_table(folder: Folder, name: str, state_name: str) -> None:
    try:
        state = json.loads(folder.take(state_name).data.tobytes())
        shape, size, dtype = tuple(state["shape"]), int(state["blocksize"]), TYPES[str(state["dtype"])]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"{state_name} is damaged ({error}); fetch the model again") from error
    packed = np.ascontiguousarray(folder.take(f"{name}.weight").data).reshape(-1).view(np.uint8)
    codes = np.stack((packed >> 4, packed & 15), axis=-1).reshape(-1)[: int(np.prod(shape))]
    table = floats(folder.take(f"{name}.weight.quant_map"))
    scales = np.repeat(_scales(folder, name, state), size)[: len(codes)]
    if len(scales) != len(codes) or len(codes) != int(np.prod(shape)):
        raise ModelFileError(f"codes and scales of {name!r} do not fit its shape {shape}; fetch the model again")
    values = (table[codes] * scales).reshape(shape)
    kind = str(state.get("quant_type", "4 bits")).upper()
    folder.put(f"{name}.weight", plain(values, dtype), f"{kind} is a table of floats")


def _scales(folder: Folder, name: str, state: Mapping[str, Any]) -> Any:
    stored: StoredWeight = folder.take(f"{name}.weight.absmax")
    if f"{name}.weight.nested_absmax" not in folder.tensors:
        return floats(stored)
    outer = floats(folder.take(f"{name}.weight.nested_absmax"))
    table = floats(folder.take(f"{name}.weight.nested_quant_map"))
    size = int(state["nested_blocksize"])
    inner = table[stored.data.astype(np.int64)]
    return inner * np.repeat(outer, size)[: len(stored.data)] + np.float32(state["nested_offset"])

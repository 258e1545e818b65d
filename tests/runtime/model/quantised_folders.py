"""Writes folders of which one matrix is quantised, packed from the formats' definitions, and reads them back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file

from stemma.kernels.weights import StoredWeight, dequantize
from stemma.runtime.model.files.hugging_face import read_hugging_face
from tests.runtime.model.test_hugging_face import write_folder

Array = npt.NDArray[Any]
Parts = dict[str, torch.Tensor]
NAME = "model.layers.0.mlp.down_proj"
OUTPUTS, INPUTS = 64, 128
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=np.float32)


def read(tmp_path: Path, parts: Parts, config: dict[str, Any], beside: bool = False) -> dict[str, StoredWeight]:
    """The tiny model with one matrix in another form."""
    folder = write_folder(tmp_path, **({} if beside else {"quantization_config": config}))
    if beside:
        (folder / "quantize_config.json").write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    del tensors[f"{NAME}.weight"]
    save_file({**tensors, **{f"{NAME}.{name}": part for name, part in parts.items()}}, folder / "model.safetensors")
    return dict(read_hugging_face(folder).tensors)


def assert_reads(tensors: dict[str, StoredWeight], want: Array, type_: str) -> None:
    found = tensors[f"{NAME}.weight"]
    assert found.type == type_
    assert found.shape == want.shape
    assert np.array_equal(dequantize(found), want.astype(np.float32))
    assert not [name for name in tensors if name.startswith(NAME) and name != f"{NAME}.weight"]


def as_stored(part: torch.Tensor) -> StoredWeight:
    if part.dtype == torch.float8_e4m3fn:
        return StoredWeight("F8_E4M3", tuple(part.shape), part.view(torch.uint8).numpy())
    return StoredWeight({torch.uint8: "U8", torch.float32: "F32"}[part.dtype], tuple(part.shape), part.numpy())


def words(codes: Array, bits: int, axis: int) -> torch.Tensor:
    """Codes one behind the other, the lowest bits first, in words of 32 bits."""
    lines = np.moveaxis(codes, axis, -1)
    packed = np.zeros((*lines.shape[:-1], -(-lines.shape[-1] * bits // 32)), dtype=np.uint32)
    for place in range(lines.shape[-1]):
        for bit in range(bits):
            at = place * bits + bit
            packed[..., at // 32] |= ((lines[..., place].astype(np.uint32) >> bit) & 1) << np.uint32(at % 32)
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(packed, -1, axis)).view(np.int32))


def halves(random: np.random.Generator, *shape: int) -> Array:
    return random.uniform(0.01, 0.1, shape).astype(np.float16)


def compressed(format_: str, **weights: Any) -> dict[str, Any]:
    group = {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "symmetric": True, **weights}}
    return {
        "quant_method": "compressed-tensors", "format": format_, "config_groups": {"group_0": group},
        "ignore": ["lm_head"], "quantization_status": "compressed", "kv_cache_scheme": None,
    }  # fmt: skip

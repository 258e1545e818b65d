"""AWQ (Lin et al. 2023) in AutoAWQ's packing "gemm", which GPTQModel writes too: codes of 4 bits, eight outputs a word,
in an order of its own. Without zeros of their own (`zero_point` off) the zeros that are stored are all 8.

qweight (inputs, outputs / 8)   scales (groups, outputs)   qzeros (groups, outputs / 8);  weight = scale * (code - zero)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stemma.runtime.errors import ModelFileError, UnsupportedModel
from stemma.runtime.model.files.quantised.blocks import Array, Folder, affine, fits, floats, plain, spread, unpacked

USED = frozenset({"bits", "w_bit", "version", "format", "checkpoint_format", "zero_point", "pack_dtype"})
WITHOUT_EFFECT = frozenset(
    ("group_size", "q_group_size", "modules_to_not_convert", "backend", "do_fuse", "fuse_max_seq_len",
     "modules_to_fuse", "exllama_config", "sym", "desc_act", "lm_head", "meta",
     "quantizer")
)  # fmt: skip
PLACES = (0, 2, 4, 6, 1, 3, 5, 7)
"""Which of eight outputs each four bits of a word belong to, the lowest first."""


def read_awq(settings: Mapping[str, Any], folder: Folder) -> None:
    """Read all modules. Raises UnsupportedModel for what is not read."""
    bits = settings.get("bits", settings.get("w_bit", 4))
    forms = [str(settings[name]).lower() for name in ("version", "format", "checkpoint_format") if settings.get(name)]
    version = next((form for form in forms if form != "gemm"), "gemm")
    if bits != 4 or version != "gemm":
        raise UnsupportedModel(f"AWQ with {bits!r} bits, packed for {version!r}, is not read; 4 bits in 'gemm' are")
    if settings.get("pack_dtype", "int32") not in ("int32", "torch.int32"):
        raise UnsupportedModel(f"AWQ packed into {settings['pack_dtype']!r} is not read; only int32 is")
    for name in folder.modules(".qweight"):
        codes = _outputs_first(folder.take(f"{name}.qweight").data)
        stored_scales = folder.take(f"{name}.scales")
        scales, zeros = floats(stored_scales).T, _outputs_first(folder.take(f"{name}.qzeros").data).astype(np.float32)
        if scales.shape != zeros.shape or len(scales) != len(codes):
            raise ModelFileError(f"codes, scales and zeros of {name!r} do not fit; fetch the model again")
        inputs = codes.shape[1]
        if fits(inputs, scales.shape[1]):
            folder.put(f"{name}.weight", affine(codes, scales, zeros))
        else:
            values = spread(scales, inputs) * (codes.astype(np.float32) - spread(zeros, inputs))
            folder.put(
                f"{name}.weight", plain(values, stored_scales.type), "groups are no multiple of 32 inputs"
            )  # fmt: skip


def _outputs_first(words: Array) -> Array:
    """(n, outputs / 8) words -> (outputs, n) codes."""
    codes = unpacked(np.ascontiguousarray(words), 4).reshape(len(words), -1, 8)
    ordered = np.empty_like(codes)
    ordered[..., list(PLACES)] = codes
    return np.ascontiguousarray(ordered.reshape(len(words), -1).T)

"""MXFP4 (OCP microscaling formats 1.0) as gpt-oss has it: 32 numbers of 4 bits with a power of two, two inputs a byte.

    <name>_blocks (..., outputs, blocks, 16): inputs 2i and 2i + 1, the even one low
    <name>_scales (..., outputs, blocks)

GGUF's blocks hold the same with inputs i and i + 16 in a byte. Matrices of several experts keep their dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stemma.runtime.errors import ModelFileError
from stemma.runtime.model.files.quantised.blocks import Folder, microscaled, nibbles

USED: frozenset[str] = frozenset()
WITHOUT_EFFECT = frozenset({"modules_to_not_convert", "dequantize"})


def read_mxfp4(settings: Mapping[str, Any], folder: Folder) -> None:
    """Read all matrices."""
    for name in folder.modules("_blocks"):
        blocks, scales = (np.asarray(folder.take(name + end).data, dtype=np.uint8) for end in ("_blocks", "_scales"))
        if blocks.shape != (*scales.shape, 16):
            raise ModelFileError(f"blocks and scales of {name!r} do not fit: {blocks.shape} and {scales.shape}")
        folder.put(name, microscaled(nibbles(blocks), scales))

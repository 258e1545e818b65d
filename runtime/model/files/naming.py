"""What people call a model, from where it came: a hub id, or the name of its file or folder. Opens no file.

HuggingFaceTB/SmolLM2-135M-Instruct                  as it is
models/SmolLM2-135M-Instruct.Q4_1.gguf               SmolLM2-135M-Instruct
Qwen3-8B-UD-Q4_K_XL-00001-of-00002.gguf              Qwen3-8B
.../models--owner--name/snapshots/0f3a.../           owner/name, a folder of the hub's cache
"""

from __future__ import annotations

import re
from pathlib import Path

PART = re.compile(r"-\d{5}-of-\d{5}$")
QUANTISATION = re.compile(
    r"[-._](?:i1[-._])?(?:UD-)?(?:I?Q[1-8](?:_[0-9A-Z]+)*|T?Q[12]_0|BF16|F16|F32|FP16|FP32|MXFP4(?:_MOE)?|NVFP4)$",
    re.IGNORECASE,
)
IN_CACHE = re.compile(r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)")


def name_of(source: str | Path) -> str:
    """The name of a model that was loaded from here."""
    path = Path(source).expanduser()
    if not path.exists():
        return str(source)  # a hub id
    if path.suffix == ".gguf":
        whole = PART.sub("", path.stem)
        return QUANTISATION.sub("", whole) or whole
    cached = IN_CACHE.fullmatch(path.parent.parent.name) if path.parent.name == "snapshots" else None
    return f"{cached['owner']}/{cached['name']}" if cached else path.resolve().name

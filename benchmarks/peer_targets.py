"""Everybody on the instruction set of one target, so that a machine shows what lesser ones get.

Stemma is told by STEMMA_TARGET, oneDNN (and with it OpenVINO) by its own variable; of llama.cpp's libraries, one for
each generation of CPUs, those of better generations are left out. The wheel's llama-server is built for AVX2, always.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from stemma.kernels.cpu.machine.target import host_target

ONEDNN = {"avx512-vnni": "AVX512_CORE_VNNI", "avx512": "AVX512_CORE", "avx-vnni": "AVX2_VNNI", "avx2": "AVX2"}
OLDER = ("x64", "sse42", "sandybridge", "ivybridge", "piledriver", "haswell")
LLAMA = {
    "avx2": OLDER,
    "avx-vnni": (*OLDER, "alderlake"),
    "avx512": (*OLDER, "skylakex"),
    "avx512-vnni": (*OLDER, "skylakex", "cannonlake", "cascadelake", "icelake"),
}


def limit_to(target: str | None) -> str:
    """Say it to all processes that are started from now on. Returns the target's name, without one the machine's own.

    Raises UnknownTarget where the machine has no such instructions.
    """
    if target:
        os.environ["STEMMA_TARGET"] = target
    name = host_target().name
    if target and name in ONEDNN:
        os.environ["ONEDNN_MAX_CPU_ISA"] = ONEDNN[name]
    return name


def llama_folder(folder: Path) -> Path:
    """Where llama.cpp's package lies, without libraries beyond the target that has been asked for."""
    allowed = LLAMA.get(os.environ.get("STEMMA_TARGET", ""))
    if allowed is None:
        return folder
    limited = folder.with_name(f"{folder.name}-{os.environ['STEMMA_TARGET']}")
    if not (limited / "installed").exists():
        shutil.rmtree(limited, ignore_errors=True)
        shutil.copytree(folder, limited, copy_function=os.link, symlinks=True)
        for library in limited.rglob("libggml-cpu-*.so"):
            if library.stem.removeprefix("libggml-cpu-") not in allowed:
                library.unlink()
    return limited

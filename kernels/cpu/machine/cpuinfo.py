"""What an x86 processor says it can do, by Linux, which lists what it lets programs use: without LLVM's library."""

from __future__ import annotations

from pathlib import Path

NAMES = {
    "avx512_vnni": "avx512vnni",
    "amx_tile": "amx-tile",
    "amx_int8": "amx-int8",
    "avx_vnni": "avxvnni",
    "3dnowprefetch": "prfchw",
}
"""Linux's names of flags that LLVM has others for."""
CPUINFO = Path("/proc/cpuinfo")
FIRST_ZEN = 23


def x86_flags() -> dict[str, bool]:
    """By LLVM's names; none where Linux does not say (no /proc, or one that a sandbox has made)."""
    return {NAMES.get(flag, flag): True for flag in _first_processor().get("flags", "").split()}


def x86_cpu() -> str:
    """What matters of LLVM's name of the processor: whether it is one of AMD's Zen."""
    said = _first_processor()
    zen = said.get("vendor_id") == "AuthenticAMD" and int(said.get("cpu family", "0")) >= FIRST_ZEN
    return "znver" if zen else "x86-64"


def _first_processor() -> dict[str, str]:
    try:
        text = CPUINFO.read_text(encoding="ascii", errors="replace")  # a processor's name may be anything
    except OSError:
        return {}
    lines = text.partition("\n\n")[0].splitlines()
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}

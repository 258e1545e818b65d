"""What an ARM processor says it can do.

LLVM reads it from the text of /proc/cpuinfo, which under an emulator is another machine's, and which a Mac has not. The
system tells each process: by its auxiliary vector on Linux, by sysctl on macOS.
"""

from __future__ import annotations

import ctypes
import sys

from stemma.kernels.cpu.machine.sysctl import sysctl

AT_HWCAP, AT_HWCAP2 = 16, 26
BITS = {"dotprod": (AT_HWCAP, 20), "i8mm": (AT_HWCAP2, 13)}
"""LLVM's name of a flag: the word of the auxiliary vector and the bit (Linux, arch/arm64/include/uapi/asm/hwcap.h)."""
NAMES = {"dotprod": "hw.optional.arm.FEAT_DotProd", "i8mm": "hw.optional.arm.FEAT_I8MM"}
"""Since macOS 12; a name that the system does not know is a flag that the processor has not."""


def arm_flags() -> dict[str, bool]:
    """By LLVM's names: dot products of bytes, products of small matrices of bytes. None of them is asked for elsewhere
    than on Linux and macOS."""
    if sys.platform == "darwin":
        flags = {flag: sysctl(name) == 1 for flag, name in NAMES.items()}
        return flags | {"dotprod": True}  # which all of Apple's have
    if sys.platform == "linux":
        return {flag: bool(auxiliary(word) >> bit & 1) for flag, (word, bit) in BITS.items()}
    return dict.fromkeys(BITS, False)


def auxiliary(word: int) -> int:
    """A word of what Linux gives each process at its start; 0 if it has none."""
    function = ctypes.CDLL(None).getauxval
    function.argtypes, function.restype = [ctypes.c_ulong], ctypes.c_ulong
    return int(function(word))

"""Numbers that macOS knows of its machine, by name."""

from __future__ import annotations

import ctypes


def sysctl(name: str) -> int | None:
    """None where the system does not know the name: names came with versions of macOS, and with processors."""
    function = ctypes.CDLL(None).sysctlbyname
    function.argtypes = [ctypes.c_char_p, *[ctypes.c_void_p] * 3, ctypes.c_size_t]
    value, size = ctypes.c_int64(0), ctypes.c_size_t(8)
    known = function(name.encode(), ctypes.byref(value), ctypes.byref(size), None, 0) == 0
    return value.value if known else None

"""The printable characters that byte-level tokenizers write bytes as (Radford et al. 2019, GPT-2's encoder)."""

from __future__ import annotations

from functools import cache


@cache
def char_of_byte() -> tuple[str, ...]:
    """256 characters: printable Latin-1 stands for itself, the rest for U+0100 and up, in order."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return tuple(chr(byte) if byte in printable else chr(0x100 + others.index(byte)) for byte in range(256))

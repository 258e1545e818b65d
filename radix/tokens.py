"""Token ids as packed memory: 4 bytes a token, native order, so that edges compare by memcmp.

Never looks at one token at a time; every function costs one pass over the bytes it must read.
"""

import sys
from array import array
from collections.abc import Sequence
from typing import Final, Protocol, TypeAlias

TOKEN_BYTES: Final = 4
_FIRST_LOOK: Final = 64  # bytes: most edges that differ do so in the first few tokens


class TokenArray(Protocol):
    """What numpy's int32 arrays offer here; the library itself imports no numpy."""

    @property
    def itemsize(self) -> int: ...

    def tobytes(self) -> bytes: ...


Tokens: TypeAlias = "Sequence[int] | array[int] | memoryview | TokenArray | bytes"
Packed: TypeAlias = "bytes | memoryview"  # a query: only read while the call lasts. What is kept is bytes


def pack(tokens: Tokens) -> Packed:
    """Token ids as bytes. bytes are taken as packed already; lists cost 15 ns a token, arrays of int32 and views of
    them nothing: what they give is a view."""
    if isinstance(tokens, array):
        return memoryview(tokens).cast("B") if tokens.typecode == "i" else array("i", tokens.tolist()).tobytes()
    if isinstance(tokens, bytes):
        return tokens
    if isinstance(tokens, memoryview) and tokens.format == "i" and tokens.contiguous:
        return tokens.cast("B")
    if isinstance(tokens, (list, tuple)):
        return array("i", tokens).tobytes()
    kind = getattr(getattr(tokens, "dtype", None), "kind", None)
    if kind == "i" and tokens.itemsize == TOKEN_BYTES:  # type: ignore[union-attr]
        return tokens.tobytes()  # type: ignore[union-attr]
    return array("i", list(tokens)).tobytes()  # type: ignore[arg-type]


def unpack(data: Packed) -> list[int]:
    """The token ids in packed bytes."""
    return array("i", data).tolist()


def token_at(data: Packed, position: int) -> int:
    """One token id of packed bytes."""
    start = TOKEN_BYTES * position
    return int.from_bytes(data[start : start + TOKEN_BYTES], sys.byteorder, signed=True)


def packed_token(data: Packed, position: int) -> bytes:
    """One token of packed bytes, packed."""
    return bytes(data[TOKEN_BYTES * position : TOKEN_BYTES * position + TOKEN_BYTES])


def common_prefix(edge: bytes, query: Packed, offset: int) -> int:
    """How many tokens of `edge` equal those of `query` from the token `offset` on.

    Looks at 64 bytes, then at twice as many each time, and finds the first different bit of the chunk that differs
    with one big-integer XOR: the cost is linear in the answer, not in the edge.
    """
    start = TOKEN_BYTES * offset
    length = min(len(edge), len(query) - start)
    if edge.startswith(query[start : start + length]):
        return length // TOKEN_BYTES
    done, step = 0, _FIRST_LOOK
    while done < length:
        stop = min(done + step, length)
        other = query[start + done : start + stop]
        if not edge.startswith(other, done):
            different = int.from_bytes(edge[done:stop], "little") ^ int.from_bytes(other, "little")
            return done // TOKEN_BYTES + ((different & -different).bit_length() - 1) // (8 * TOKEN_BYTES)
        done, step = stop, 2 * step
    raise AssertionError("two texts that differ have no token that differs")

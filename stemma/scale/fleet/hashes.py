"""The event hashes of a prompt, without an engine: what a router asks the index for.

They are those of `radix/events.py`, whatever the scope; nothing here knows a replica.
"""

from __future__ import annotations

from stemma.radix import Namespace, Segments
from stemma.radix.events import chain_hash, hash_key
from stemma.radix.node import private_scope
from stemma.radix.tokens import TOKEN_BYTES, Tokens, pack
from stemma.runtime.errors import InvalidRequest


def hashes_of(tokens: Tokens, scope: Namespace, block_size: int) -> list[bytes]:
    """One hash of 16 bytes for each full block of a prompt. `scope`: the namespace that its cache is asked under."""
    if block_size < 1:
        raise InvalidRequest(f"block_size must be at least 1, got {block_size}", "block_size")
    data, size = bytes(pack(tokens)), TOKEN_BYTES * block_size
    end = len(data) // size * size
    if not isinstance(scope, Segments):
        return _chain(b"", hash_key(scope, False), data, range(0, end, size))
    # A block belongs to the scope in which it ends: one that the boundary runs through is private.
    behind = min(max(scope.public_len, 0) // block_size * size, end)
    hashes = _chain(b"", hash_key(scope.public, False), data, range(0, behind, size))
    key = hash_key(private_scope(scope.public, scope.public_len, scope.salt), True)
    return hashes + _chain(hashes[-1] if hashes else b"", key, data, range(behind, end, size))


def _chain(parent: bytes, key: bytes, data: bytes, starts: range) -> list[bytes]:
    hashes, size = [], starts.step
    for start in starts:
        parent = chain_hash(parent, key, data[start : start + size])
        hashes.append(parent)
    return hashes

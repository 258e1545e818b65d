"""The event hashes of a prompt, without an engine: what a router asks the index for. Nothing here knows a replica."""

from __future__ import annotations

from stemma.radix import Namespace, path_hashes
from stemma.radix.tokens import Tokens
from stemma.runtime.errors import InvalidRequest


def hashes_of(tokens: Tokens, scope: Namespace, block_size: int) -> list[bytes]:
    """One hash of 16 bytes for each full block of a prompt. `scope`: the namespace that its cache is asked under."""
    if block_size < 1:
        raise InvalidRequest(f"block_size must be at least 1, got {block_size}", "block_size")
    return path_hashes(tokens, scope, block_size)

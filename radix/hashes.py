"""The hashes of a text's full blocks, as events tell them, without a cache: for those who keep KV by its hash."""

from collections.abc import Sequence

from stemma.radix.events import chain_hash, hash_key
from stemma.radix.namespaces import Namespace, parts_of
from stemma.radix.node import private_scope
from stemma.radix.tokens import TOKEN_BYTES, Tokens, pack


def path_hashes(tokens: Tokens, namespace: Namespace, block_size: int, known: Sequence[bytes] = ()) -> list[bytes]:
    """One hash for each full block of `tokens`; equal in every process, never equal for two namespaces or salts.

    known: those of the first blocks, which are not computed again. A block in which a salt boundary lies is private.
    """
    data, found = bytes(pack(tokens)), list(known)
    name, boundary = parts_of(namespace)
    public, private, first_private = hash_key(name, False), b"", len(data)
    if boundary is not None:
        private = hash_key(private_scope(name, *boundary), True)
        first_private = TOKEN_BYTES * (boundary.position // block_size * block_size)
    num_bytes = TOKEN_BYTES * block_size
    for start in range(len(found) * num_bytes, len(data) - num_bytes + 1, num_bytes):
        key = public if start < first_private else private
        found.append(chain_hash(found[-1] if found else b"", key, data[start : start + num_bytes]))
    return found

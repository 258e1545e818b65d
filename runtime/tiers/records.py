"""A block's bytes as a record: whoever reads it knows whether it is whole, and the one that was asked for.

    0        8              24           32                   64
    | magic  | SHA-256 / 2  | length     | key                | payload .......... |
                            |<------------- what the digest is of --------------->|

A key is a fingerprint of all that makes KV of use to an engine, and the block's event hash: of its whole text, its
namespace and salt.
"""

from __future__ import annotations

from hashlib import blake2b, sha256
from struct import Struct
from typing import NamedTuple

MAGIC = b"stemmaK1"
DIGEST_BYTES = 16
KEY_BYTES = 32
HEADER = Struct(f"<8s{DIGEST_BYTES}sQ{KEY_BYTES}s")
FINGERPRINT_BYTES = 16


class Head(NamedTuple):
    """What stands before a payload."""

    key: bytes
    digest: bytes
    length: int

    @property
    def num_bytes(self) -> int:
        """Of the whole record."""
        return HEADER.size + self.length


def fingerprint(identity: bytes) -> bytes:
    """Of everything that must be equal for KV to be of use."""
    return blake2b(identity, digest_size=FINGERPRINT_BYTES, person=b"stemma tier").digest()


def key_of(mark: bytes, block_hash: bytes) -> bytes:
    """The key of a block. mark: the fingerprint of the engine's KV."""
    assert len(mark) + len(block_hash) == KEY_BYTES
    return mark + block_hash


def seal(key: bytes, payload: bytes) -> bytes:
    """A payload as a record under this key."""
    return b"".join((HEADER.pack(MAGIC, _digest(key, payload), len(payload), key), payload))


def unseal(key: bytes, record: bytes | memoryview) -> memoryview | None:
    """The payload; None for whatever is no whole record of this key."""
    head = read_head(record)
    if head is None or head.key != key or head.num_bytes != len(record):
        return None
    payload = memoryview(record)[HEADER.size :]
    return payload if _digest(key, payload) == head.digest else None


def read_head(data: bytes | memoryview) -> Head | None:
    """What a record begins with; None where none begins."""
    if len(data) < HEADER.size:
        return None
    magic, digest, length, key = HEADER.unpack_from(data)
    return Head(key, digest, length) if magic == MAGIC else None


def _digest(key: bytes, payload: bytes | memoryview) -> bytes:
    digest = sha256(len(payload).to_bytes(8, "little") + key)
    digest.update(payload)
    return digest.digest()[:DIGEST_BYTES]
